"""A gateway that waits shows the pool's LUNs in standby, by what the owner told and nothing older (docs/ceph.md, Standby)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.ceph.conftest import Images
from tests.ceph.test_gateways import standby
from tests.interop.test_reservations import CONFLICT, REGISTER, RESERVE, WRITE_EXCLUSIVE, held_type, keys, reserve_out
from tests.support import libiscsi
from tests.support.daemon import DaemonProcess
from tests.support.libiscsi import CHECK_CONDITION, GOOD, Answer, Initiator, InitiatorError

pytestmark = pytest.mark.skipif(libiscsi.lib is None, reason="libiscsi is not installed (make clients)")
OPTIMIZED, STANDBY, UNAVAILABLE = 0, 2, 3
NAME = "iqn.2026-01.test:a"
BUSY = 0x08
INQUIRY = bytes.fromhex("120000006000")


def pair(images: Images) -> tuple[DaemonProcess, DaemonProcess]:
    """A gateway that serves by portal group 1, and one that waits with group 2."""
    first = images.gateway("--lease", "4").start()
    second = images.another(first)
    second.portal += ",2"
    second.listen = (second.portal,)
    first.cli("create", "v", "--size", "16M")
    standby(second)
    return first, second


def address(daemon: DaemonProcess) -> str:
    return daemon.portal.partition(",")[0]


def enter(daemon: DaemonProcess) -> Initiator:
    """Log in, however long it takes until the gateway answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return Initiator(address(daemon), daemon.target, NAME)
        except InitiatorError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def states(initiator: Initiator) -> dict[int, int]:
    """REPORT TARGET PORT GROUPS."""
    data = initiator.command(0, bytes.fromhex("a30a000000000000ffff0000"), read=4096).data
    return {int.from_bytes(data[at + 2:at + 4]): data[at] & 0x0F for at in range(4, 4 + int.from_bytes(data[:4]), 12)}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def refused(answer: Answer) -> bool:
    """NOT READY, target port in standby state."""
    return (answer.status, answer.key, answer.asc) == (CHECK_CONDITION, 2, 0x040B)


def holder(initiator: Initiator) -> tuple[int, int]:
    """Key and relative target port of who holds the reservation, by READ FULL STATUS."""
    data = initiator.command(0, bytes.fromhex("5e030000000000040000"), read=1024).data
    at = 8
    while not data[at + 12] & 0x01:
        at += 24 + int.from_bytes(data[at + 20:at + 24])
    return int.from_bytes(data[at:at + 8]), int.from_bytes(data[at + 18:at + 20])


def capacity(initiator: Initiator) -> int:
    return initiator.capacity(0)[0] * 512


def mode_sense(initiator: Initiator) -> bytes:
    return initiator.command(0, bytes.fromhex("1a083f00ff00"), read=255).data


def test_both_gateways_show_the_same_units_and_each_other(images: Images) -> None:
    first, second = pair(images)
    active, waiting = enter(first), enter(second)
    assert active.settle()[0] == waiting.settle()[0] == 0x2900          # 2Ah/06h when the other one is there
    assert active.inquiry(0, 0x80) == waiting.inquiry(0, 0x80)
    assert active.inquiry(0, 0x83)[:24] == waiting.inquiry(0, 0x83)[:24]                # the unit, before its ports
    assert (capacity(waiting), mode_sense(waiting)) == (capacity(active), mode_sense(active))
    for answer in (waiting.command(0, bytes(6)), waiting.read(0, 0, 1), waiting.write(0, 0, bytes(512)),
                   waiting.command(0, bytes.fromhex("160000000000"))):
        assert refused(answer)
    until(lambda: states(active) == {1: OPTIMIZED, 2: STANDBY})
    assert states(waiting) == {1: OPTIMIZED, 2: STANDBY}
    # what the owner answers, the other knows
    first.cli("create", "w", "--size", "32M")
    assert 0x3F0E in waiting.settle()
    assert waiting.luns() == active.luns() == [0, 1]
    first.cli("resize", "v", "24M")
    assert 0x2A09 in waiting.settle()
    assert capacity(waiting) == 24 << 20
    first.cli("delete", "w")
    assert waiting.luns() == [0]
    # nobody serves: there is no path to it, and what is told stays true until somebody comes
    first.stop()
    until(lambda: states(waiting) == {1: UNAVAILABLE, 2: STANDBY})
    assert capacity(waiting) == 24 << 20
    assert second.cli("gateway", "takeover") == "serving\n"
    waiting.drop()
    again = enter(second)
    assert again.settle() == [0x2900]
    assert again.write(0, 0, bytes(512)).status == GOOD
    assert states(again) == {2: OPTIMIZED}
    second.stop()
    assert "clean" in second.check()


