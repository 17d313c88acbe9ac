"""Several portals, IPv6, many sessions and connection floods (RFC 7143 §4.3)."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from target.config import Portal
from target.errors import LunetteError
from target.iscsi.codes import LoginStatus
from target.iscsi.pdu import AsyncMessage
from target.iscsi.text import parse_pairs
from target.server.iscsi.portal import open_listener
from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess, Refused, free_port, logged
from tests.support.libiscsi import GOOD, Initiator, discover
from tests.support.session import Connection
from tests.support.waiting import PATIENCE_SECONDS

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
        flood = [socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE_SECONDS) for _ in range(400)]
        assert initiator.write(0, 0, b"x" * 512).status == GOOD
        assert daemon.stats()["connections"] <= 257
        for each in flood:
            each.close()
        assert initiator.read(0, 0, 1).data == b"x" * 512
    with Initiator(daemon.portal, daemon.target) as again:
        assert again.luns() == [0]


ME = "iqn.2026-11.test:mcs"


def login(port: int, target: str, name: str = ME) -> tuple[int, str]:
    """The status of a login by this portal, and the address it is sent to."""
    connection = Connection(port, target, name=name)
    response = connection.login_response
    connection.close()
    return response.status, parse_pairs(response.data).get("TargetAddress", "")


@pytest.mark.needs("iscsi-inq")
def test_logins_are_redirected_and_followed(start: Start) -> None:
    here, there = free_port(), free_port()
    daemon = start(listen=(f"127.0.0.1:{here}", f"127.0.0.1:{there}"))
    daemon.cli("create", "v", "--size", "64M")
    daemon.cli("host", "create", "one", ME)
    old = Connection(here, daemon.target)
    address = f"127.0.0.1:{there},1"
    daemon.cli("target", "redirect", address, "--move")
    assert old.receive(AsyncMessage).async_event == 1
    old.close()
    assert login(here, daemon.target) == (LoginStatus.TARGET_MOVED_TEMPORARILY, address)
    assert login(there, daemon.target)[0] == LoginStatus.SUCCESS
    done = subprocess.run(["iscsi-inq", f"iscsi://127.0.0.1:{here}/{daemon.target}/0"], capture_output=True, text=True,
                          timeout=PATIENCE_SECONDS, check=False)
    assert "LUNETTE" in done.stdout, done.stderr
    daemon.cli("target", "redirect", "san.example.org", "--permanent", "--host", "one")
    daemon.restart()
    for port in (here, there):
        assert login(port, daemon.target) == (LoginStatus.TARGET_MOVED_PERMANENTLY, "san.example.org")
    assert login(here, daemon.target, "iqn.2026-11.test:other") == (LoginStatus.TARGET_MOVED_TEMPORARILY, address)
    assert daemon.cli("target", "show").splitlines()[3:] == [
        f"everyone redirected to {address}", "one redirected to san.example.org for good"]
    daemon.cli("host", "delete", "one")
    daemon.cli("target", "redirect", "--off")
    assert login(here, daemon.target)[0] == LoginStatus.SUCCESS
    for bad in ("", "a b", "10.0.0.256", "[::g]", "x:0", "x:70000", "x,y", "::1"):
        with pytest.raises(Refused, match="is not an address"):
            daemon.cli("target", "redirect", bad)


def test_who_may_not_log_in_is_not_told_where_to_go(start: Start) -> None:
    daemon = start(open_access=False)
    daemon.cli("target", "redirect", "10.0.0.1")
    assert login(daemon.port, daemon.target) == (LoginStatus.AUTHORIZATION_FAILURE, "")


@pytest.mark.parametrize("form", ["\ufb01le", "file", "FILE", "\uff46ile", "f\u00adile", "\ufb01\u200dLE"])
def test_no_form_of_a_name_evades_its_secret(start: Start, form: str, tmp_path: Path) -> None:
    daemon = start()
    (tmp_path / "secret").write_text("a secret of ours\n")
    daemon.cli("host", "create", "files", "iqn.2026-11.test:\ufb01le", "--secret-file", str(tmp_path / "secret"))
    assert login(daemon.port, daemon.target, f"iqn.2026-11.test:{form}")[0] == LoginStatus.AUTHENTICATION_FAILURE
    assert login(daemon.port, daemon.target, "iqn.2026-11.test:a\u3002b")[0] == LoginStatus.INITIATOR_ERROR
    assert login(daemon.port, daemon.target, "iqn.2026-11.test:other")[0] == LoginStatus.SUCCESS


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_the_ipv6_wildcard_takes_both_families(start: Start) -> None:
    port = free_port()
    daemon = start("--force-open", listen=(f"[::]:{port}",))
    assert login(port, daemon.target)[0] == LoginStatus.SUCCESS
    with socket.create_connection(("::1", port), timeout=PATIENCE_SECONDS) as six:
        assert six.getpeername()[1] == port
    logged(daemon, "session of iqn.2026-11.test:mcs from 127.0.0.1 begins")
    both = start("--force-open", listen=(f"[::]:{free_port()}", f"0.0.0.0:{free_port()}"))
    assert both.alive


def test_a_link_local_portal_keeps_its_interface() -> None:
    """The address may be on no interface here: that the bind asks for the right one shows in the error too."""
    with pytest.raises(LunetteError, match=r"cannot listen on \[fe80::1%lo\]"):
        open_listener(Portal("fe80::1%lo", free_port()))
    asked: list[tuple[str, int, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket.bind", lambda self, place: asked.append(place), raising=False)
        open_listener(Portal("fe80::1%lo", 0)).close()
    assert [place[3] for place in asked] == [socket.if_nametoindex("lo")]
