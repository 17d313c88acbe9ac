"""The full feature phase of one connection, all but its SCSI I/O: Text, Logout, NOP, Reject ... (RFC 7143 §11)."""

from target.iscsi.codes import AsyncEvent, RejectReason, TaskResponse
from target.iscsi.events import Closed, Event, SendPdu
from target.iscsi.params import NegotiatedParams
from target.iscsi.pdu import RawPdu, TaskManagementRequest
from target.iscsi.policy import LoginPolicy
from target.iscsi.session import Session


class FullFeatureConnection:
    """A connection of a normal session whose framing and numbering are somebody else's (the data plane's).

    Give it every PDU that is not SCSI I/O; carry out the events in order.
    """

    def __init__(self, policy: LoginPolicy, params: NegotiatedParams, session: Session) -> None:
        self._policy = policy
        self._params = params
        self._session = session

    def receive_pdu(self, raw: RawPdu) -> list[Event]:
        """Answer one PDU. Never raises for what a peer sends."""
        raise NotImplementedError

    def task_management_response(self, request: TaskManagementRequest, response: TaskResponse) -> SendPdu:
        """The answer to a TaskManagementRequested event."""
        raise NotImplementedError

    def reject(self, raw: RawPdu, reason: RejectReason) -> SendPdu:
        """A Reject PDU for a PDU that somebody else found wrong."""
        raise NotImplementedError

    def async_message(
        self,
        event: AsyncEvent,
        *,
        lun: bytes = bytes(8),
        sense: bytes = b"",
        parameters: tuple[int, int, int] = (0, 0, 0),
    ) -> SendPdu:
        """An Asynchronous Message: SCSI event (with `sense`), request to log out, or notice of a drop."""
        raise NotImplementedError

    def ping(self, target_transfer_tag: int) -> SendPdu:
        """A NOP-In that asks for an answer; NopReceived comes when it does."""
        raise NotImplementedError


class DiscoveryConnection:
    """A discovery session's connection after login, framing and numbering included: same use as LoginConnection.

    Give `leftover` of LoginComplete to the first `receive`.
    """

    def __init__(self, policy: LoginPolicy, params: NegotiatedParams, session: Session, now: float) -> None:
        self._out = bytearray()
        self._deadline = now

    @property
    def deadline(self) -> float:
        """When `timeout` is due: an idle discovery session is closed."""
        return self._deadline

    def receive(self, data: bytes, now: float) -> list[Closed]:
        """Take bytes from the peer; Closed (after `data_to_send`) ends the connection."""
        raise NotImplementedError

    def timeout(self, now: float) -> list[Closed]:
        """Say that time has passed."""
        return [Closed("discovery session idle")] if now >= self._deadline else []

    def data_to_send(self) -> bytes:
        """What must go to the peer now."""
        out = bytes(self._out)
        self._out.clear()
        return out
