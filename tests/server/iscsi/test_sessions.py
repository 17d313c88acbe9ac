"""The session table on a reactor that only records: hand-over, LUN tables, flags, task management, ends."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from target.config import ServeConfig
from target.errors import LunetteError
from target.iscsi import (
    LoginPolicy,
    LogoutReason,
    LogoutRequested,
    NegotiatedParams,
    SendPdu,
    SessionIdentity,
    SessionType,
    TaskFunction,
    TaskManagementRequest,
    TaskManagementRequested,
    TaskResponse,
)
from target.iscsi.session import Admission
from target.scsi.designators import naa
from target.scsi.lun import encode
from target.scsi.mode_pages import CONTROL
from target.server.daemon import Daemon
from target.server.iscsi.dataplane import LUNF_RO, LUNF_SLOW, AbortedEvent, ClosedEvent, CommandEvent, SessionClosedEvent
from target.server.iscsi.inventory import LOST_LUNS, LOST_NAMES, LOST_SECONDS, Lost
from target.server.iscsi.nexus import NexusSession
from target.server.iscsi.tasks import MANAGING_MAX
from tests.support.fake_pool import FakePool

IQN, OTHER = "iqn.2026-01.test:a", "iqn.2026-01.test:b"


async def until(true: Callable[[], bool]) -> None:
    """Let the daemon's tasks run until something is so; the assertion that follows says what is not."""
    for _ in range(500):
        await asyncio.sleep(0.01)
        if true():
            return


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

    def forget_object(self, object_id: int) -> None:
        self.calls.append(("forget_object", object_id))

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


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.stop()


async def test_a_login_gets_the_luns_and_their_flags(rig: Rig) -> None:
    run = rig.daemon.commands.run
    await run("create", {"name": "v", "size_bytes": 1 << 20})
    await run("snapshot", {"names": ["v@s"]})
    await run("connect", {"name": "v@s", "lun": 3})
    session, _ = rig.login()
    assert rig.seen(session) == {0: 1, 3: 2}
    assert rig.reactor.luns[session.number, 0][1] == LUNF_SLOW                 # power on is still to be told
    assert rig.reactor.luns[session.number, 3][1] == LUNF_SLOW | LUNF_RO


async def test_a_new_login_of_the_same_port_ends_the_old_session_at_once(rig: Rig) -> None:
    old, _ = rig.login()
    new, _ = rig.login()
    assert old.ended
    assert rig.reactor.called("remove_session") == [("remove_session", old.number)]
    assert rig.table.sessions() == [new]
    other, _ = rig.login(isid=b"\x80\0\0\0\0\x02")
    assert rig.table.sessions() == [new, other]


def command(session: NexusSession, conn: int, task: int, cdb: bytes, data: bytes = b"") -> CommandEvent:
    flags = 0xA1 if data else 0xC1
    return CommandEvent(task, session.number, conn, 0, task, cdb.ljust(16, b"\0"), data, len(data) or 512, flags, bytes(48))


