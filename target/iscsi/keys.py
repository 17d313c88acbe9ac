"""Every text key in one table: type, default, range, result function, use, scope (RFC 7143 §12, §13; RFC 7144 §7.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from target.iscsi.text import MAX_SIMPLE_VALUE_BYTES

MAX_24_BITS = (1 << 24) - 1
MAX_NAME_BYTES = 223
"""The longest iSCSI name (RFC 7143 §4.2.7.1)."""


class ValueType(Enum):
    """What the value of a key looks like (RFC 7143 §6.1)."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    LIST = "list of values"
    TEXT = "text"
    NAME = "iSCSI name"
    BINARY = "binary"


class Result(Enum):
    """How the two sides' values become one (RFC 7143 §6.2)."""

    AND = "AND"
    OR = "OR"
    MIN = "min"
    MAX = "max"
    FIRST_COMMON = "first common"
    DECLARED = "declarative"
    OBSOLETE_NO = "obsolete, No"
    OBSOLETE_REJECT = "obsolete, Reject"
    AUTHENTICATION = "authentication"
    QUERY = "query"


class Use(Enum):
    """When a key may be sent (RFC 7143 §13)."""

    INITIAL = "IO"
    LEADING = "LO"
    FULL_FEATURE = "FFPO"
    ALL = "ALL"


class Scope(Enum):
    """What a key's value holds for."""

    SESSION = "SW"
    CONNECTION = "CO"