def test_who_may_log_in_is_known_as_soon_as_it_is_said(images: Images) -> None:
    first, second = pair(images)
    for daemon in (first, second):
        daemon.options.remove("--open")
    first.restart()
    second.stop()
    standby(second)
    first.cli("host", "create", "h", NAME)
    first.cli("connect", "v", "--host", "h")
    with enter(second) as waiting:
        waiting.settle()
        assert waiting.luns() == [1]            # the next number after everyone's
    with pytest.raises(InitiatorError):
        Initiator(address(second), second.target, "iqn.2026-01.test:b")
    first.cli("host", "delete", "h", "--force")
    with pytest.raises(InitiatorError):
        Initiator(address(second), second.target, NAME)
    second.stop()


def test_a_gateway_that_has_given_its_pool_up_shows_it_in_standby(images: Images) -> None:
    first, second = pair(images)
    enter(second).drop()
    active = enter(first)
    active.settle()
    assert reserve_out(active, REGISTER, new=0xA).status == GOOD
    assert "in standby" in first.cli("gateway", "move", "--then", str(second.api))
    before, after = enter(first), enter(second)
    before.settle()
    after.settle()
    assert refused(before.command(0, bytes(6)))
    assert after.command(0, bytes(6)).status == GOOD
    assert keys(after) == [0xA]
    until(lambda: states(after) == states(before) == {1: STANDBY, 2: OPTIMIZED})
    first.stop()
    second.stop()
    assert "clean" in second.check()


def test_reservations_are_made_and_read_by_either_path_and_kept(images: Images) -> None:
    first, second = pair(images)
    active, waiting = enter(first), enter(second)
    until(lambda: states(active) == states(waiting) == {1: OPTIMIZED, 2: STANDBY})        # told by a unit attention
    active.settle()
    waiting.settle()
    assert reserve_out(active, REGISTER, new=0xA).status == GOOD
    assert reserve_out(waiting, REGISTER, new=0xB).status == GOOD
    assert sorted(keys(active)) == sorted(keys(waiting)) == [0xA, 0xB]
    assert reserve_out(waiting, REGISTER, key=0xC, new=0xD).status == CONFLICT
    assert reserve_out(waiting, RESERVE, key=0xB, kind=WRITE_EXCLUSIVE).status == GOOD
    assert active.write(0, 0, bytes(512)).status == CONFLICT
    assert held_type(active) == held_type(waiting) == WRITE_EXCLUSIVE
    assert refused(waiting.write(0, 0, bytes(512)))
    assert second.cli("gateway", "takeover") == "serving\n"
    again = enter(second)
    again.settle()
    assert sorted(keys(again)) == [0xA, 0xB]
    assert holder(again) == (0xB, 2)
    assert again.write(0, 0, bytes(512)).status == GOOD             # the same initiator port, and now this port serves
    second.stop()
    assert "clean" in second.check()


def test_what_another_owner_told_is_worth_nothing(images: Images) -> None:
    """An owner that tells nothing has come since: the gateway that waits says nothing, not what it knew."""
    first, second = pair(images)
    waiting = enter(second)
    waiting.settle()
    first.stop()
    first.cli("pool", "new-identity", str(first.pool))
    assert waiting.command(0, INQUIRY, read=96).status == BUSY
    assert waiting.command(0, bytes(6)).status == BUSY
    second.stop()


def test_of_two_that_wait_with_one_group_one_is_seen(images: Images) -> None:
    first, second = pair(images)
    enter(second).drop()
    third = images.another(second)
    third.portal += ",2"
    third.listen = (third.portal,)
    standby(third)
    time.sleep(3)
    with pytest.raises(InitiatorError):
        Initiator(address(third), third.target, NAME)
    second.stop()
    enter(third).drop()
    third.stop()
    first.stop()


def test_what_cannot_be_told_is_not_told_wrongly(images: Images) -> None:
    """The cluster is full: the table goes, and whoever waits shows nothing; it comes back with the room."""
    first, second = pair(images)
    waiting = enter(second)
    waiting.settle()
    images.cluster.fill(True)
    try:
        first.cli("delete", "v", "--force")
        assert waiting.command(0, INQUIRY, read=96).status in (GOOD, BUSY)
        assert waiting.luns() == []
    finally:
        images.cluster.fill(False)
    until(lambda: waiting.command(0, INQUIRY, read=96).status == GOOD)
    assert waiting.luns() == []
    second.stop()
    first.stop()