async def test_a_new_session_s_commands_wait_for_what_the_old_one_left_in_the_engine(rig: Rig) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    await rig.daemon.commands.run("create", {"name": "w", "size_bytes": 1 << 20})
    old, _ = rig.login()
    other, other_conn = rig.login("iqn.2026-01.test:b")
    rig.reactor.stuck = True
    new, conn = rig.login()                                                   # at once
    assert old.ended
    unit = rig.daemon.units.known(1)
    assert unit is not None
    unit.attention.take(new.nexus)
    unit.attention.take(other.nexus)
    rig.reactor.post(command(other, other_conn, 9, bytes(6)))                 # in use from now on
    await until(lambda: bool(rig.reactor.called("complete")))
    rig.reactor.calls.clear()
    assert rig.reactor.luns[new.number, 0][1] & LUNF_SLOW
    assert not rig.reactor.luns[other.number, 0][1] & LUNF_SLOW
    write = bytes([0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    rig.reactor.post(command(new, conn, 1, write, b"n" * 512))
    rig.reactor.post(command(new, conn, 2, write, b"m" * 512))
    rig.reactor.post(command(new, conn, 3, bytes(6)))
    rig.reactor.post(command(other, other_conn, 4, write, b"o" * 512))
    await until(lambda: len(rig.reactor.called("complete")) >= 2)
    await asyncio.sleep(0.05)
    assert {each[1] for each in rig.reactor.called("complete")} == {3, 4}
    fenced = asyncio.create_task(rig.table.abort(object_id=1, exclude=new))   # as a reset by somebody else does
    aborted = asyncio.create_task(rig.table.abort([new], itt=2))              # what waits is aborted at once
    await asyncio.wait_for(aborted, 5)
    assert not fenced.done()
    rig.reactor.post(SessionClosedEvent(old.number))
    await asyncio.wait_for(fenced, 5)
    await until(lambda: len(rig.reactor.called("complete")) >= 3)
    assert {each[1] for each in rig.reactor.called("complete")} == {1, 3, 4}
    assert not rig.reactor.luns[new.number, 0][1] & LUNF_SLOW
    rig.table.end(new, "its turn")
    again, conn = rig.login()
    rig.reactor.post(command(again, conn, 5, write, b"p" * 512))
    await asyncio.sleep(0.05)
    rig.reactor.post(command(again, conn, 6, write, b"q" * 512))
    rig.table._events(0, rig.reactor)                                         # type: ignore[arg-type]
    rig.table.end(again, "while a command waits and another has not begun")   # which then never run
    rig.reactor.post(SessionClosedEvent(new.number))
    rig.reactor.post(SessionClosedEvent(again.number))
    await asyncio.sleep(0.05)
    assert {5, 6}.isdisjoint(each[1] for each in rig.reactor.called("complete"))
    assert not rig.table.draining.busy(IQN)


async def test_format_waits_for_what_is_under_way(rig: Rig) -> None:
    """Neither a native write in the engine nor one that Python runs may land behind FORMAT UNIT; new ones are refused."""
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    one, conn = rig.login()
    other, other_conn = rig.login("iqn.2026-01.test:b")
    unit = rig.daemon.units.known(1)
    assert unit is not None
    unit.attention.take(one.nexus)
    unit.attention.take(other.nexus)
    waiting: list[tuple[int, dict[str, Any]]] = []
    rig.reactor.abort = lambda token, **which: waiting.append((token, which))   # type: ignore[method-assign]
    write = bytes([0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    rig.native.hold = True
    rig.reactor.post(command(other, other_conn, 1, write, b"w" * 512))          # Python has given it to the engine
    await until(lambda: any(op == "write" for op, _ in rig.native.started))
    rig.reactor.post(command(one, conn, 2, bytes([0x04, 0, 0, 0, 0, 0])))
    await until(lambda: bool(waiting))
    assert [which for _, which in waiting] == [{"object_id": 1, "device": True}]
    assert all(rig.reactor.luns[each.number, 0][1] & LUNF_SLOW for each in (one, other))
    rig.reactor.post(command(other, other_conn, 3, write, b"x" * 512))
    await until(lambda: bool(rig.reactor.called("complete")))
    assert rig.reactor.called("complete")[0][1:3] == (3, 2)                     # CHECK CONDITION: formatting
    rig.reactor.post(AbortedEvent(waiting[0][0], 1))
    await asyncio.sleep(0.05)
    assert not any(op == "unmap" for op, _ in rig.native.started)
    rig.native.release()
    await until(lambda: len(rig.reactor.called("complete")) == 3)
    assert [each[1:3] for each in rig.reactor.called("complete")] == [(3, 2), (1, 0), (2, 0)]
    assert [op for op, _ in rig.native.started if op in ("write", "unmap")] == ["write", "unmap"]
    assert not rig.reactor.luns[other.number, 0][1] & LUNF_SLOW


@pytest.mark.parametrize("ended", [False, True])
async def test_format_waits_for_a_copy_that_another_unit_was_asked_for(rig: Rig, ended: bool) -> None:
    for name in "vw":
        await rig.daemon.commands.run("create", {"name": name, "size_bytes": 1 << 20})
    one, conn = rig.login()
    other, other_conn = rig.login("iqn.2026-01.test:b")
    units = [unit for unit in map(rig.daemon.units.known, (1, 2)) if unit is not None]
    for unit in units:
        unit.attention.take(one.nexus)
        unit.attention.take(other.nexus)
    names = [naa(unit.identity) for unit in units]
    cscds = b"".join(bytes([0xE4, 0, 0, 0, 1, 3, 0, len(name)]) + name.ljust(20, b"\0") + b"\0\0\2\0" for name in names)
    segment = bytes([2, 0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 8]) + bytes(16)             # from the second to the first
    lists = bytes([1, 0, 0, 64]) + bytes(7) + b"\x1c" + bytes(4) + cscds + segment
    copy = command(other, other_conn, 1, bytes([0x83]) + bytes(9) + len(lists).to_bytes(4) + bytes(2), lists)
    rig.native.hold = True
    rig.reactor.post(copy._replace(lun=1, bhs=bytes(9) + b"\1" + bytes(38)))
    await until(lambda: any(op == "share" for op, _ in rig.native.started))
    if ended:
        rig.table.end(other, "its last connection closed")
    rig.reactor.post(command(one, conn, 2, bytes([0x04, 0, 0, 0, 0, 0])))
    await asyncio.sleep(0.05)
    assert not any(op == "unmap" for op, _ in rig.native.started)
    rig.native.release()
    await until(lambda: (2, 0) in [each[1:3] for each in rig.reactor.called("complete")])
    assert [op for op, _ in rig.native.started if op in ("share", "unmap")] == ["share", "unmap"]


async def test_a_closed_connection_ends_its_session(rig: Rig) -> None:
    session, conn = rig.login()
    rig.reactor.post(ClosedEvent(session.number, conn, "peer", ""))
    await until(lambda: not rig.table.sessions())
    assert rig.table.sessions() == []
    assert len(rig.daemon.registry) == 0
    assert rig.daemon.target.nexuses() == []


async def test_created_and_deleted_objects_come_and_go_in_live_sessions(rig: Rig) -> None:
    session, _ = rig.login()
    assert rig.seen(session) == {}
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    assert rig.seen(session) == {0: 1}
    await rig.daemon.commands.run("delete", {"names": ["v"]})
    assert rig.seen(session) == {}
    assert rig.daemon.units.known(1) is None


async def test_a_host_that_goes_takes_its_sessions_with_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, open_access=False)
    await rig.daemon.commands.run("host_create", {"name": "h", "initiators": [IQN, OTHER]})
    session, _ = rig.login()
    for command_name, args in (("host_delete", {"name": "h"}), ("host_change", {"name": "h", "remove": [IQN]})):
        with pytest.raises(LunetteError, match=f"logged in: {IQN} from 127.0.0.1; --force ends") as refused:
            await rig.daemon.commands.run(command_name, args)
        assert refused.value.code == "in_use"
    await rig.daemon.commands.run("host_change", {"name": "h", "remove": [OTHER]})     # nobody is logged in by that
    assert rig.table.sessions() == [session]
    await rig.daemon.commands.run("host_delete", {"name": "h", "force": True})
    assert rig.table.sessions() == []
    await rig.stop()


@pytest.mark.parametrize(("function", "lun", "aborted", "response"), [
    (TaskFunction.ABORT_TASK, 0, 1, 0), (TaskFunction.ABORT_TASK, 0, 0, 1), (TaskFunction.ABORT_TASK, 9, 1, 2),
    (TaskFunction.ABORT_TASK_SET, 0, 3, 0), (TaskFunction.CLEAR_TASK_SET, 0, 1, 0), (TaskFunction.CLEAR_ACA, 0, 1, 5),
    (TaskFunction.LOGICAL_UNIT_RESET, 0, 1, 0), (TaskFunction.LOGICAL_UNIT_RESET, 5, 1, 2),
    (TaskFunction.TARGET_WARM_RESET, 0, 1, 0), (TaskFunction.TASK_REASSIGN, 0, 1, 4), (77, 0, 1, 5),
    (TaskFunction.QUERY_TASK, 0, 1, 7), (TaskFunction.QUERY_TASK, 0, 0, 0), (TaskFunction.QUERY_TASK_SET, 0, 2, 7),
    (TaskFunction.QUERY_TASK_SET, 3, 2, 2), (TaskFunction.I_T_NEXUS_RESET, 0, 1, 0),
    (TaskFunction.QUERY_ASYNCHRONOUS_EVENT, 0, 0, 7), (TaskFunction.QUERY_ASYNCHRONOUS_EVENT, 3, 0, 2),
])
async def test_task_management_answers(rig: Rig, function: int, lun: int, aborted: int, response: int) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    rig.login("iqn.2026-01.test:b")
    rig.reactor.aborted = aborted
    request = TaskManagementRequest(function=function, lun=encode(lun).to_bytes(8), initiator_task_tag=5, cmd_sn=9)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await until(lambda: bool(rig.reactor.called("send_pdu")))
    dropped = function == TaskFunction.I_T_NEXUS_RESET          # RFC 7144 §6.3
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, response, dropped)]


@pytest.mark.parametrize("function", [TaskFunction.ABORT_TASK, TaskFunction.QUERY_TASK])
async def test_task_management_is_no_task_that_could_be_aborted(rig: Rig, function: int) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    underway = asyncio.create_task(asyncio.sleep(60))
    session.managing[underway] = 4
    request = TaskManagementRequest(function=function, initiator_task_tag=5, referenced_task_tag=4, cmd_sn=9)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await until(lambda: bool(rig.reactor.called("send_pdu")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, TaskResponse.FUNCTION_REJECTED, False)]
    underway.cancel()


async def test_functions_that_wait_are_bounded(rig: Rig) -> None:
    session, conn = rig.login()
    rig.reactor.abort = lambda token, **which: None             # type: ignore[method-assign]  # none of them gets on
    for tag in range(MANAGING_MAX + 1):
        request = TaskManagementRequest(function=TaskFunction.TARGET_WARM_RESET, initiator_task_tag=tag, cmd_sn=9)
        rig.table.perform(session, conn, [TaskManagementRequested(request)])
    assert len(session.managing) == MANAGING_MAX
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, TaskResponse.FUNCTION_REJECTED, False)]
    for task in list(session.managing):
        task.cancel()


