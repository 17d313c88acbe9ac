"""The full feature phase of one connection, all but its SCSI I/O: Text, Logout, NOP, Reject ... (RFC 7143 §11)."""

from collections.abc import Callable

from target.iscsi.codes import (
    RESERVED_TAG,
    AsyncEvent,
    LogoutReason,
    LogoutResponseCode,
    Opcode,
    RejectReason,
    TaskResponse,
)
from target.iscsi.events import (
    Closed,
    Event,
    LogoutRequested,
    NopReceived,
    SegmentLengthDeclared,
    SendPdu,
    TaskManagementRequested,
)
from target.iscsi.framing import FramingError, PduReader
from target.iscsi.full_text import TextExchange
from target.iscsi.params import NegotiatedParams, SessionType
from target.iscsi.pdu import (
    AsyncMessage,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Pdu,
    PduError,
    RawPdu,
    Reject,
    ScsiResponse,
    TaskManagementRequest,
    TextRequest,
    decode,
    frame,
    header,
)
from target.iscsi.policy import LoginPolicy
from target.iscsi.session import Session
from target.iscsi.task_management import build_response, refuse

MAX_UNSENT_BYTES = 1 << 20
"""A peer that asks for more than this at once, before it takes any of it, is not looking for targets."""


def _send(pdu: Pdu) -> SendPdu:
    is_ping = isinstance(pdu, NopIn) and pdu.initiator_task_tag == RESERVED_TAG
    return SendPdu(header(pdu), pdu.data, has_status=not is_ping)


