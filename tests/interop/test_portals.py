"""Several portals, IPv6, many sessions and connection floods (RFC 7143 §4.3)."""

from __future__ import annotations

import socket

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess, free_port
from tests.support.libiscsi import GOOD, Initiator, discover

pytestmark = pytest.mark.needs("libiscsi")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_one_target_through_two_portals(start: Start) -> None:
    ports = [free_port(), free_port()]
    daemon = start(listen=tuple(f"127.0.0.1:{port}" for port in ports))
    daemon.cli("create", "v", "--size", "64M")
    found = discover(f"127.0.0.1:{ports[0]}")
    assert sorted(found[daemon.target]) == sorted(f"127.0.0.1:{port},1" for port in ports)
    with (Initiator(f"127.0.0.1:{ports[0]}", daemon.target, isid=1) as one,
          Initiator(f"127.0.0.1:{ports[1]}", daemon.target, isid=2) as two):
        one.settle()
        two.settle()
        one.write(0, 0, b"x" * 512)
        assert two.read(0, 0, 1).data == b"x" * 512
        assert one.inquiry(0, 0x83) == two.inquiry(0, 0x83)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_ipv6(start: Start) -> None:
    port = free_port()
    daemon = start(listen=(f"[::1]:{port}",))
    daemon.cli("create", "v", "--size", "64M")
    assert discover(f"[::1]:{port}") == {daemon.target: [f"[::1]:{port},1"]}
    with Initiator(f"[::1]:{port}", daemon.target) as initiator:
        initiator.settle()
        assert initiator.write(0, 0, b"x" * 512).status == GOOD


def test_many_sessions_at_once(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    sessions = [Initiator(daemon.portal, daemon.target, f"iqn.2026-01.test:{i}", isid=i + 1) for i in range(32)]
    for block, each in enumerate(sessions):
        each.settle()
        assert each.write(0, block, block.to_bytes(2) * 256).status == GOOD
    for block, each in enumerate(reversed(sessions)):
        assert each.read(0, block, 1).data == block.to_bytes(2) * 256
    assert daemon.stats()["sessions"] == 32
    for each in sessions:
        each.drop()


def test_silent_connections_are_bounded_and_do_no_harm(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with Initiator(daemon.portal, daemon.target) as initiator:
        initiator.settle()
        flood = [socket.create_connection(("127.0.0.1", daemon.port), timeout=10) for _ in range(400)]
        assert initiator.write(0, 0, b"x" * 512).status == GOOD
        assert daemon.stats()["connections"] <= 256
        for each in flood:
            each.close()
        assert initiator.read(0, 0, 1).data == b"x" * 512
    with Initiator(daemon.portal, daemon.target) as again:
        assert again.luns() == [0]