@pytest.mark.parametrize("function", [TaskFunction.TARGET_COLD_RESET, TaskFunction.I_T_NEXUS_RESET])
async def test_resets_that_drop_connections_drop_all_of_the_session(rig: Rig, function: int) -> None:
    session, conn = rig.login()
    session.connections[77], session.cids[77] = session.connections[conn], 3
    session.session.cids.add(3)
    rig.table.perform(session, conn, [TaskManagementRequested(TaskManagementRequest(function=function, initiator_task_tag=5))])
    await until(lambda: bool(rig.reactor.called("close_connection")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, 0, True)]
    assert rig.reactor.called("close_connection") == [("close_connection", 77)]
    assert session.leaving == {3}                                # one that is still in its login is closed when it is done


@pytest.mark.parametrize("function", [TaskFunction.CLEAR_TASK_SET, TaskFunction.LOGICAL_UNIT_RESET,
                                      TaskFunction.TARGET_WARM_RESET])
@pytest.mark.parametrize("tas", [True, False])
async def test_others_are_told_of_what_was_aborted_when_tas_is_set(rig: Rig, function: int, tas: bool) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    _, theirs = rig.login("iqn.2026-01.test:b")
    unit = rig.daemon.units.get(next(iter(session.luns.values())))
    assert unit is not None
    assert unit.mode.task_aborted_status
    if not tas:
        unit.mode.change({CONTROL: unit.mode.values(CONTROL, 0)[:3] + bytes(7)}, save=True)
    rig.reactor.victims = ((theirs, 0x77), (999, 0x78))
    request = TaskManagementRequest(function=function, initiator_task_tag=5, cmd_sn=9)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await until(lambda: any(call[2] == 0x22 for call in rig.reactor.called("send_pdu")))
    told = [("send_pdu", theirs, 0x21, 0, False)] if tas else []
    assert rig.reactor.called("send_pdu") == [*told, ("send_pdu", conn, 0x22, 0, False)]