class FullFeatureConnection:
    """A connection whose framing and numbering are somebody else's: the data plane's, or DiscoveryConnection's.

    Give it every PDU that is not SCSI I/O; carry out the events in order.
    """

    def __init__(self, policy: LoginPolicy, params: NegotiatedParams, session: Session) -> None:
        self._params = params
        self._session = session
        gatekeeper = policy.gatekeeper
        self._text = TextExchange(params, lambda: list(gatekeeper.targets_for(params.initiator_name)))
        self._logged_out = False

    def receive_pdu(self, raw: RawPdu) -> list[Event]:
        """Answer one PDU. Never raises for what a peer sends."""
        if self._logged_out:
            return []  # nothing after a logout is looked at (RFC 7143 §11.14)
        if not raw.data_digest_ok:
            return [self.reject(raw, RejectReason.DATA_DIGEST_ERROR)]
        try:
            handler = _HANDLERS.get(Opcode(raw.opcode))
        except ValueError:
            handler = None
        if handler is None:
            return [self.reject(raw, RejectReason.COMMAND_NOT_SUPPORTED)]
        if raw.opcode in _TAGGED and raw.bhs[16:20] == RESERVED_TAG.to_bytes(4):
            return [self.reject(raw, RejectReason.INVALID_PDU_FIELD)]
        try:
            return handler(self, raw, decode(raw))
        except PduError:
            return [self.reject(raw, RejectReason.INVALID_PDU_FIELD)]

    def task_management_response(
        self, request: TaskManagementRequest, response: TaskResponse, additional: bytes = bytes(3)
    ) -> SendPdu:
        """The answer to a TaskManagementRequested event."""
        return _send(build_response(request, response, additional))

    def scsi_status(self, initiator_task_tag: int, status: int) -> SendPdu:
        """The end of a command that the data plane has forgotten."""
        return _send(ScsiResponse(initiator_task_tag=initiator_task_tag, status=status))

    def reject(self, raw: RawPdu, reason: RejectReason) -> SendPdu:
        """A Reject PDU for a PDU that somebody else found wrong."""
        return _send(Reject(reason=reason, data=raw.bhs))

    def async_message(
        self,
        event: AsyncEvent,
        *,
        lun: bytes = bytes(8),
        sense: bytes = b"",
        parameters: tuple[int, int, int] = (0, 0, 0),
    ) -> SendPdu:
        """An Asynchronous Message: SCSI event (with `sense`), request to log out, or notice of a drop.

        Parameters are seconds or CIDs, as RFC 7143 §11.9.1 has them for the event.
        """
        data = len(sense).to_bytes(2) + sense if event is AsyncEvent.SCSI_EVENT else b""
        first, second, third = parameters
        return _send(AsyncMessage(lun=lun, async_event=event, parameter1=first, parameter2=second, parameter3=third, data=data))

    def ping(self, target_transfer_tag: int) -> SendPdu:
        """A NOP-In that asks for an answer; NopReceived comes when it does."""
        return _send(NopIn(target_transfer_tag=target_transfer_tag))

    def _nop_out(self, raw: RawPdu, pdu: Pdu) -> list[Event]:
        assert isinstance(pdu, NopOut)
        if pdu.initiator_task_tag == RESERVED_TAG:
            if not pdu.immediate:
                return [self.reject(raw, RejectReason.PROTOCOL_ERROR)]
            return [] if pdu.target_transfer_tag == RESERVED_TAG else [NopReceived(pdu.target_transfer_tag)]
        echo = pdu.data[: self._text.segment_bytes]
        return [_send(NopIn(lun=pdu.lun, initiator_task_tag=pdu.initiator_task_tag, data=echo))]

    def _text_request(self, raw: RawPdu, pdu: Pdu) -> list[Event]:
        assert isinstance(pdu, TextRequest)
        before = self._text.segment_bytes
        answer = self._text.receive(pdu)
        reply = self.reject(raw, answer) if isinstance(answer, RejectReason) else _send(answer)
        now = self._text.segment_bytes
        return [reply] if now == before else [SegmentLengthDeclared(now), reply]

    def _task_management(self, raw: RawPdu, pdu: Pdu) -> list[Event]:
        assert isinstance(pdu, TaskManagementRequest)
        if self._params.session_type is SessionType.DISCOVERY:
            return [self.reject(raw, RejectReason.COMMAND_NOT_SUPPORTED)]
        response = refuse(pdu, self._params.protocol_level, self._params.error_recovery_level)
        return [TaskManagementRequested(pdu) if response is None else self.task_management_response(pdu, response)]

    def _snack(self, raw: RawPdu, pdu: Pdu) -> list[Event]:
        return [self.reject(raw, RejectReason.SNACK_REJECT)]

    def _logout(self, raw: RawPdu, pdu: Pdu) -> list[Event]:
        assert isinstance(pdu, LogoutRequest)
        try:
            reason = LogoutReason(pdu.reason)
        except ValueError:
            return [self.reject(raw, RejectReason.INVALID_PDU_FIELD)]
        code = self._logout_code(reason, pdu.cid)
        params = self._params
        response = _send(
            LogoutResponse(
                response=code,
                initiator_task_tag=pdu.initiator_task_tag,
                time2wait=params.default_time2wait_seconds,
                time2retain=params.default_time2retain_seconds,
            )
        )
        if code is not LogoutResponseCode.SUCCESS:
            return [response]
        closes = reason is LogoutReason.CLOSE_SESSION or pdu.cid == params.cid
        self._logged_out = closes
        return [LogoutRequested(reason, pdu.cid, response, closes)]

    def _logout_code(self, reason: LogoutReason, cid: int) -> LogoutResponseCode:
        if reason is LogoutReason.CLOSE_SESSION:
            return LogoutResponseCode.SUCCESS
        if reason is LogoutReason.REMOVE_CONNECTION_FOR_RECOVERY:
            return LogoutResponseCode.RECOVERY_NOT_SUPPORTED
        known = cid == self._params.cid or cid in self._session.cids
        return LogoutResponseCode.SUCCESS if known else LogoutResponseCode.CID_NOT_FOUND


_HANDLERS: dict[Opcode, Callable[[FullFeatureConnection, RawPdu, Pdu], list[Event]]] = {
    Opcode.NOP_OUT: FullFeatureConnection._nop_out,
    Opcode.TEXT_REQUEST: FullFeatureConnection._text_request,
    Opcode.TASK_MANAGEMENT_REQUEST: FullFeatureConnection._task_management,
    Opcode.LOGOUT_REQUEST: FullFeatureConnection._logout,
    Opcode.SNACK_REQUEST: FullFeatureConnection._snack,
}
"""What is answered here; anything else gets a Reject."""

