"""Starting where the system gives little, and signals that are no wish to stop (docs/operations.md)."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import logged
from tests.support.waiting import PATIENCE_SECONDS


def test_a_terminal_that_hangs_up_does_not_end_the_daemon(start: Start) -> None:
    daemon = start()
    assert daemon.process is not None
    for _ in range(3):
        daemon.process.send_signal(signal.SIGHUP)
    daemon.cli("create", "v", "--size", "1M")
    assert logged(daemon, "the daemon goes on")
    assert daemon.stop() == 0


def test_a_configuration_is_read_again_and_what_came_of_it_is_said(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "lunette.toml"
    file.write_text("max-sessions = 100\nreactors = 1\n")
    daemon = start("--config", str(file))
    assert daemon.process is not None

    file.write_text("max-sessions = 50\nreactors = 2\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert logged(daemon, "SIGHUP: read again; changed: max_sessions 100 -> 50; needs a restart: reactors 1 -> 2")
    file.write_text("max-sessions = many\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert logged(daemon, "SIGHUP: the configuration stays as it was")
    assert daemon.stop() == 0


def refused(directory: Path, *confinement: str) -> str:
    """What `serve` says, in one line, where it is confined so."""
    pool = directory / "t.pool"
    if not pool.exists():
        subprocess.run([sys.executable, "-m", "target", "pool", "create", str(pool), "--size", "256M"], check=True,
                       timeout=PATIENCE_SECONDS)
    done = subprocess.run([*confinement, sys.executable, "-m", "target", "serve", str(pool), "--reactors", "2", "--api",
                           str(directory / "a.sock"), "--listen", "127.0.0.1:0"], capture_output=True, text=True,
                          timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (directory / "a.sock").exists()
    return done.stderr


@pytest.mark.parametrize(("what", "named", "remedy"), [
    ("io_uring", "io_uring is forbidden", "seccomp profile"), ("threads", "no thread can be started", "TasksMax=")])
def test_what_a_container_forbids_is_named_with_its_remedy(tmp_path: Path, what: str, named: str, remedy: str) -> None:
    said = refused(tmp_path, sys.executable, "-m", "tests.support.confined", what)
    assert named in said
    assert remedy in said
    assert subprocess.run([sys.executable, "-m", "target", "pool", "check", str(tmp_path / "t.pool")], check=False,
                          timeout=PATIENCE_SECONDS).returncode == 0


@pytest.mark.parametrize("hard", [64, 1024, 4096])
def test_too_few_open_files_are_named_with_the_remedy(tmp_path: Path, hard: int) -> None:
    said = refused(tmp_path, "prlimit", f"--nofile={min(hard, 256)}:{hard}")
    assert f"the hard limit of open files (nofile) is {hard}, and the daemon needs 4608" in said
    assert "LimitNOFILE=" in said


def test_the_soft_limit_of_open_files_is_raised(start: Start) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    daemon = start()
    assert daemon.process is not None
    soft, _ = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    assert soft >= min(hard, 65536)