async def test_a_cold_reset_drops_every_session_that_shares_a_unit_its_own_after_the_answer(rig: Rig) -> None:
    await rig.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 20})
    session, conn = rig.login()
    other, _ = rig.login("iqn.2026-01.test:b")
    stranger, _ = rig.login("iqn.2026-01.test:c")
    stranger.luns.clear()
    request = TaskManagementRequest(function=TaskFunction.TARGET_COLD_RESET, initiator_task_tag=5)
    rig.table.perform(session, conn, [TaskManagementRequested(request)])
    await until(lambda: bool(rig.reactor.called("send_pdu")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x22, 0, True)]
    assert rig.table.sessions() == [session, stranger]
    assert rig.reactor.called("remove_session") == [("remove_session", other.number)]
    rig.reactor.post(ClosedEvent(session.number, conn, "requested", ""))
    await until(lambda: len(rig.table.sessions()) == 1)
    assert rig.table.sessions() == [stranger]


async def test_a_logout_is_answered_when_the_reset_it_waits_for_ends_first(rig: Rig) -> None:
    session, conn = rig.login()
    session.managing[asyncio.create_task(asyncio.sleep(0))] = 9
    response = SendPdu(bytes([0x26]) + bytes(47), b"")
    rig.table.perform(session, conn, [LogoutRequested(LogoutReason.CLOSE_SESSION, 0, response, True)])
    session.managing.clear()
    await until(lambda: bool(rig.reactor.called("send_pdu")))
    assert rig.reactor.called("send_pdu") == [("send_pdu", conn, 0x26, 0, True)]


