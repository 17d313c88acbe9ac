"""Session identity, and what makes a login a new, reinstated or extended session (RFC 7143 §4.4.3, §6.3.5)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from target.iscsi.codes import LoginStatus
from target.iscsi.params import SessionType


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """The I_T nexus as iSCSI names it: initiator port (name, ISID) and target port (name, portal group tag)."""

    initiator_name: str
    isid: bytes
    target_name: str
    portal_group_tag: int


@dataclass(eq=False, slots=True)
class Session:
    """One live session; `handle` is its owner's own, never looked at here."""

    identity: SessionIdentity
    session_type: SessionType
    tsih: int
    max_connections: int = 1
    cids: set[int] = field(default_factory=set)
    settled: dict[str, int | bool | str] = field(default_factory=dict)
    """Session-wide keys as the leading login settled them: they hold for every connection that joins."""
    handle: Any = None
    numbers: Callable[[], tuple[int, int]] | None = None
    """Set by the owner: ExpCmdSN and MaxCmdSN now, for the login of a connection that joins."""


class AdmissionKind(Enum):
    """What a login that succeeded means for the sessions there are."""

    NEW = "new"
    REINSTATE_SESSION = "reinstate session"
    ADD_CONNECTION = "add connection"
    REINSTATE_CONNECTION = "reinstate connection"


@dataclass(frozen=True, slots=True)
class Admission:
    """The registry's answer. The registry has already made the change; the owner carries it out.

    REINSTATE_SESSION: end `replaced` (all of its tasks and connections) at once, without waiting for its I/O.
    REINSTATE_CONNECTION: the connection of `session` with this CID is logged out by this login: drop the old one.
    """

    kind: AdmissionKind
    session: Session
    replaced: Session | None = None


class SessionRegistry:
    """All sessions of one target node. Plain memory: one thread uses it."""

    def __init__(self, *, max_sessions: int = 4096, max_sessions_per_initiator: int = 1024) -> None:
        self.max_sessions = max_sessions
        self.max_sessions_per_initiator = max_sessions_per_initiator
        self._by_tsih: dict[int, Session] = {}
        self._by_identity: dict[SessionIdentity, Session] = {}
        self._by_initiator: Counter[str] = Counter()
        self._next_tsih = 1

    def __len__(self) -> int:
        return len(self._by_tsih)

    def sessions(self) -> list[Session]:
        """Live sessions, oldest first."""
        return list(self._by_tsih.values())

    def find(self, tsih: int) -> Session | None:
        """The session of this TSIH."""
        return self._by_tsih.get(tsih)

    def check(self, identity: SessionIdentity, session_type: SessionType, tsih: int, cid: int) -> LoginStatus:
        """Whether `admit` would succeed now, without changing anything: SUCCESS or the status to refuse with."""
        if tsih:
            session = self._by_tsih.get(tsih)
            if session is None or session.identity != identity or session.session_type is not session_type:
                return LoginStatus.SESSION_DOES_NOT_EXIST
            if session_type is SessionType.DISCOVERY:
                return LoginStatus.CANNOT_INCLUDE_IN_SESSION
            if cid not in session.cids and len(session.cids) >= session.max_connections:
                return LoginStatus.TOO_MANY_CONNECTIONS
            return LoginStatus.SUCCESS
        if session_type is SessionType.NORMAL and identity in self._by_identity:
            return LoginStatus.SUCCESS
        if len(self._by_tsih) >= self.max_sessions:
            return LoginStatus.OUT_OF_RESOURCES
        same = self._by_initiator[identity.initiator_name]
        return LoginStatus.OUT_OF_RESOURCES if same >= self.max_sessions_per_initiator else LoginStatus.SUCCESS

    def fullness(self, initiator_name: str) -> tuple[float, float]:
        """How much of the limits is used, 0 to 1: by this initiator of its own, and by all."""
        return (self._by_initiator[initiator_name] / self.max_sessions_per_initiator, len(self._by_tsih) / self.max_sessions)

    def admit(
        self, identity: SessionIdentity, session_type: SessionType, tsih: int, cid: int, max_connections: int
    ) -> Admission | LoginStatus:
        """Enter a connection that has finished its login (and is authenticated), or the status to refuse it with."""
        status = self.check(identity, session_type, tsih, cid)
        if status is not LoginStatus.SUCCESS:
            return status
        if tsih:
            session = self._by_tsih[tsih]
            kind = AdmissionKind.REINSTATE_CONNECTION if cid in session.cids else AdmissionKind.ADD_CONNECTION
            session.cids.add(cid)
            return Admission(kind, session)
        replaced = self._by_identity.get(identity) if session_type is SessionType.NORMAL else None
        if replaced is not None:
            self.remove(replaced)
        session = Session(identity, session_type, self._free_tsih(), max_connections, {cid})
        self._by_tsih[session.tsih] = session
        self._by_initiator[identity.initiator_name] += 1
        if session_type is SessionType.NORMAL:
            self._by_identity[identity] = session
        kind = AdmissionKind.NEW if replaced is None else AdmissionKind.REINSTATE_SESSION
        return Admission(kind, session, replaced)

    def remove_connection(self, session: Session, cid: int) -> bool:
        """Forget a closed connection; True if it was the last one, and the session with it."""
        session.cids.discard(cid)
        if session.cids:
            return False
        self.remove(session)
        return True

    def remove(self, session: Session) -> None:
        """Forget a session; one that is already replaced or gone is left alone."""
        if self._by_tsih.get(session.tsih) is session:
            del self._by_tsih[session.tsih]
            name = session.identity.initiator_name
            self._by_initiator[name] -= 1
            if not self._by_initiator[name]:
                del self._by_initiator[name]
        if self._by_identity.get(session.identity) is session:
            del self._by_identity[session.identity]

    def _free_tsih(self) -> int:
        while self._next_tsih in self._by_tsih:
            self._next_tsih = self._next_tsih % 0xFFFF + 1
        tsih = self._next_tsih
        self._next_tsih = tsih % 0xFFFF + 1
        return tsih
