"""The daemon as a service: what it tells its manager, how it logs there, and the units that are shipped (packaging/systemd)."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from target.cli.serve import read_config, serve
from target.server.logs import JournalFormatter, JsonFormatter, formatter
from target.server.notify import Notifier
from tests.support.daemon import DaemonProcess
from tests.support.waiting import PATIENCE_SECONDS

PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = ("lunette.service", "lunette@.service")
MOST_EXPOSED = 2.0      # of 10; what is below is called "safe", or at least "ok"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What plays systemd: a datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE_SECONDS)
        yield sock


def test_the_watchdog_is_told_twice_in_the_time_it_waits(manager: socket.socket) -> None:
    clock = [0.0]
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "10000000"}
    notifier = Notifier(environment, lambda: clock[0])
    assert environment == {}, "processes of the daemon are not the service"
    notifier.ready("serves")
    assert manager.recv(4096).decode().startswith("READY=1\nSTATUS=serves\nMAINPID=")
    for clock[0] in (0.0, 1.0, 4.9, 5.0, 9.0, 10.0):
        notifier.alive()
    assert [manager.recv(64) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(64)


def test_what_is_not_ready_does_not_become_so_by_reading_its_configuration_again(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    with notifier.reloading():
        notifier.waiting("waits")
    assert manager.recv(4096).startswith(b"STATUS=waits")
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(64)


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_without_a_manager_nothing_is_sent(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(environment)
    notifier.ready("")
    notifier.alive()
    notifier.stopping()
    assert caplog.records == []


def test_a_manager_that_does_not_listen_is_no_reason_to_end(caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": "@lunette-nobody-is-here"}).ready("")
    assert "the service manager cannot be told" in caplog.text


def test_a_daemon_tells_its_manager_all_its_life(manager: socket.socket, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    daemon = DaemonProcess(tmp_path, "--log-json", verbose=False)
    try:
        daemon.start()
        assert "EXTEND_TIMEOUT_USEC" in manager.recv(4096).decode()
        ready = manager.recv(4096).decode().splitlines()
        assert ready[0] == "READY=1"
        assert daemon.process is not None
        assert ready[2] == f"MAINPID={daemon.process.pid}"
        assert [manager.recv(64) for _ in range(2)] == [b"WATCHDOG=1"] * 2
        daemon.process.send_signal(signal.SIGHUP)
        reloads = [told for told in iter(lambda: manager.recv(4096), b"READY=1") if told != b"WATCHDOG=1"]
        assert len(reloads) == 1
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", reloads[0])
        daemon.process.terminate()
        told = b""
        while not told.startswith(b"STOPPING=1"):       # read meanwhile: the socket holds ten
            told = manager.recv(4096)
            assert told == b"WATCHDOG=1" or told.startswith(b"STOPPING=1")
        daemon.stop(signal.SIGTERM)
    finally:
        daemon.close()
    rows = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert any(row["part"] == "lunette.daemon" and row["message"].startswith("ready: ") for row in rows)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["time"]) for row in rows)


# -- logs --------------------------------------------------------------------------------------------------------------

def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("lunette.x", level, "", 0, message, None, None)


def test_the_journal_gets_priorities_and_no_times() -> None:
    shown = JournalFormatter()
    assert shown.format(record(logging.WARNING, "no room")) == "<4>lunette.x: no room"
    assert shown.format(record(logging.ERROR, "a\nb")) == "<3>lunette.x: a\n<3>b"
    assert [shown.format(record(level, ""))[:3] for level in (10, 20, 50)] == ["<7>", "<6>", "<2>"]


def test_json_has_the_traceback_and_stays_one_line() -> None:
    try:
        raise ValueError("x")
    except ValueError:
        made = logging.LogRecord("p", logging.ERROR, "", 0, "a %s", ("b\n",), sys.exc_info())
    line = JsonFormatter().format(made)
    assert "\n" not in line
    row = json.loads(line)
    assert (row["level"], row["part"], row["message"]) == ("error", "p", "a b\n")
    assert "ValueError: x" in row["traceback"]


def test_where_the_lines_go_decides_how_they_look(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        status = (tmp_path / "stderr").stat()
        here = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert isinstance(formatter(as_json=False, stream=stream, environment=here), JournalFormatter)
        assert isinstance(formatter(as_json=True, stream=stream, environment=here), JsonFormatter)
        for other in ({}, {"JOURNAL_STREAM": "1:2"}):
            assert "%(asctime)s" in str(formatter(as_json=False, stream=stream, environment=other)._fmt)
    assert not isinstance(formatter(as_json=False, stream=io.StringIO(), environment=here), JournalFormatter)


# -- what is shipped ---------------------------------------------------------------------------------------------------

def test_the_example_says_what_the_options_say(tmp_path: Path) -> None:
    """As it is, and with every line in it that is commented out."""
    example = (PACKAGING / "lunette.toml").read_text()
    assert set(read_config(serve, str(PACKAGING / "lunette.toml"))) == {"path", "portals"}
    whole = tmp_path / "whole.toml"
    whole.write_text(re.sub(r"(?m)^# ([a-z-]+ = )", r"\1", example))
    assert len(read_config(serve, str(whole))) > 8


def test_units_are_valid_and_confined(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not there: apt-get install systemd")
    for name in UNITS:
        text = (PACKAGING / "systemd" / name).read_text()
        assert "ExecStart=/usr/bin/lunette serve --config /etc/lunette/" in text
        (tmp_path / name).write_text(text.replace("/usr/bin/lunette ", "/bin/true "))
    paths = [str(tmp_path / name) for name in UNITS]
    verified = subprocess.run([analyze, "verify", "--man=no", *paths], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr
    assert "Unknown" not in verified.stderr
    rated = subprocess.run([analyze, "security", "--offline=true", "--no-pager", f"--threshold={int(MOST_EXPOSED * 10)}",
                            paths[0]], capture_output=True, text=True, check=False)
    assert rated.returncode == 0, rated.stdout[-400:]
