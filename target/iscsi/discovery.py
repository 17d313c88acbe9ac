"""SendTargets: what sessions are told about targets and their addresses (RFC 7143 §4.3, §13.3, appendix C)."""

from collections.abc import Iterable, Sequence

from target.iscsi.names import normalize_name
from target.iscsi.params import SessionType
from target.iscsi.policy import PortalAddress, TargetRecord
from target.iscsi.text import REJECT, TextError

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
    """The answer to SendTargets=value from the targets this initiator may see.

    "All" is for discovery sessions only, nothing means the session's own target, a name that target. In a normal session no
    other target than its own is shown. What is not there or may not be seen gives an empty answer (RFC 7143 appendix C).
    """
    if value == ALL:
        return describe(records) if session_type is SessionType.DISCOVERY else [("SendTargets", REJECT)]
    if not value:
        if session_type is SessionType.DISCOVERY:
            return [("SendTargets", REJECT)]
        return describe(record for record in records if _same(record.name, own_target))
    try:
        wanted = normalize_name(value)
    except TextError:
        return [("SendTargets", REJECT)]
    if session_type is SessionType.NORMAL and wanted != own_target:
        return []
    return describe(record for record in records if _same(record.name, wanted))


def _same(configured: str, normalized: str) -> bool:
    return configured.lower() == normalized
