"""The login phase of one connection as a state machine without I/O (RFC 7143 §6.3, §11.12, §11.13).

One method handles each stage (`_HANDLERS`), one table says which stage may follow which (`_TRANSITIONS`). What a peer
does wrong becomes a `_Refusal` with the login status it calls for, or, before any login request, a silent close.
"""

from collections.abc import Callable

from target.iscsi.chap import ChapError, ChapExchange
from target.iscsi.codes import BHS_SIZE_BYTES, LoginStatus, Opcode, Stage
from target.iscsi.events import Closed, LoginComplete, LoginFailed
from target.iscsi.framing import FramingError, PduReader
from target.iscsi.keys import KEYS, Result, Scope, Sender
from target.iscsi.names import normalize_name
from target.iscsi.negotiation import Negotiation, NegotiationError, first_burst_length
from target.iscsi.params import NegotiatedParams, SessionType
from target.iscsi.pdu import LoginRequest, LoginResponse, PduError, RawPdu, decode_as, encode
from target.iscsi.policy import Credentials, LoginPolicy, Redirect, TargetInfo
from target.iscsi.session import SessionIdentity
from target.iscsi.text import (
    MAX_TEXT_BYTES,
    NOT_UNDERSTOOD,
    TextCollector,
    TextError,
    build_pairs,
    parse_list,
    parse_pairs,
)

LOGIN_SEGMENT_BYTES = 8192
"""MaxRecvDataSegmentLength of both sides during login (RFC 7143 §13.12)."""

_TRANSITIONS = {
    (Stage.SECURITY, Stage.OPERATIONAL),
    (Stage.SECURITY, Stage.FULL_FEATURE),
    (Stage.OPERATIONAL, Stage.FULL_FEATURE),
}

PEER_CLOSED = "the peer closed the connection during login"

MAX_LOGGED_CHARACTERS = 223
"""Of what a peer sent and is no name."""

_TARGET_REFUSALS = {
    LoginStatus.NOT_FOUND: "there is no target {}",
    LoginStatus.AUTHORIZATION_FAILURE: "it may not log in: it belongs to no host that may use {}",
}

_SESSION_REFUSALS = {
    LoginStatus.OUT_OF_RESOURCES: "it has, or all have, as many sessions as there may be",
    LoginStatus.TOO_MANY_CONNECTIONS: "its session has as many connections as it may have",
    LoginStatus.SESSION_DOES_NOT_EXIST: "it has no session of this TSIH",
    LoginStatus.CANNOT_INCLUDE_IN_SESSION: "a discovery session has one connection",
}

_IDENTITY_KEYS = ("InitiatorName", "InitiatorAlias", "TargetName", "SessionType")

Pairs = list[tuple[str, str]]


