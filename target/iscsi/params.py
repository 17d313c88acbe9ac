"""What a finished login settled: the parameters the data plane and the server act on (RFC 7143 §13)."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class SessionType(StrEnum):
    """RFC 7143 §13.21."""

    NORMAL = "Normal"
    DISCOVERY = "Discovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class NegotiatedParams:
    """Effective values after login. Lengths are bytes, times are seconds, sequence numbers are 32 bits.

    `initiator_max_recv_data_segment_length` bounds what we send, `target_max_recv_data_segment_length` what we get.
    """

    session_type: SessionType
    initiator_name: str
    initiator_alias: str
    target_name: str
    """Empty for a discovery session that named no target."""
    portal_group_tag: int
    isid: bytes
    tsih: int
    cid: int
    exp_cmd_sn: int
    """The next CmdSN due: CmdSN of the login (which was immediate) for a leading connection."""
    stat_sn: int
    """StatSN of the first response after login."""
    command_window: int = 128
    """Commands that may be under way: MaxCmdSN - ExpCmdSN + 1."""
    header_digest: bool = False
    data_digest: bool = False
    initiator_max_recv_data_segment_length: int = 8192
    target_max_recv_data_segment_length: int = 8192
    max_burst_length: int = 262144
    first_burst_length: int = 65536
    initial_r2t: bool = True
    immediate_data: bool = True
    max_outstanding_r2t: int = 1
    max_connections: int = 1
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    error_recovery_level: int = 0
    default_time2wait_seconds: int = 2
    default_time2retain_seconds: int = 20
    task_reporting: str = "RFC3720"
    protocol_level: int = 1
    authenticated: bool = False
    """True when the initiator proved itself with CHAP."""

    def as_dict(self) -> dict[str, Any]:
        """Every field by its name, as the data plane takes them."""
        return asdict(self)