@pytest.mark.parametrize("fails", [False, True])
async def test_of_two_logins_with_one_cid_the_later_gets_the_connection(rig: Rig, fails: bool) -> None:
    """Both are through their login before either connection is handed over: the session must not end up with two, nor none."""
    session, _ = rig.login()
    params = [dataclasses.replace(session.params, cid=7) for _ in range(2)]
    policy = LoginPolicy(gatekeeper=rig.daemon.access.at("127.0.0.1", 3260), registry=rig.daemon.registry)
    session.session.max_connections = 2
    for each in params:
        admission = rig.daemon.registry.admit(session.session.identity, SessionType.NORMAL, session.session.tsih, 7, 2)
        assert isinstance(admission, Admission)
        assert rig.table.admit(each, admission, "127.0.0.1") is session
    pairs = [socket.socketpair() for _ in params]
    if fails:
        rig.table.abandon(session, params[0])                   # its answer could not be sent
    else:
        assert rig.table.serve(session, policy, params[0], pairs[0][0], b"", 0) is None
        assert pairs[0][1].recv(1) == b""
    assert session.session.cids == {0, 7}
    conn = rig.table.serve(session, policy, params[1], pairs[1][0], b"", 0)
    assert conn is not None
    assert session.cids[conn] == 7
    rig.reactor.post(ClosedEvent(session.number, conn, "requested", ""))
    await until(lambda: session.session.cids == {0})
    assert session.session.cids == {0}
    assert not session.ended
    for pair in pairs:
        for end in pair:
            end.close()


async def test_a_connection_without_a_place_in_the_data_plane_leaves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError("too many")

    session, _ = rig.login()
    session.session.max_connections = 2
    params = dataclasses.replace(session.params, cid=7)
    admission = rig.daemon.registry.admit(session.session.identity, SessionType.NORMAL, session.session.tsih, 7, 2)
    assert isinstance(admission, Admission)
    assert rig.table.admit(params, admission, "127.0.0.1") is session
    ours, theirs = socket.socketpair()
    policy = LoginPolicy(gatekeeper=rig.daemon.access.at("127.0.0.1", 3260), registry=rig.daemon.registry)
    with monkeypatch.context() as patched, theirs:
        patched.setattr(rig.reactor, "add_connection", full)
        assert rig.table.serve(session, policy, params, ours, b"", 0) is None
        assert theirs.recv(1) == b""                             # its descriptor is closed
    assert session.session.cids == {0}
    assert not session.entering
    with monkeypatch.context() as patched:
        patched.setattr(rig.reactor, "add_session", full)
        with pytest.raises(OSError, match="too many"):
            rig.login(isid=b"\x80\0\0\0\0\x02")
    assert len(rig.daemon.registry) == 1
    assert not session.ended