class _Refusal(Exception):
    """Ends the login with a status; `reason` is for logs."""

    def __init__(self, status: LoginStatus, reason: str, address: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.address = address


def _error(reason: str) -> _Refusal:
    return _Refusal(LoginStatus.INITIATOR_ERROR, reason)


def _normalized(key: str, keys: dict[str, str]) -> str:
    """A name that the initiator declared, in its normal form. It stands in the reason escaped: it goes to logs."""
    try:
        return normalize_name(keys[key])
    except TextError as error:
        raise _error(f"{key} {keys[key][:MAX_LOGGED_CHARACTERS]!a}: {error}") from None


class LoginConnection:
    """Feed it what the socket gives, send what it gives back, and call `timeout` when `deadline` passes.

    Once an event came out, the login is over and only `data_to_send` may still be called.
    """

    def __init__(self, policy: LoginPolicy, now: float) -> None:
        self._policy = policy
        self._deadline = now + policy.login_timeout_seconds
        self._reader = PduReader(max_data_segment_bytes=LOGIN_SEGMENT_BYTES)
        self._collector = TextCollector()
        self._out = bytearray()
        self._over = False
        self._pdus = 0
        self._bytes = 0
        self._stat_sn = 0
        self._first: LoginRequest | None = None
        self._stage = Stage.SECURITY
        self._greeted = False
        self._identity_keys: dict[str, str] = {}
        self._session_type = SessionType.NORMAL
        self._identity = SessionIdentity("", b"", "", 0)
        self._target = TargetInfo("")
        self._credentials: Credentials | None = None
        self._auth_method = ""
        self._chap: ChapExchange | None = None
        self._negotiation = Negotiation(policy.limits)
        self._pending = b""

    @property
    def deadline(self) -> float:
        """When `timeout` is due, on the clock of `now`."""
        return self._deadline

    @property
    def initiator_name(self) -> str:
        """Who says to log in; empty until it did. Not proven before LoginComplete."""
        return self._identity.initiator_name

    def receive(self, data: bytes, now: float) -> list[LoginComplete | LoginFailed | Closed]:
        """Take bytes from the peer (b"" is end of file); at most one event comes back."""
        if self._over:
            return []
        if not data:
            return self._end(Closed(PEER_CLOSED))
        if now >= self._deadline:
            return self.timeout(now)
        self._reader.feed(data)
        while not self._over:
            start = self._reader.peek_header()
            if not start:
                break
            if start[0] & 0x3F != Opcode.LOGIN_REQUEST and self._first is None:
                return self._end(Closed("first PDU is not a login request"))
            try:
                self._check_opcode(start)
                pdu = self._reader.next_pdu()
                if pdu is None:
                    break
                complete = self._handle(pdu)
            except FramingError as error:
                return self._refuse(start, _error(str(error)))
            except _Refusal as refusal:
                return self._refuse(start, refusal)
            if complete is not None:
                return self._end(complete)
        return []

    def timeout(self, now: float) -> list[LoginComplete | LoginFailed | Closed]:
        """Say that time has passed; Closed comes back when it was too much."""
        if self._over or now < self._deadline:
            return []
        return self._end(Closed("login took too long"))

    def data_to_send(self) -> bytes:
        """What must go to the peer now; empty when nothing is due."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def _end(self, event: LoginComplete | LoginFailed | Closed) -> list[LoginComplete | LoginFailed | Closed]:
        self._over = True
        self._reader.take_rest()
        return [event]

    def _refuse(self, start: bytes, refusal: _Refusal) -> list[LoginComplete | LoginFailed | Closed]:
        bhs = start.ljust(BHS_SIZE_BYTES, b"\0")
        same = self._first
        response = LoginResponse(
            isid=same.isid if same else bhs[8:14],
            tsih=same.tsih if same else int.from_bytes(bhs[14:16]),
            initiator_task_tag=int.from_bytes(bhs[16:20]),
            stat_sn=self._stat_sn,
            status=refusal.status,
            data=build_pairs([("TargetAddress", refusal.address)]) if refusal.address else b"",
        )
        self._out += encode(response)
        who = f"{self.initiator_name}: " if self.initiator_name else ""
        if who and self._session_type is SessionType.DISCOVERY:
            who += "discovery: "
        return self._end(LoginFailed(refusal.status, who + refusal.reason))

    def _check_opcode(self, start: bytes) -> None:
        if start[0] & 0x3F != Opcode.LOGIN_REQUEST:
            raise _Refusal(LoginStatus.INVALID_DURING_LOGIN, "not a login request during login")

    def _handle(self, raw: RawPdu) -> LoginComplete | None:
        """One login request: check its header, gather its text, answer it."""
        self._pdus += 1
        self._bytes += len(raw.data)
        if self._pdus > self._policy.max_login_pdus or self._bytes > self._policy.max_login_bytes:
            raise _error("login takes too many PDUs or bytes")
        try:
            request = decode_as(LoginRequest, raw)
        except PduError as error:
            raise _error(str(error)) from None
        self._check_header(request)
        if self._pending:
            if request.data or request.continues:
                raise _error("text where an empty request was due")
            return self._answer(request, [])
        try:
            text = self._collector.add(request.data, request.continues)
            if text is None:
                self._send(request, b"", transit=False)
                return None
            pairs = parse_pairs(text)
        except TextError as error:
            raise _error(str(error)) from None
        return self._answer(request, self._answers(pairs, request.transit))

    def _check_header(self, request: LoginRequest) -> None:
        if request.version_min > 0:
            raise _Refusal(LoginStatus.UNSUPPORTED_VERSION, "no common protocol version")
        if not request.immediate:
            raise _error("login request not immediate")
        if request.ahs:
            raise _error("additional header segment in a login request")
        if request.transit and request.continues:
            raise _error("T and C bits together")
        if self._first is None:
            if request.current_stage not in (Stage.SECURITY, Stage.OPERATIONAL):
                raise _error("login begins in no stage")
            self._first = request
            self._stage = Stage(request.current_stage)
        first = self._first
        if (request.isid, request.tsih, request.cid) != (first.isid, first.tsih, first.cid):
            raise _error("ISID, TSIH or CID changed during login")
        if request.current_stage != self._stage:
            raise _error("wrong current stage")
        if request.transit and (self._stage, request.next_stage) not in _TRANSITIONS:
            raise _error("stage that may not follow")

    def _answers(self, pairs: dict[str, str], transit: bool) -> Pairs:
        """What one whole text is answered with. The first one also tells who is there and what for."""
        identity = {key: pairs.pop(key) for key in _IDENTITY_KEYS if key in pairs}
        self._declare_identity(identity)
        greeting: Pairs = []
        if not self._greeted:
            greeting = self._greet()
        for key in pairs:
            spec = KEYS.get(key)
            if spec is not None and spec.sender is Sender.TARGET:
                raise _error(f"{key} from an initiator")
        return greeting + _HANDLERS[self._stage](self, pairs, transit)

    def _declare_identity(self, keys: dict[str, str]) -> None:
        """Keep what is declared; the same again is harmless (some initiators do it in each stage), a change is not."""
        for key, value in keys.items():
            if len(value.encode()) > KEYS[key].max_bytes:
                raise _error(f"value of {key} too long")
            if self._greeted and self._identity_keys.get(key) != value:
                raise _error(f"{key} declared late or changed")
            self._identity_keys[key] = value

    def _greet(self) -> Pairs:
        """Judge the first text: who, to what, may it, must it authenticate; and what the first response declares."""
        keys = self._identity_keys
        assert self._first is not None
        if "InitiatorName" not in keys:
            raise _Refusal(LoginStatus.MISSING_PARAMETER, "it says no InitiatorName")
        try:
            self._session_type = SessionType(keys.get("SessionType", SessionType.NORMAL))
        except ValueError:
            raise _Refusal(LoginStatus.SESSION_TYPE_NOT_SUPPORTED, "unknown SessionType") from None
        normal = self._session_type is SessionType.NORMAL
        if normal and "TargetName" not in keys:
            raise _Refusal(LoginStatus.MISSING_PARAMETER, "no TargetName for a normal session")
        initiator = _normalized("InitiatorName", keys)
        wanted = _normalized("TargetName", keys) if normal else ""
        self._identity = SessionIdentity(initiator, self._first.isid, wanted, 0)
        self._target = self._find_target(initiator, wanted)
        self._identity = SessionIdentity(initiator, self._first.isid, wanted, self._target.portal_group_tag)
        self._credentials = self._policy.gatekeeper.credentials_for(initiator, self._session_type)
        if self._credentials is not None and self._stage is not Stage.SECURITY:
            raise _Refusal(LoginStatus.AUTHENTICATION_FAILURE, "its host has a CHAP secret, and it does not authenticate")
        tsih, cid = self._first.tsih, self._first.cid
        status = self._policy.registry.check(self._identity, self._session_type, tsih, cid)
        if status is not LoginStatus.SUCCESS:
            raise _Refusal(status, _SESSION_REFUSALS.get(status, "session refused"))
        self._negotiation = Negotiation(self._policy.limits, leading=tsih == 0, discovery=not normal)
        self._greeted = True
        if not normal:
            return []
        greeting = [("TargetPortalGroupTag", str(self._target.portal_group_tag))]
        return [("TargetAlias", self._target.alias), *greeting] if self._target.alias else greeting

    def _find_target(self, initiator: str, wanted: str) -> TargetInfo:
        gatekeeper = self._policy.gatekeeper
        if not wanted:
            return TargetInfo("", gatekeeper.discovery_portal_group_tag())
        found = gatekeeper.find_target(initiator, wanted)
        if isinstance(found, Redirect):
            moved = LoginStatus.TARGET_MOVED_PERMANENTLY if found.permanent else LoginStatus.TARGET_MOVED_TEMPORARILY
            raise _Refusal(moved, f"sent to {found.address}", found.address)
        if isinstance(found, LoginStatus):
            raise _Refusal(found, _TARGET_REFUSALS.get(found, "target {} refused").format(wanted))
        return found

    def _security(self, pairs: dict[str, str], transit: bool) -> Pairs:
        """Security stage: AuthMethod first, then what the method exchanges, nothing else (RFC 7143 §6.3.2, §12)."""
        answers: Pairs = []
        method: dict[str, str] = {}
        for key, value in pairs.items():
            spec = KEYS.get(key)
            if spec is None:
                if value != NOT_UNDERSTOOD:
                    answers.append((key, NOT_UNDERSTOOD))
            elif spec.result is not Result.AUTHENTICATION:
                raise _error(f"{key} in the security stage")
            elif len(value.encode()) > spec.max_bytes:
                raise _error(f"value of {key} too long")
            elif key != "AuthMethod":
                method[key] = value
        if "AuthMethod" in pairs:
            if method:
                raise _error("CHAP keys along with AuthMethod")
            answers.append(("AuthMethod", self._choose_method(pairs["AuthMethod"])))
        elif method:
            if self._chap is None:
                raise _error("CHAP keys without AuthMethod=CHAP")
            try:
                answers += self._chap.answer(method)
            except ChapError as error:
                raise _Refusal(LoginStatus.AUTHENTICATION_FAILURE, str(error)) from None
        elif transit and not self._may_leave_security():
            raise _Refusal(LoginStatus.AUTHENTICATION_FAILURE, "login goes on without the authentication it needs")
        return answers

    def _choose_method(self, value: str) -> str:
        if self._auth_method:
            raise _error("AuthMethod twice")
        try:
            offered = parse_list(value)
        except TextError as error:
            raise _error(str(error)) from None
        self._auth_method = "None" if self._credentials is None else "CHAP"
        if self._auth_method not in offered:
            raise _Refusal(LoginStatus.AUTHENTICATION_FAILURE, f"AuthMethod={self._auth_method} is needed and not offered" + (
                "" if self._credentials is None else ": its host has a CHAP secret"))
        if self._credentials is not None:
            self._chap = ChapExchange(self._credentials, self._policy.chap_algorithms)
        return self._auth_method

    def _may_leave_security(self) -> bool:
        return self._credentials is None or (self._chap is not None and self._chap.done)

    def _operational(self, pairs: dict[str, str], transit: bool) -> Pairs:
        """Operational stage: every other key, and our own declarations once (RFC 7143 §6.3.3)."""
        for key in pairs:
            spec = KEYS.get(key)
            if spec is not None and spec.result is Result.AUTHENTICATION:
                raise _error(f"{key} in the operational stage")
        try:
            return self._negotiation.answer(pairs) + self._negotiation.declarations()
        except NegotiationError as error:
            raise _error(str(error)) from None

    def _answer(self, request: LoginRequest, answers: Pairs) -> LoginComplete | None:
        """Send answers, 8 KiB at a time, and change the stage when both sides are ready."""
        text = self._pending + build_pairs(answers)
        if len(text) > MAX_TEXT_BYTES:
            raise _error("answers take too much text")
        part, self._pending = text[:LOGIN_SEGMENT_BYTES], text[LOGIN_SEGMENT_BYTES:]
        ready = self._stage is not Stage.SECURITY or self._may_leave_security()
        if self._pending or not request.transit or not ready:
            self._send(request, part, transit=False)
            return None
        if request.next_stage == Stage.FULL_FEATURE:
            return self._complete(request, part)
        self._send(request, part, transit=True)
        self._stage = Stage(request.next_stage)
        return None

    def _send(self, request: LoginRequest, text: bytes, *, transit: bool, tsih: int | None = None) -> None:
        exp_cmd_sn, max_cmd_sn = self._command_numbers(request, last=tsih is not None)
        response = LoginResponse(
            transit=transit,
            continues=bool(self._pending),
            current_stage=self._stage,
            next_stage=request.next_stage if transit else 0,
            isid=request.isid,
            tsih=request.tsih if tsih is None else tsih,
            initiator_task_tag=request.initiator_task_tag,
            stat_sn=self._stat_sn,
            exp_cmd_sn=exp_cmd_sn,
            max_cmd_sn=max_cmd_sn,
            status=LoginStatus.SUCCESS,
            data=text,
        )
        self._stat_sn += 1
        self._out += encode(response)

    def _command_numbers(self, request: LoginRequest, *, last: bool) -> tuple[int, int]:
        """ExpCmdSN and MaxCmdSN: what the session has, if this connection joins one, else they begin with this login."""
        session = self._policy.registry.find(request.tsih) if self._greeted and request.tsih else None
        if session is not None and session.numbers is not None:
            return session.numbers()
        window = self._policy.limits.command_window if last else 1
        return request.cmd_sn, (request.cmd_sn + window - 1) & 0xFFFFFFFF

    def _complete(self, request: LoginRequest, text: bytes) -> LoginComplete:
        """Enter the full feature phase: only now may the login change anything beyond this connection."""
        negotiation = self._negotiation
        if (unmet := negotiation.unmet()) is not None:
            raise _error(f"{unmet} needed, but not agreed on")
        connections = int(negotiation["MaxConnections"])
        admission = self._policy.registry.admit(self._identity, self._session_type, request.tsih, request.cid, connections)
        if isinstance(admission, LoginStatus):
            raise _Refusal(admission, _SESSION_REFUSALS.get(admission, "session refused"))
        session = admission.session
        if request.tsih:
            negotiation.adopt(session.settled)
        else:
            session.settled = {
                key: negotiation[key] for key, spec in KEYS.items() if spec.scope is Scope.SESSION and spec.default
            }
        self._send(request, text, transit=True, tsih=session.tsih)
        return LoginComplete(self._params(request, session.tsih), admission, self._reader.take_rest())

    def _params(self, request: LoginRequest, tsih: int) -> NegotiatedParams:
        settled = self._negotiation
        return NegotiatedParams(
            session_type=self._session_type,
            initiator_name=self._identity.initiator_name,
            initiator_alias=self._identity_keys.get("InitiatorAlias", ""),
            target_name=self._identity.target_name,
            portal_group_tag=self._identity.portal_group_tag,
            isid=request.isid,
            tsih=tsih,
            cid=request.cid,
            exp_cmd_sn=request.cmd_sn,
            stat_sn=self._stat_sn,
            command_window=self._policy.limits.command_window,
            header_digest=settled["HeaderDigest"] == "CRC32C",
            data_digest=settled["DataDigest"] == "CRC32C",
            initiator_max_recv_data_segment_length=settled["MaxRecvDataSegmentLength"],
            target_max_recv_data_segment_length=settled.target_max_recv_data_segment_length,
            max_burst_length=settled["MaxBurstLength"],
            first_burst_length=first_burst_length(settled),
            initial_r2t=settled["InitialR2T"],
            immediate_data=settled["ImmediateData"],
            max_outstanding_r2t=settled["MaxOutstandingR2T"],
            max_connections=settled["MaxConnections"],
            data_pdu_in_order=settled["DataPDUInOrder"],
            data_sequence_in_order=settled["DataSequenceInOrder"],
            error_recovery_level=settled["ErrorRecoveryLevel"],
            default_time2wait_seconds=settled["DefaultTime2Wait"],
            default_time2retain_seconds=settled["DefaultTime2Retain"],
            task_reporting=settled["TaskReporting"],
            protocol_level=settled["iSCSIProtocolLevel"],
            authenticated=self._credentials is not None,
        )


_HANDLERS: dict[Stage, Callable[[LoginConnection, dict[str, str], bool], Pairs]] = {
    Stage.SECURITY: LoginConnection._security,
    Stage.OPERATIONAL: LoginConnection._operational,
}
