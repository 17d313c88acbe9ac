"""SendTargets: what sessions are told about targets and their addresses (RFC 7143 §4.3, §13.3, appendix C)."""

from collections.abc import Iterable, Sequence

from target.iscsi.names import normalize_name
from target.iscsi.params import SessionType
from target.iscsi.policy import PortalAddress, TargetRecord
from target.iscsi.text import REJECT

ALL = "All"


def format_address(address: PortalAddress) -> str:
    """A TargetAddress value: `host:port,tag`, an IPv6 address in brackets (RFC 7143 §13.8)."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port},{address.portal_group_tag}"


def describe(records: Iterable[TargetRecord]) -> list[tuple[str, str]]:
    """The pairs that tell of these targets: each name followed by its addresses."""
    pairs = []
    for record in records:
        pairs.append(("TargetName", record.name))
        pairs += [("TargetAddress", format_address(address)) for address in record.addresses]
    return pairs


def answer_send_targets(
    value: str, session_type: SessionType, own_target: str, records: Sequence[TargetRecord]
) -> list[tuple[str, str]]:
    """The answer to SendTargets=value from the targets this initiator may see. TextError for what is no value of the key.

    In a normal session no other target than its own is ever shown: nothing means it, and so does "All", which appendix C
    keeps for discovery sessions but initiators send in normal ones too. In a discovery session "All" means all, a name that
    target. What is not there or may not be seen gives an empty answer (RFC 7143 appendix C).
    """
    if session_type is SessionType.NORMAL and value in ("", ALL):
        return describe(record for record in records if _same(record.name, own_target))
    if value == ALL:
        return describe(records)
    if not value:
        return [("SendTargets", REJECT)]
    wanted = normalize_name(value)
    if session_type is SessionType.NORMAL and wanted != own_target:
        return []
    return describe(record for record in records if _same(record.name, wanted))


def _same(configured: str, normalized: str) -> bool:
    return normalize_name(configured) == normalized