async def test_a_login_in_the_place_of_a_connection_that_was_logged_out_is_served(rig: Rig) -> None:
    """Its logout, by another connection, is still on its way to the data plane."""
    session, conn = rig.login()
    session.session.max_connections = 2
    params = dataclasses.replace(session.params, cid=0)
    rig.table.drop_others(session, 0, {0})
    admission = rig.daemon.registry.admit(session.session.identity, SessionType.NORMAL, session.session.tsih, 0, 2)
    assert isinstance(admission, Admission)
    assert rig.table.admit(params, admission, "127.0.0.1") is session
    ours, theirs = socket.socketpair()
    policy = LoginPolicy(gatekeeper=rig.daemon.access.at("127.0.0.1", 3260), registry=rig.daemon.registry)
    with theirs:
        made = rig.table.serve(session, policy, params, ours, b"", 0)
    assert made is not None
    rig.reactor.post(ClosedEvent(session.number, conn, "requested", ""))
    await until(lambda: conn not in session.connections)
    assert session.session.cids == {0}
    assert not session.ended


async def test_logout_is_asked_for_on_every_connection(rig: Rig) -> None:
    _, one = rig.login()
    _, two = rig.login("iqn.2026-01.test:b")
    rig.table.ask_for_logout(3)
    assert [(call[1], call[2]) for call in rig.reactor.called("send_pdu")] == [(one, 0x32), (two, 0x32)]


REPORT_LUNS = bytes([0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0])
INQUIRY = bytes([0x12, 0, 0, 0, 96, 0])


async def said(rig: Rig, session: NexusSession, conn: int, cdb: bytes, lun: int = 0) -> tuple[int, bytes]:
    """A command's status and sense."""
    before = len(rig.reactor.called("complete"))
    one = command(session, conn, before + 1000, cdb)
    rig.reactor.post(one._replace(lun=lun, bhs=bytes(8) + encode(lun).to_bytes(8)))
    await until(lambda: len(rig.reactor.called("complete")) > before)
    _, _, status, sense, _ = rig.reactor.called("complete")[-1]
    return status, sense


async def settle(rig: Rig, session: NexusSession, conn: int, lun: int = 0) -> list[int]:
    """TEST UNIT READY until there is no unit attention; what was told."""
    told = []
    while (answer := await said(rig, session, conn, bytes(6), lun))[0] == 2 and answer[1][2] == 6:
        told.append(int.from_bytes(answer[1][12:14]))
    return told


async def lun_of_new(rig: Rig, name: str) -> int:
    made = await rig.daemon.commands.run("create", {"name": name, "size_bytes": 1 << 20})
    lun: int = made["lun"]
    return lun


async def test_a_lun_that_a_session_knows_is_given_away_after_it_asked_for_the_list(rig: Rig) -> None:
    session, conn = rig.login()
    run = rig.daemon.commands.run
    assert [await lun_of_new(rig, f"v{number}") for number in range(256)] == list(range(256))
    await run("delete", {"names": ["v200"]})            # it never was asked about
    assert await lun_of_new(rig, "unseen") == 200
    assert await settle(rig, session, conn, 200) == [0x2900]
    await said(rig, session, conn, INQUIRY, 9)
    await run("delete", {"names": ["v9"]})
    await run("delete", {"names": ["v8"]})
    assert await lun_of_new(rig, "a") == 8              # 9 is free for longer, but held
    await run("delete", {"names": ["v7"]})
    assert (await said(rig, session, conn, REPORT_LUNS))[0] == 0
    assert await lun_of_new(rig, "b") == 9
    assert await lun_of_new(rig, "c") == 7
    await run("delete", {"names": ["c"]})               # REPORT LUNS told of 7 before
    assert session.inventory.stale == {}


@pytest.mark.parametrize("cdb", [REPORT_LUNS[:2] + b"\1" + REPORT_LUNS[3:], REPORT_LUNS[:8] + bytes([0, 16])])
async def test_a_part_of_the_list_is_not_the_list(rig: Rig, cdb: bytes) -> None:
    session, conn = rig.login()
    for name in ("a", "b", "c"):
        await lun_of_new(rig, name)
    await settle(rig, session, conn)
    await rig.daemon.commands.run("delete", {"names": ["a"], "force": True})
    assert (await said(rig, session, conn, cdb, 1))[0] == 0
    assert rig.table.holds(0)
    assert (await said(rig, session, conn, REPORT_LUNS, 1))[0] == 0
    assert not rig.table.holds(0)


