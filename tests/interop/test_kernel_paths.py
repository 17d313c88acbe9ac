"""The kernel's initiator by two paths: a cable that is pulled, reservations of each path, a daemon that is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.guest import Guest, GuestError
from tests.support.kernel_initiator import UNPINGED, Node, Verifying, start_multipath, wait_for_paths

EXCLUSIVE, REGISTRANTS_ONLY = 1, 5


def by_two_paths(daemon: DaemonProcess, guest: Guest, settings: Mapping[str, str] = MappingProxyType({})) -> tuple[Node, Node]:
    """One volume."""
    daemon.cli("create", "v", "--size", "256M")
    nodes = Node(guest, daemon, 0), Node(guest, daemon, 1)
    for node in nodes:
        node.login({"node.session.timeo.replacement_timeout": "1", **settings})
    return nodes


def test_io_goes_on_when_one_of_two_paths_is_lost(daemon: DaemonProcess, guest: Guest) -> None:
    by_two_paths(daemon, guest)
    disk = start_multipath(guest, paths=2)
    verifying = Verifying(guest, disk)
    guest.unplug(1)
    wait_for_paths(guest, 1)
    verifying.wait_for_a_round()
    guest.plug(1)
    wait_for_paths(guest, 2)
    verifying.finish()


def test_reservations_belong_to_a_path_and_outlive_a_restart(daemon: DaemonProcess, guest: Guest) -> None:
    first, second = (node.disk(0) for node in by_two_paths(daemon, guest, UNPINGED))

    def reserve(disk: str, *args: str) -> str:
        return guest.run(f"sg_persist --no-inquiry --out {' '.join(args)} {disk} 2>&1")

    def write(disk: str) -> str:
        return guest.run(f"dd if=/dev/zero of={disk} bs=4k count=1 oflag=direct 2>&1")

    reserve(first, "--register", "--param-sark=0xa", "--param-aptpl")
    reserve(first, "--reserve", "--param-rk=0xa", f"--prout-type={EXCLUSIVE}")
    write(first)
    with pytest.raises(GuestError, match="status 1"):
        write(second)
    daemon.restart(signal.SIGKILL)
    guest.wait_for(f"sg_persist --no-inquiry --in --read-reservation {second} | grep 0xa")
    with pytest.raises(GuestError, match="status 1"):
        write(second)
    guest.wait_for(f"dd if=/dev/zero of={first} bs=4k count=1 oflag=direct 2>&1")
    reserve(second, "--register", "--param-sark=0xb")
    reserve(second, "--preempt", "--param-rk=0xb", "--param-sark=0xa", f"--prout-type={REGISTRANTS_ONLY}")
    write(second)
    with pytest.raises(GuestError, match="status 1"):
        write(first)
    reserve(first, "--register", "--param-sark=0xc")
    write(first)


def test_a_killed_daemon_costs_the_guest_nothing_but_time(daemon: DaemonProcess, guest: Guest) -> None:
    daemon.cli("create", "v", "--size", "256M")
    node = Node(guest, daemon)
    node.login()
    verifying = Verifying(guest, node.disk(0))
    for _ in range(2):
        time.sleep(0.5)     # into a round
        daemon.restart(signal.SIGKILL)
        guest.wait_for("iscsiadm -m session -P 1 | grep 'Session State: LOGGED_IN'")
    verifying.finish()
    node.logout()
    daemon.stop()
    assert "clean" in daemon.check()