_TAGGED = (Opcode.TEXT_REQUEST, Opcode.TASK_MANAGEMENT_REQUEST, Opcode.LOGOUT_REQUEST)
"""Requests whose answer nobody could tell apart without an Initiator Task Tag (RFC 7143 §11.2.1.8)."""


class DiscoveryConnection:
    """A discovery session's connection after login, framing and numbering included: same use as LoginConnection.

    Give `leftover` of LoginComplete to the first `receive`.
    """

    def __init__(self, policy: LoginPolicy, params: NegotiatedParams, session: Session, now: float) -> None:
        self._policy = policy
        self._params = params
        self._full = FullFeatureConnection(policy, params, session)
        self._reader = PduReader(
            max_data_segment_bytes=params.target_max_recv_data_segment_length,
            header_digest=params.header_digest,
            data_digest=params.data_digest,
            crc=policy.crc,
        )
        self._out = bytearray()
        self._exp_cmd_sn = params.exp_cmd_sn
        self._stat_sn = params.stat_sn
        self._end_of_life = now + policy.discovery_lifetime_seconds
        self._deadline = now + policy.discovery_idle_seconds
        self._over = False

    @property
    def deadline(self) -> float:
        """When `timeout` is due: an idle discovery session is closed."""
        return min(self._deadline, self._end_of_life)

    def receive(self, data: bytes, now: float) -> list[Closed]:
        """Take bytes from the peer (b"" is end of file); Closed (after `data_to_send`) ends the connection."""
        if self._over:
            return []
        if not data:
            return self._end("peer closed the discovery session")
        self._reader.feed(data)
        try:
            while not self._over and (raw := self._reader.next_pdu()) is not None:
                self._deadline = now + self._policy.discovery_idle_seconds
                reason = self._handle(raw)
                if reason:
                    return self._end(reason)
        except FramingError as error:
            return self._end(str(error))
        return []

    def timeout(self, now: float) -> list[Closed]:
        """Say that time has passed."""
        return self._end("discovery session idle") if now >= self.deadline and not self._over else []

    def data_to_send(self) -> bytes:
        """What must go to the peer now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def _end(self, reason: str) -> list[Closed]:
        self._over = True
        self._reader.take_rest()
        return [Closed(reason)]

    def _handle(self, raw: RawPdu) -> str:
        """Answer one PDU; a reason to close, or nothing."""
        if raw.opcode == Opcode.LOGIN_REQUEST:
            return "login request after login"
        if not raw.immediate and raw.opcode not in (Opcode.DATA_OUT, Opcode.SNACK_REQUEST):
            cmd_sn = int.from_bytes(raw.bhs[24:28])
            if cmd_sn != self._exp_cmd_sn:
                return "CmdSN out of order on the only connection"
            self._exp_cmd_sn = (cmd_sn + 1) & 0xFFFFFFFF
        for event in self._full.receive_pdu(raw):
            if isinstance(event, SendPdu):
                self._send(event)
            elif isinstance(event, LogoutRequested):
                self._send(event.response)
                return "logged out"
        return "asks too much at once" if len(self._out) > MAX_UNSENT_BYTES else ""

    def _send(self, pdu: SendPdu) -> None:
        bhs = bytearray(pdu.bhs)
        bhs[24:28] = self._stat_sn.to_bytes(4)
        bhs[28:32] = self._exp_cmd_sn.to_bytes(4)
        bhs[32:36] = (self._exp_cmd_sn + self._policy.limits.command_window - 1 & 0xFFFFFFFF).to_bytes(4)
        if pdu.has_status:
            self._stat_sn = (self._stat_sn + 1) & 0xFFFFFFFF
        self._out += frame(
            bytes(bhs),
            pdu.data,
            header_digest=self._params.header_digest,
            data_digest=self._params.data_digest,
            crc=self._policy.crc,
        )
