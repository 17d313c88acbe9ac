"""One connection's operational negotiation: offers in, answers out, effective values kept (RFC 7143 §6.2)."""

from collections.abc import Mapping
from typing import Any

from target.iscsi.keys import BOOLEAN_RESULTS, KEYS, NUMERIC_RESULTS, KeySpec, Result, Use, ValueType
from target.iscsi.policy import Limits
from target.iscsi.text import (
    IRRELEVANT,
    NOT_UNDERSTOOD,
    REJECT,
    TextError,
    format_boolean,
    parse_boolean,
    parse_list,
    parse_number,
)

Value = int | bool | str


class NegotiationError(ValueError):
    """An offer that ends the negotiation; the message is one line and never holds the peer's value."""


def our_values(limits: Limits) -> dict[str, Any]:
    """Our side of each negotiated key, by its name."""
    return {
        "HeaderDigest": limits.header_digest,
        "DataDigest": limits.data_digest,
        "MaxConnections": limits.max_connections,
        "InitialR2T": limits.initial_r2t,
        "ImmediateData": limits.immediate_data,
        "MaxBurstLength": limits.max_burst_length,
        "FirstBurstLength": limits.first_burst_length,
        "DefaultTime2Wait": limits.default_time2wait_seconds,
        "DefaultTime2Retain": limits.default_time2retain_seconds,
        "MaxOutstandingR2T": limits.max_outstanding_r2t,
        "DataPDUInOrder": limits.data_pdu_in_order,
        "DataSequenceInOrder": limits.data_sequence_in_order,
        "ErrorRecoveryLevel": limits.error_recovery_level,
        "TaskReporting": limits.task_reporting,
        "iSCSIProtocolLevel": limits.protocol_level,
    }


def parse_value(spec: KeySpec, value: str) -> Value:
    """The value of a boolean or number key, range checked. TextError if it is not one."""
    if spec.type is ValueType.BOOLEAN:
        return parse_boolean(value)
    if spec.type is ValueType.NUMBER:
        number = parse_number(value)
        if not spec.minimum <= number <= spec.maximum:
            raise TextError("out of range")
        return number
    return value


class Negotiation:
    """The operational keys of one connection. Identity and security keys are the login's, not seen here."""

    def __init__(self, limits: Limits, *, leading: bool = True, discovery: bool = False) -> None:
        self._ours = our_values(limits)
        if discovery:
            self._ours["ErrorRecoveryLevel"] = 0    # nothing is kept for a SNACK there
        self._target_mrdsl = limits.max_recv_data_segment_length
        self._leading = leading
        self._discovery = discovery
        self._offered: set[str] = set()
        self._declared = False
        self._values: dict[str, Value] = {spec.name: parse_value(spec, spec.default) for spec in KEYS.values() if spec.default}
        self.target_max_recv_data_segment_length = 8192

    def __getitem__(self, key: str) -> Any:
        """The value in effect now: int, bool or str as the key's type says."""
        return self._values[key]

    def adopt(self, values: Mapping[str, Value]) -> None:
        """Take over values settled elsewhere: a session's, for a connection that joins it."""
        self._values.update(values)

    def answer(self, pairs: Mapping[str, str]) -> list[tuple[str, str]]:
        """Answers to the offers of one text, in its order; declarations get none. NegotiationError ends the login."""
        answers: dict[str, str | None] = {}
        # FirstBurstLength may not exceed MaxBurstLength (§13.14), whichever order they came in.
        for key in sorted(pairs, key=lambda name: name == "FirstBurstLength"):
            answers[key] = self._answer_one(key, pairs[key])
        return [(key, value) for key in pairs if (value := answers[key]) is not None]

    def declarations(self) -> list[tuple[str, str]]:
        """What we declare, once, in the operational stage."""
        if self._declared:
            return []
        self._declared = True
        self.target_max_recv_data_segment_length = self._target_mrdsl
        return [("MaxRecvDataSegmentLength", str(self._target_mrdsl))]

    def unmet(self) -> str | None:
        """The first key whose value in effect we do not allow (a digest we insist on), or None."""
        return next((key for key in ("HeaderDigest", "DataDigest") if self._values[key] not in self._ours[key]), None)

    def _answer_one(self, key: str, value: str) -> str | None:
        spec = KEYS.get(key)
        if spec is None:
            if len(value.encode()) > KEYS["InitiatorAlias"].max_bytes:
                raise NegotiationError("value of an unknown key too long")
            return None if value == NOT_UNDERSTOOD else NOT_UNDERSTOOD
        if key in self._offered:
            raise NegotiationError(f"{key} negotiated twice")
        self._offered.add(key)
        if len(value.encode()) > spec.max_bytes:
            raise NegotiationError(f"value of {key} too long")
        if value == NOT_UNDERSTOOD and spec.result is not Result.DECLARED:
            raise NegotiationError(f"{key}=NotUnderstood to no offer")
        if spec.result is Result.OBSOLETE_NO:
            return "No" if value in ("Yes", "No") else REJECT
        if spec.result is Result.OBSOLETE_REJECT:
            return REJECT
        if spec.use is Use.LEADING and not self._leading:
            return REJECT
        if self._discovery and spec.irrelevant_in_discovery:
            return IRRELEVANT
        return self._settle(spec, value)

    def _settle(self, spec: KeySpec, value: str) -> str | None:
        if spec.result is Result.FIRST_COMMON:
            return self._choose(spec, value)
        try:
            offered = parse_value(spec, value)
        except TextError as error:
            if spec.result is Result.DECLARED:
                raise NegotiationError(f"{spec.name}: {error}") from None
            return REJECT
        if spec.result is Result.DECLARED:
            self._values[spec.name] = offered
            return None
        if spec.result in BOOLEAN_RESULTS:
            agreed = BOOLEAN_RESULTS[spec.result](bool(offered), self._ours[spec.name])
            self._values[spec.name] = agreed
            return format_boolean(agreed)
        if spec.result not in NUMERIC_RESULTS:
            return REJECT
        number = NUMERIC_RESULTS[spec.result](int(offered), self._ours[spec.name])
        if spec.name == "FirstBurstLength":
            number = min(number, int(self._values["MaxBurstLength"]))
        self._values[spec.name] = number
        return str(number)

    def _choose(self, spec: KeySpec, value: str) -> str:
        try:
            offered = parse_list(value)
        except TextError:
            return REJECT
        ours: tuple[str, ...] = self._ours[spec.name]
        agreed = next((item for item in offered if item in spec.choices and item in ours), None)
        if agreed is None:
            return REJECT
        self._values[spec.name] = agreed
        return agreed


def first_burst_length(negotiation: Negotiation) -> int:
    """FirstBurstLength in effect, which a MaxBurstLength settled later or alone may have lowered (RFC 7143 §13.14)."""
    return min(int(negotiation["FirstBurstLength"]), int(negotiation["MaxBurstLength"]))