class Sender(Enum):
    """Who may offer or declare a key."""

    INITIATOR = "initiator"
    TARGET = "target"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key. `default` is the value in effect when nobody names the key."""

    name: str
    type: ValueType
    result: Result
    use: Use
    scope: Scope
    sender: Sender
    clause: str
    default: str = ""
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    any_stage: bool = False
    """May also come in the security stage of a login, and may be repeated there with the same value."""
    irrelevant_in_discovery: bool = False
    max_bytes: int = MAX_SIMPLE_VALUE_BYTES


_B, _I, _T = Sender.BOTH, Sender.INITIATOR, Sender.TARGET
_SW, _CO = Scope.SESSION, Scope.CONNECTION


def _boolean(name: str, result: Result, default: str, clause: str) -> KeySpec:
    return KeySpec(name, ValueType.BOOLEAN, result, Use.LEADING, _SW, _B, clause, default, irrelevant_in_discovery=True)


def _number(name: str, result: Result, default: int, low: int, high: int, clause: str, irrelevant: bool = True) -> KeySpec:
    return KeySpec(
        name, ValueType.NUMBER, result, Use.LEADING, _SW, _B, clause, str(default), low, high,
        irrelevant_in_discovery=irrelevant,
    )  # fmt: skip


def _digest(name: str) -> KeySpec:
    return KeySpec(
        name, ValueType.LIST, Result.FIRST_COMMON, Use.INITIAL, _CO, _B, "RFC 7143 §13.1", "None",
        choices=("CRC32C", "None"),
    )  # fmt: skip


def _declared(
    name: str, kind: ValueType, use: Use, scope: Scope, sender: Sender, clause: str, default: str = "", size: int = 255
) -> KeySpec:
    return KeySpec(name, kind, Result.DECLARED, use, scope, sender, clause, default, any_stage=True, max_bytes=size)


def _security(name: str, kind: ValueType, clause: str, size: int = 255, sender: Sender = _B) -> KeySpec:
    return KeySpec(name, kind, Result.AUTHENTICATION, Use.INITIAL, _CO, sender, clause, max_bytes=size)


def _obsolete(name: str, kind: ValueType, result: Result) -> KeySpec:
    return KeySpec(name, kind, result, Use.INITIAL, _CO, _B, "RFC 7143 §13.25")


TABLE: tuple[KeySpec, ...] = (
    _security("AuthMethod", ValueType.LIST, "RFC 7143 §12.1"),
    _security("CHAP_A", ValueType.LIST, "RFC 7143 §12.1.3"),
    _security("CHAP_I", ValueType.NUMBER, "RFC 7143 §12.1.3"),
    _security("CHAP_C", ValueType.BINARY, "RFC 7143 §12.1.3", 2050),
    _security("CHAP_N", ValueType.TEXT, "RFC 7143 §12.1.3"),
    _security("CHAP_R", ValueType.BINARY, "RFC 7143 §12.1.3", 2050),
    _digest("HeaderDigest"),
    _digest("DataDigest"),
    _number("MaxConnections", Result.MIN, 1, 1, 65535, "RFC 7143 §13.2"),
    KeySpec(
        "SendTargets", ValueType.NAME, Result.QUERY, Use.FULL_FEATURE, _SW, _I, "RFC 7143 §13.3",
        max_bytes=MAX_NAME_BYTES,
    ),
    _declared("TargetName", ValueType.NAME, Use.INITIAL, _SW, _B, "RFC 7143 §13.4", size=MAX_NAME_BYTES),
    _declared("InitiatorName", ValueType.NAME, Use.INITIAL, _SW, _I, "RFC 7143 §13.5", size=MAX_NAME_BYTES),
    _declared("TargetAlias", ValueType.TEXT, Use.ALL, _SW, _T, "RFC 7143 §13.6"),
    _declared("InitiatorAlias", ValueType.TEXT, Use.ALL, _SW, _I, "RFC 7143 §13.7"),
    _declared("TargetAddress", ValueType.TEXT, Use.ALL, _SW, _T, "RFC 7143 §13.8"),
    _declared("TargetPortalGroupTag", ValueType.NUMBER, Use.INITIAL, _SW, _T, "RFC 7143 §13.9"),
    _boolean("InitialR2T", Result.OR, "Yes", "RFC 7143 §13.10"),
    _boolean("ImmediateData", Result.AND, "Yes", "RFC 7143 §13.11"),
    KeySpec(
        "MaxRecvDataSegmentLength", ValueType.NUMBER, Result.DECLARED, Use.ALL, _CO, _B, "RFC 7143 §13.12", "8192",
        512, MAX_24_BITS,
    ),
    _number("MaxBurstLength", Result.MIN, 262144, 512, MAX_24_BITS, "RFC 7143 §13.13"),
    _number("FirstBurstLength", Result.MIN, 65536, 512, MAX_24_BITS, "RFC 7143 §13.14"),
    _number("DefaultTime2Wait", Result.MAX, 2, 0, 3600, "RFC 7143 §13.15", irrelevant=False),
    _number("DefaultTime2Retain", Result.MIN, 20, 0, 3600, "RFC 7143 §13.16", irrelevant=False),
    _number("MaxOutstandingR2T", Result.MIN, 1, 1, 65535, "RFC 7143 §13.17"),
    _boolean("DataPDUInOrder", Result.OR, "Yes", "RFC 7143 §13.18"),
    _boolean("DataSequenceInOrder", Result.OR, "Yes", "RFC 7143 §13.19"),
    _number("ErrorRecoveryLevel", Result.MIN, 0, 0, 2, "RFC 7143 §13.20", irrelevant=False),
    _declared("SessionType", ValueType.TEXT, Use.LEADING, _SW, _I, "RFC 7143 §13.21", "Normal"),
    KeySpec(
        "TaskReporting", ValueType.LIST, Result.FIRST_COMMON, Use.LEADING, _SW, _B, "RFC 7143 §13.23", "RFC3720",
        choices=("RFC3720", "ResponseFence", "FastAbort"), irrelevant_in_discovery=True,
    ),
    _number("iSCSIProtocolLevel", Result.MIN, 1, 0, 31, "RFC 7143 §13.24"),
    _obsolete("IFMarker", ValueType.BOOLEAN, Result.OBSOLETE_NO),
    _obsolete("OFMarker", ValueType.BOOLEAN, Result.OBSOLETE_NO),
    _obsolete("IFMarkInt", ValueType.TEXT, Result.OBSOLETE_REJECT),
    _obsolete("OFMarkInt", ValueType.TEXT, Result.OBSOLETE_REJECT),
)  # fmt: skip
"""All keys but the private ones: X- keys (RFC 7143 §13.22) are answered NotUnderstood like any unknown key."""

KEYS: dict[str, KeySpec] = {spec.name: spec for spec in TABLE}

NUMERIC_RESULTS: dict[Result, Callable[[int, int], int]] = {Result.MIN: min, Result.MAX: max}
BOOLEAN_RESULTS: dict[Result, Callable[[bool, bool], bool]] = {
    Result.AND: lambda a, b: a and b,
    Result.OR: lambda a, b: a or b,
}