async def test_a_hypervisor_that_never_asks_again_does_not_run_out_of_luns(rig: Rig) -> None:
    """Every number below 256 is held in the end: each is given again, and says so before any other answer."""
    session, conn = rig.login()
    other, other_conn = rig.login(OTHER)
    for number in range(256):
        await lun_of_new(rig, f"v{number}")
    await said(rig, session, conn, REPORT_LUNS)
    await rig.daemon.commands.run("delete", {"names": [f"v{number}" for number in range(256)]})
    for number in range(344):
        lun = await lun_of_new(rig, "v")
        assert lun == number % 256
        if number % 50 == 0:
            assert await settle(rig, session, conn, lun) == [0x3F0E, 0x3F03]
        await rig.daemon.commands.run("delete", {"names": ["v"], "force": True})
    assert len(session.inventory.stale) == 256
    rig.table.end(session, "it logs out")
    assert not rig.table.holds(17)
    assert (await lun_of_new(rig, "v"), other.inventory.stale) == (344 % 256, {})
    assert (await settle(rig, other, other_conn, 344 % 256))[0] == 0x2900


async def test_the_same_object_at_the_same_number_is_no_other(rig: Rig) -> None:
    session, conn = rig.login()
    run = rig.daemon.commands.run
    await lun_of_new(rig, "v")
    await settle(rig, session, conn)
    with pytest.raises(LunetteError, match=f"v is in use by {IQN} from 127.0.0.1; --force takes it") as refused:
        await run("disconnect", {"name": "v"})
    assert refused.value.code == "in_use"
    await run("disconnect", {"name": "v", "force": True})
    await run("connect", {"name": "v", "lun": 0})
    assert await settle(rig, session, conn) == [0x2900, 0x3F0E]
    await run("disconnect", {"name": "v", "force": True})
    await run("create", {"name": "w", "size_bytes": 1 << 20})
    await run("disconnect", {"name": "w"})
    await run("connect", {"name": "w", "lun": 0})        # a number that a person names is given at once, and told
    assert await settle(rig, session, conn) == [0x3F0E, 0x3F03]


async def test_a_reinstated_session_is_told_what_its_luns_are_now(rig: Rig) -> None:
    first, conn = rig.login()
    run = rig.daemon.commands.run
    await lun_of_new(rig, "v")
    await lun_of_new(rig, "w")
    for lun in (0, 1):
        await settle(rig, first, conn, lun)
    await run("delete", {"names": ["v"], "force": True})
    await run("create", {"name": "x", "size_bytes": 1 << 20})
    await run("disconnect", {"name": "x"})
    again, _ = rig.login()
    assert first.ended
    assert rig.table.holds(0)
    assert list(again.inventory.stale) == [0]
    await run("connect", {"name": "x", "lun": 0})
    session, conn = rig.login()                 # before it was told
    assert await settle(rig, session, conn, 0) == [0x2900, 0x3F0E, 0x3F03]
    assert await settle(rig, session, conn, 1) == [0x2900]


async def test_a_session_that_was_lost_and_comes_back_is_told_what_its_luns_are_now(rig: Rig) -> None:
    """Under another ISID, as libiscsi does; the number is not given to others meanwhile. Who logs out takes it for nothing."""
    run = rig.daemon.commands.run
    for reason, lost in (("requested", False), ("peer", True)):
        session, conn = rig.login()
        lun = await lun_of_new(rig, "v")
        await settle(rig, session, conn, lun)
        rig.reactor.post(ClosedEvent(session.number, conn, reason, ""))
        await until(lambda ended=session: ended.ended)
        assert session.ended
        await run("delete", {"names": ["v"], "force": True})
        assert rig.table.holds(lun) == lost
        await run("create", {"name": "x", "size_bytes": 1 << 20})
        await run("disconnect", {"name": "x"})
        await run("connect", {"name": "x", "lun": lun})
        for isid in (b"\x80\0\0\0\0\x02", b"\x80\0\0\0\0\x03"):      # both of its paths
            session, conn = rig.login(isid=isid)
            assert await settle(rig, session, conn, lun) == ([0x2900, 0x3F0E, 0x3F03] if lost else [0x2900])
            rig.reactor.post(ClosedEvent(session.number, conn, "requested", ""))
            await until(lambda ended=session: ended.ended)
        await run("delete", {"names": ["x"], "force": True})


