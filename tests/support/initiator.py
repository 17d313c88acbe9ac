"""A small initiator for tests of the sans-I/O login: it builds requests and reads responses as PDUs (RFC 7143 §6.3)."""

from collections.abc import Callable, Sequence
from typing import Any

from target.iscsi import (
    Closed,
    Credentials,
    Limits,
    LoginComplete,
    LoginConnection,
    LoginFailed,
    LoginPolicy,
    LoginStatus,
    PortalAddress,
    Redirect,
    SessionRegistry,
    SessionType,
    TargetInfo,
    TargetRecord,
)
from target.iscsi.framing import PduReader
from target.iscsi.pdu import LoginRequest, LoginResponse, Pdu, decode, encode
from target.iscsi.text import build_pairs

INITIATOR = "iqn.2005-03.org.open-iscsi:host"
TARGET = "iqn.2026-11.dev.lunette:pool"
ISID = bytes.fromhex("00023d000001")


class Door:
    """A gatekeeper whose answers are attributes."""

    def __init__(self) -> None:
        self.credentials: Credentials | None = None
        self.found: TargetInfo | Redirect | LoginStatus = TargetInfo(TARGET, 1, "Lunette")
        self.targets: Sequence[TargetRecord] = (TargetRecord(TARGET, (PortalAddress("127.0.0.1"),)),)

    def credentials_for(self, initiator_name: str, session_type: SessionType) -> Credentials | None:
        return self.credentials

    def find_target(self, initiator_name: str, target_name: str) -> TargetInfo | Redirect | LoginStatus:
        return self.found if target_name == TARGET else LoginStatus.NOT_FOUND

    def discovery_portal_group_tag(self) -> int:
        return 1

    def targets_for(self, initiator_name: str) -> Sequence[TargetRecord]:
        return self.targets


def make_policy(door: Door | None = None, **changes: Any) -> LoginPolicy:
    values: dict[str, Any] = {"gatekeeper": door or Door(), "registry": SessionRegistry(), "limits": Limits()}
    return LoginPolicy(**{**values, **changes})


class Initiator:
    """One login. `login(pairs, ...)` sends one request and returns the answer's pairs; `event` is how it ended."""

    def __init__(self, policy: LoginPolicy, now: float = 0.0) -> None:
        self.policy = policy
        self.connection = LoginConnection(policy, now)
        self.now = now
        self.reader = PduReader(max_data_segment_bytes=8192)
        self.event: LoginComplete | LoginFailed | Closed | None = None
        self.responses: list[LoginResponse] = []
        self.fields: dict[str, Any] = {"isid": ISID, "cmd_sn": 7}

    def send(self, data: bytes) -> list[Pdu]:
        """Raw bytes; the PDUs that come back."""
        events = self.connection.receive(data, self.now)
        assert len(events) <= 1
        if events:
            assert self.event is None
            self.event = events[0]
        self.reader.feed(self.connection.data_to_send())
        back = []
        while (raw := self.reader.next_pdu()) is not None:
            back.append(decode(raw))
        self.responses += [pdu for pdu in back if isinstance(pdu, LoginResponse)]
        return back

    def login(
        self, pairs: dict[str, str] | bytes = b"", *, csg: int = 1, nsg: int = 3, t: bool = True, **fields: Any
    ) -> dict[str, str]:
        """One request. Answers as a dict; {} when the connection just closed."""
        data = pairs if isinstance(pairs, bytes) else build_pairs(pairs.items())
        request = LoginRequest(transit=t, current_stage=csg, next_stage=nsg if t else 0, data=data, **{**self.fields, **fields})
        back = self.send(encode(request))
        if not back:
            return {}
        assert len(back) == 1
        return text_of(back[0])

    @property
    def last(self) -> LoginResponse:
        return self.responses[-1]

    @property
    def status(self) -> LoginStatus:
        return LoginStatus(self.last.status)


def text_of(pdu: Pdu) -> dict[str, str]:
    """The pairs in a PDU's data; the pieces of a pair that goes on in the next PDU are left out."""
    return dict(item.split("=", 1) for item in pdu.data.decode().split("\0") if "=" in item)


def hello(**more: str) -> dict[str, str]:
    """What a normal login says first."""
    return {"InitiatorName": INITIATOR, "TargetName": TARGET, "SessionType": "Normal", **more}


def logged_in(policy: LoginPolicy, change: Callable[[Initiator], None] | None = None, **keys: str) -> LoginComplete:
    """A whole login in one request."""
    initiator = Initiator(policy)
    if change is not None:
        change(initiator)
    initiator.login(hello(**keys))
    assert isinstance(initiator.event, LoginComplete), initiator.event
    return initiator.event
