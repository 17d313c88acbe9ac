"""Portals in two groups: each a target port of its own, whose access state holds on the native path too (SPC-4 §5.11)."""

from __future__ import annotations

import signal

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess, Refused, free_port
from tests.support.libiscsi import GOOD, Answer, Initiator, discover

pytestmark = pytest.mark.needs("libiscsi")

NOT_READY = {"standby": 0x040B, "unavailable": 0x040C, "transitioning": 0x040A}


def two_groups(start: Start) -> tuple[DaemonProcess, list[int]]:
    ports = [free_port(), free_port()]
    daemon = start(listen=(f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]},2"))
    daemon.cli("create", "v", "--size", "64M")
    return daemon, ports


def by(daemon: DaemonProcess, port: int) -> Initiator:
    initiator = Initiator(f"127.0.0.1:{port}", daemon.target, isid=1)
    initiator.settle()
    return initiator


def states(initiator: Initiator) -> dict[int, int]:
    data = initiator.command(0, bytes.fromhex("a30a00000000000004000000"), read=1024).data
    return {int.from_bytes(data[at + 2:at + 4], "big"): data[at] & 15 for at in range(4, len(data), 12)}


def settled(answer: Answer, initiator: Initiator) -> Answer:
    """The answer after the unit attention that announces it."""
    assert (answer.key, answer.asc) == (6, 0x2A06)
    return initiator.read(0, 0, 1)


def test_a_group_is_a_port_of_its_own(start: Start) -> None:
    daemon, ports = two_groups(start)
    found = discover(f"127.0.0.1:{ports[1]}")
    assert sorted(found[daemon.target]) == sorted((f"127.0.0.1:{ports[0]},1", f"127.0.0.1:{ports[1]},2"))
    with by(daemon, ports[0]) as one, by(daemon, ports[1]) as two:  # the same ISID: two nexuses, no reinstatement
        assert two.write(0, 0, b"x" * 512).status == GOOD
        assert one.read(0, 0, 1).data == b"x" * 512
        assert states(one) == states(two) == {1: 0, 2: 0}
        assert b",t,0x0001" in one.inquiry(0, 0x83)
        assert b",t,0x0002" in two.inquiry(0, 0x83)
        assert one.inquiry(0, 0x83)[:60] == two.inquiry(0, 0x83)[:60]  # the unit is the same


def test_a_state_holds_for_its_group_only_and_survives(start: Start) -> None:
    daemon, ports = two_groups(start)
    with by(daemon, ports[0]) as one, by(daemon, ports[1]) as two:
        for state, asc in NOT_READY.items():
            daemon.cli("target", "group", "2", state)
            refused = settled(two.read(0, 0, 1), two)
            assert (refused.key, refused.asc) == (2, asc)
            assert two.write(0, 0, b"y" * 512).asc == asc
            assert len(two.inquiry(0)) >= 36
            assert settled(one.read(0, 0, 1), one).status == GOOD
        daemon.cli("target", "group", "2", "non-optimized")
        assert settled(two.read(0, 0, 1), two).status == GOOD
        assert settled(one.read(0, 0, 1), one).status == GOOD
        assert states(one) == {1: 0, 2: 1}
    daemon.cli("target", "group", "1", "standby")
    daemon.cli("target", "group", "2", "transitioning")
    daemon.restart(signal.SIGKILL)
    with by(daemon, ports[1]) as two:
        assert states(two) == {1: 2, 2: 1}
        assert f"127.0.0.1:{ports[0]} group 1 standby" in daemon.cli("target", "show")
        assert two.read(0, 0, 1).status == GOOD


def test_the_only_way_to_what_is_open_is_not_cut_unasked(start: Start) -> None:
    daemon, ports = two_groups(start)
    with by(daemon, ports[1]) as two:
        assert two.read(0, 0, 1).status == GOOD
        for state in NOT_READY:
            with pytest.raises(Refused, match=r"v is in use by .*; group 2 is their only way to it: --force cuts it"):
                daemon.cli("target", "group", "2", state)
        with by(daemon, ports[0]) as one:
            daemon.cli("target", "group", "2", "standby")      # there is another way
            assert settled(one.read(0, 0, 1), one).status == GOOD
            with pytest.raises(Refused, match="group 1 is their only way"):
                daemon.cli("target", "group", "1", "standby")
            daemon.cli("target", "group", "1", "standby", "--force")
            assert settled(one.read(0, 0, 1), one).asc == NOT_READY["standby"]
            daemon.cli("target", "group", "1", "unavailable")  # nothing more is lost


def test_a_quota_below_what_is_mapped_is_not_set_under_a_host_unasked(start: Start) -> None:
    daemon, ports = two_groups(start)
    with by(daemon, ports[0]) as one:
        assert one.write(0, 0, b"q" * (1 << 18)).status == GOOD
        daemon.cli("set", "v", "--quota", "1M")
        with pytest.raises(Refused, match=r"v is in use by .* more than a quota of"):
            daemon.cli("set", "v", "--quota", "64K")
        daemon.cli("set", "v", "--quota", "64K", "--force")
        daemon.cli("set", "v", "--quota", "0")


def test_what_is_no_group(start: Start) -> None:
    daemon, _ = two_groups(start)
    with pytest.raises(Refused, match="no portal is in group 3"):
        daemon.cli("target", "group", "3", "standby")
