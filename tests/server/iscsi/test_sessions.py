"""The session table on a reactor that only records: logins, hand-over, LUN tables, logouts, ends."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest

from target.errors import LunetteError
from target.iscsi import LoginPolicy, SessionType
from target.iscsi.session import Admission
from target.server.iscsi.dataplane import LUNF_RO, LUNF_SLOW, ClosedEvent, SessionClosedEvent
from tests.support.session_rig import IQN, OTHER, Rig, command
from tests.support.waiting import PATIENCE_SECONDS, eventually


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
    await eventually(lambda: bool(rig.reactor.called("complete")))
    rig.reactor.calls.clear()
    assert rig.reactor.luns[new.number, 0][1] & LUNF_SLOW
    assert not rig.reactor.luns[other.number, 0][1] & LUNF_SLOW
    write = bytes([0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    rig.reactor.post(command(new, conn, 1, write, b"n" * 512))
    rig.reactor.post(command(new, conn, 2, write, b"m" * 512))
    rig.reactor.post(command(new, conn, 3, bytes(6)))
    rig.reactor.post(command(other, other_conn, 4, write, b"o" * 512))
    await eventually(lambda: len(rig.reactor.called("complete")) >= 2)
    await asyncio.sleep(0.05)
    assert {each[1] for each in rig.reactor.called("complete")} == {3, 4}
    fenced = asyncio.create_task(rig.table.abort(object_id=1, exclude=new))   # as a reset by somebody else does
    aborted = asyncio.create_task(rig.table.abort([new], itt=2))              # what waits is aborted at once
    await asyncio.wait_for(aborted, PATIENCE_SECONDS)
    assert not fenced.done()
    rig.reactor.post(SessionClosedEvent(old.number))
    await asyncio.wait_for(fenced, PATIENCE_SECONDS)
    await eventually(lambda: len(rig.reactor.called("complete")) >= 3)
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
    await eventually(lambda: not rig.table.draining.busy(IQN))
    await asyncio.sleep(0.05)
    assert {5, 6}.isdisjoint(each[1] for each in rig.reactor.called("complete"))


async def test_a_closed_connection_ends_its_session(rig: Rig) -> None:
    session, conn = rig.login()
    rig.reactor.post(ClosedEvent(session.number, conn, "peer", ""))
    await eventually(lambda: not rig.table.sessions())
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
    await eventually(lambda: session.session.cids == {0})
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
    await eventually(lambda: conn not in session.connections)
    assert session.session.cids == {0}
    assert not session.ended


async def test_logout_is_asked_for_on_every_connection(rig: Rig) -> None:
    _, one = rig.login()
    _, two = rig.login("iqn.2026-01.test:b")
    rig.table.ask_for_logout(3)
    assert [(call[1], call[2]) for call in rig.reactor.called("send_pdu")] == [(one, 0x32), (two, 0x32)]
