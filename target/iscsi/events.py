"""What the sans-I/O connections tell their owner: each event is a fact or one thing the owner must do."""

from dataclasses import dataclass

from target.iscsi.codes import LoginStatus, LogoutReason
from target.iscsi.params import NegotiatedParams
from target.iscsi.pdu import TaskManagementRequest
from target.iscsi.session import Admission


@dataclass(frozen=True, slots=True)
class LoginComplete:
    """The login succeeded. In this order: end what `admission` replaces, send `data_to_send()`, serve the connection.

    `leftover` is what the peer sent beyond its last login PDU: the first bytes of the full feature phase.
    """

    params: NegotiatedParams
    admission: Admission
    leftover: bytes


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The login was refused: send `data_to_send()`, then close. `reason` is for logs: who and why, one line, free of secrets."""

    status: LoginStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing can be said to this peer any more (lost framing, timeout): close without waiting."""

    reason: str


@dataclass(frozen=True, slots=True)
class SendPdu:
    """Send this PDU. StatSN, ExpCmdSN and MaxCmdSN (bytes 24..35) are left zero: the owner of the numbers stamps them.

    `has_status` is False for the PDUs whose StatSN does not advance (a NOP-In that the target began).
    """

    bhs: bytes
    data: bytes
    has_status: bool = True


@dataclass(frozen=True, slots=True)
class LogoutRequested:
    """The initiator logs out. End what `reason` and `cid` name, send `response`, then close if `closes` is set."""

    reason: LogoutReason
    cid: int
    response: SendPdu
    closes: bool


@dataclass(frozen=True, slots=True)
class TaskManagementRequested:
    """A task management function to perform; answer with `FullFeatureConnection.task_management_response`."""

    request: TaskManagementRequest


@dataclass(frozen=True, slots=True)
class SegmentLengthDeclared:
    """The initiator takes data segments of up to `length_bytes` now (RFC 7143 §13.12): nothing longer after what follows."""

    length_bytes: int


@dataclass(frozen=True, slots=True)
class NopReceived:
    """A NOP-Out answered our ping with this Target Transfer Tag: the peer lives."""

    target_transfer_tag: int


Event = (
    LoginComplete | LoginFailed | Closed | SendPdu | LogoutRequested | TaskManagementRequested
    | SegmentLengthDeclared | NopReceived
)
