"""What a host knows of its LUNs, and what becomes of a number that it knows."""

from __future__ import annotations

import pytest

from target.errors import LunetteError
from target.scsi.lun import encode
from target.server.iscsi.dataplane import LUNF_SLOW, ClosedEvent
from target.server.iscsi.inventory import LOST_LUNS, LOST_NAMES, LOST_SECONDS, Lost
from target.server.iscsi.nexus import NexusSession
from tests.support.session_rig import IQN, OTHER, Rig, command
from tests.support.waiting import eventually

REPORT_LUNS = bytes([0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0])
INQUIRY = bytes([0x12, 0, 0, 0, 96, 0])


async def said(rig: Rig, session: NexusSession, conn: int, cdb: bytes, lun: int = 0) -> tuple[int, bytes]:
    """A command's status and sense."""
    before = len(rig.reactor.called("complete"))
    one = command(session, conn, before + 1000, cdb)
    rig.reactor.post(one._replace(lun=lun, bhs=bytes(8) + encode(lun).to_bytes(8)))
    await eventually(lambda: len(rig.reactor.called("complete")) > before)
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
        await eventually(lambda ended=session: ended.ended)
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
            await eventually(lambda ended=session: ended.ended)
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