def test_what_lost_sessions_knew_is_forgotten_in_time_and_bounded() -> None:
    now = 0.0
    lost = Lost(lambda: now)
    lost.remember("a", {0: 1, 1: 2})
    lost.remember("a", {1: 3})
    assert lost.of("a") == {0: 1, 1: 3}
    assert lost.holds(1, ["a", "b"])
    assert not lost.holds(1, ["b"])
    now = LOST_SECONDS
    assert lost.of("a") == {}
    assert not lost.holds(1)
    for number in range(2 * LOST_NAMES):
        lost.remember(f"n{number}", {number: 1})
    assert [lost.holds(number) for number in (LOST_NAMES - 1, LOST_NAMES)] == [False, True]
    lost.remember("big", dict.fromkeys(range(LOST_LUNS), 1))
    assert lost.of("big")
    assert not lost.of(f"n{2 * LOST_NAMES - 1}")


async def test_what_is_in_use_is_known_whichever_command_is_first(rig: Rig) -> None:
    """REQUEST SENSE takes the attention that sends the first command here; what follows must not be native before it is seen."""
    session, conn = rig.login()
    await lun_of_new(rig, "v")
    await said(rig, session, conn, bytes([3, 0, 0, 0, 18, 0]))
    assert rig.reactor.luns[session.number, 0][1] & LUNF_SLOW
    assert rig.table.users(1) == []
    await said(rig, session, conn, bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]))
    assert rig.table.users(1) == [session]
    assert not rig.reactor.luns[session.number, 0][1] & LUNF_SLOW


async def test_what_is_in_use_is_not_destroyed_unasked(rig: Rig) -> None:
    session, conn = rig.login()
    run = rig.daemon.commands.run
    await lun_of_new(rig, "v")
    await run("snapshot", {"names": ["v@s"]})
    await lun_of_new(rig, "w")
    await run("host_create", {"name": "h", "initiators": [OTHER]})
    await settle(rig, session, conn)
    await settle(rig, session, conn, 1)
    who = f"in use by {IQN} from 127.0.0.1; "
    for name, args, lost in (
            ("delete", {"names": ["v"]}, "--force deletes it"),
            ("revert", {"name": "v@s"}, "--force reverts it under them, what was written to it since v@s was taken is lost"),
            ("revert", {"name": "v@s", "safety": "t"}, "--force reverts it under them, v@t keeps what it holds now"),
            ("resize", {"name": "v", "size_bytes": 4096}, "--force cuts it to 4K, and its last 1020K are lost"),
            ("disconnect", {"name": "v"}, "--force takes it from them"),
            ("host_change", {"name": "h", "add": [IQN.upper()]}, "--force gives them the LUNs of h"),
            ("set", {"name": "v", "physical_block_bytes": 512}, "its physical block changes under no host")):
        if name == "host_change":
            await run("connect", {"name": "w", "host": "h", "lun": 0})     # which everyone's LUN 0 is not
        before = dict(rig.native._kv), rig.native.objects()
        with pytest.raises(LunetteError) as refused:
            await run(name, args)
        assert refused.value.code == "in_use"
        assert who + lost in str(refused.value)
        assert (dict(rig.native._kv), rig.native.objects()) == before
    await run("resize", {"name": "v", "size_bytes": 2 << 20})              # nothing is lost by that
    await run("host_change", {"name": "h", "add": [IQN], "force": True})
    assert rig.seen(session) == {0: 3, 1: 3}
    with pytest.raises(LunetteError, match=f"w is {who}--force makes LUN 1 v@s for them"):
        await run("connect", {"name": "v@s", "host": "h", "lun": 1})
    await run("connect", {"name": "v@s", "host": "h", "lun": 1, "force": True})
    assert rig.seen(session) == {0: 3, 1: 2}
