"""Many sessions of one name, dead ones among them, connections that do not log in, and what the log says of all of it."""

from __future__ import annotations

import re
import socket
import time

import pytest

from target.iscsi.codes import LoginStatus
from target.iscsi.pdu import NopIn, NopOut
from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess, logged
from tests.support.session import Connection
from tests.support.waiting import PATIENCE_SECONDS

HOST = "iqn.2026-11.test:host"


def enter(daemon: DaemonProcess, number: int, name: str = HOST) -> Connection:
    return Connection(daemon.port, daemon.target, name=name, isid=b"\x80" + number.to_bytes(5, "big"))


def test_a_host_has_a_session_a_disk(start: Start) -> None:
    daemon = start()
    held = [enter(daemon, number) for number in range(300)]
    assert {each.login_response.status for each in held} == {LoginStatus.SUCCESS}
    assert daemon.stats()["sessions"] == 300
    for each in held:
        each.close()


@pytest.mark.parametrize("limit", ["--max-sessions-per-initiator", "--max-sessions"])
def test_dead_sessions_keep_nobody_out(start: Start, limit: str) -> None:
    """None of them answers: the ninth login waits until that is known, which takes a tenth of a keepalive's time."""
    daemon = start(limit, "8")
    dead = [enter(daemon, number) for number in range(8)]
    fresh = enter(daemon, 8)
    assert fresh.login_response.status == LoginStatus.SUCCESS
    assert logged(daemon, "did not answer a probe")
    assert all(each.closed() for each in dead[:6])     # who came while they were looked for was not asked


def test_sessions_that_live_are_kept_and_the_limit_is_said(start: Start) -> None:
    daemon = start("--max-sessions-per-initiator", "2")
    held = [enter(daemon, number) for number in range(2)]
    for each in held:
        ping = each.receive(NopIn)
        each.send(NopOut(immediate=True, target_transfer_tag=ping.target_transfer_tag, lun=ping.lun, cmd_sn=2))
    another = enter(daemon, 100, "iqn.2026-11.test:other")
    assert another.login_response.status == LoginStatus.SUCCESS
    deadline = time.monotonic() + 20
    while (refused := enter(daemon, 2)).login_response.status == LoginStatus.SUCCESS and time.monotonic() < deadline:
        refused.close()
    assert refused.login_response.status == LoginStatus.OUT_OF_RESOURCES
    assert "0302h" in logged(daemon, "as many sessions as there may be")


def test_who_does_not_log_in_locks_nobody_out(start: Start) -> None:
    daemon = start()
    silent = [socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE_SECONDS) for _ in range(300)]
    one = enter(daemon, 0)
    assert one.login_response.status == LoginStatus.SUCCESS
    assert logged(daemon, "refused 127.0.0.1: too many of its connections do not log in")
    assert daemon.stats()["connections"] <= 257
    for each in silent:
        each.close()


def test_a_default_start_says_who_comes_and_who_is_refused_and_why(start: Start) -> None:
    daemon = start(open_access=False, verbose=False)
    secret = daemon.directory / "secret"
    secret.write_text("a secret of ours")
    daemon.cli("host", "create", "one", HOST)
    daemon.cli("host", "create", "two", "iqn.2026-11.test:two", "--secret-file", str(secret))
    one = enter(daemon, 0)
    line = logged(daemon, f"session of {HOST} from 127.0.0.1 begins")
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} \S+ INFO: ", line)
    one.close()
    assert "peer" in logged(daemon, f"session of {HOST} from 127.0.0.1 ended")
    for name, why in (("iqn.2026-11.test:two", "its host has a CHAP secret"), ("iqn.2026-11.test:no", "it belongs to no host"),
                      ("iqn.2026-11.test:a\u3002b", r"U\+3002")):
        enter(daemon, 0, name).close()
        assert "WARNING" in logged(daemon, f"refused 127.0.0.1: login status 02.*{why}")
    Connection(daemon.port, "iqn.2026-11.test:elsewhere", name=HOST).close()
    assert logged(daemon, f"0203h, {HOST}: there is no target iqn.2026-11.test:elsewhere")
    assert "a secret of ours" not in daemon.log.read_text()
