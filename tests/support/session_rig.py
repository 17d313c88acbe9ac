"""A daemon's wiring on a fake pool and a reactor that only records, for tests of the session table."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from target.config import ServeConfig
from target.iscsi import LoginPolicy, NegotiatedParams, SessionIdentity, SessionType
from target.iscsi.session import Admission
from target.server.daemon import Daemon
from target.server.iscsi.dataplane import AbortedEvent, CommandEvent, SessionClosedEvent
from target.server.iscsi.nexus import NexusSession
from tests.support.fake_pool import FakePool

IQN, OTHER = "iqn.2026-01.test:a", "iqn.2026-01.test:b"


class RecordingReactor:
    """Has a Reactor's methods; remembers calls, answers aborts with the count it is given."""

    def __init__(self) -> None:
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.calls: list[tuple[Any, ...]] = []
        self.luns: dict[tuple[int, int], tuple[int, int]] = {}
        self.pending: list[Any] = []
        self.aborted = 1
        self.victims: tuple[tuple[int, int], ...] = ()
        self.stuck = False
        self._number = 0

    def close(self) -> None:
        os.close(self.event_fd)

    def post(self, event: Any) -> None:
        self.pending.append(event)
        os.eventfd_write(self.event_fd, 1)

    def events(self) -> list[Any]:
        try:
            os.eventfd_read(self.event_fd)
        except BlockingIOError:
            pass
        events, self.pending = self.pending, []
        return events

    def add_session(self, **params: Any) -> int:
        self._number += 1
        self.calls.append(("add_session", self._number, params))
        return self._number

    def forget_object(self, object_id: int) -> None:
        self.calls.append(("forget_object", object_id))

    def remove_session(self, session: int) -> None:
        self.calls.append(("remove_session", session))
        if not self.stuck:
            self.post(SessionClosedEvent(session))

    def add_connection(self, session: int, fd: int, **params: Any) -> int:
        os.close(fd)
        self._number += 1
        return self._number

    def close_connection(self, conn: int) -> None:
        self.calls.append(("close_connection", conn))

    def set_lun(self, session: int, lun: int, object_id: int | None, flags: int = 0, **limits: Any) -> bool:
        if object_id is None:
            self.luns.pop((session, lun), None)
        else:
            self.luns[session, lun] = (object_id, flags)
        return True

    def set_lun_limits(self, session: int, lun: int, **limits: Any) -> None:
        self.calls.append(("set_lun_limits", session, lun, limits))

    def latencies(self) -> dict[int, Any]:
        return {}

    def set_lun_flags(self, session: int, lun: int, flags: int) -> None:
        if (session, lun) in self.luns:
            self.luns[session, lun] = (self.luns[session, lun][0], flags)

    def abort(self, token: int, **which: Any) -> None:
        self.calls.append(("abort", which))
        self.post(AbortedEvent(token, self.aborted, self.victims if which.get("tell") else ()))

    def send_pdu(self, conn: int, bhs: bytes, data: bytes = b"", *, close: bool = False) -> None:
        self.calls.append(("send_pdu", conn, bhs[0] & 0x3F, bhs[2], close))

    def complete(self, *args: Any, **more: Any) -> None:
        self.calls.append(("complete", *args))

    def stats(self) -> dict[str, Any]:
        return {"connections": [], "luns": [], "objects": [], "loop": {}}

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] == name]


class Rig:
    """A daemon's wiring on a fake pool and a recording reactor."""

    def __init__(self, tmp_path: Path, *, open_access: bool = True) -> None:
        self.reactor = RecordingReactor()
        self.native = FakePool()
        self.daemon = Daemon(ServeConfig(pool_path=tmp_path / "p", open_access=open_access))
        self.daemon.reactors = [self.reactor]  # type: ignore[list-item]
        self.daemon.wire(self.native)
        self.daemon.pool.attach()
        self.table = self.daemon.table
        self.table.start()

    def login(self, name: str = IQN, isid: bytes = b"\x80\0\0\0\0\x01") -> tuple[NexusSession, int]:
        params = NegotiatedParams(session_type=SessionType.NORMAL, initiator_name=name, initiator_alias="",
                                  target_name=self.daemon.target_name, portal_group_tag=1, isid=isid, tsih=1, cid=0,
                                  exp_cmd_sn=1, stat_sn=1)
        admission = self.daemon.registry.admit(SessionIdentity(name, isid, self.daemon.target_name, 1), SessionType.NORMAL, 0,
                                               0, 1)
        assert isinstance(admission, Admission)
        session = self.table.admit(params, admission, "127.0.0.1")
        ours, theirs = socket.socketpair()
        theirs.close()
        policy = LoginPolicy(gatekeeper=self.daemon.access.at("127.0.0.1", 3260), registry=self.daemon.registry)
        conn = self.table.serve(session, policy, params, ours, b"", 0)
        assert conn is not None
        return session, conn

    def seen(self, session: NexusSession) -> dict[int, int]:
        """LUN -> object id in the reactor's table."""
        return {lun: each[0] for (number, lun), each in self.reactor.luns.items() if number == session.number}

    async def stop(self) -> None:
        self.table.stop()
        self.daemon.pool.detach()
        self.native.close()
        self.reactor.close()


def command(session: NexusSession, conn: int, task: int, cdb: bytes, data: bytes = b"") -> CommandEvent:
    flags = 0xA1 if data else 0xC1
    return CommandEvent(task, session.number, conn, 0, task, cdb.ljust(16, b"\0"), data, len(data) or 512, flags, bytes(48))
