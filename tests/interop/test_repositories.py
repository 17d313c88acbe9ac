"""Backups by the command line, on a real daemon: the commands of the documents, and kill -9 in the midst of them."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from target.client import Client
from tests.interop.test_tools import run
from tests.support.daemon import DaemonProcess, Refused
from tests.support.places import pool_directory
from tests.support.waiting import PATIENCE_SECONDS, until

DOCS = Path(__file__).parents[2] / "docs"
MIB = 1 << 20
DATA = 96 * MIB


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A volume `db` with data and holes."""
    with pool_directory(tmp_path_factory.mktemp("repositories")) as place:
        made = DaemonProcess(place, size="2G").start()
        image = place / "image"
        with image.open("wb") as file:
            file.write(random.Random(5).randbytes(DATA))
            file.truncate(DATA + 64 * MIB)
        made.cli("create", "db", "--size", f"{(DATA >> 20) + 64}M")
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, made.url("db"))
        yield made
        made.close()


def commands_of(page: str) -> list[str]:
    """The lines of the first block of commands of a page."""
    block = re.search(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    return [line.split("  #")[0].strip() for line in block[1].splitlines()]


def begin(daemon: DaemonProcess, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "target", "--api", str(daemon.api), *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def stopped(daemon: DaemonProcess, command: tuple[str, ...], begun: Callable[[], Any], ended: Callable[[], Any],
            undo: Callable[[], Any]) -> subprocess.Popen[str]:
    """A command that is stopped in the midst of its work. One that is quicker than who looks is undone and begun again."""
    for _ in range(50):
        process = begin(daemon, *command)
        until(lambda: begun() or process.poll() is not None)        # noqa: B023
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if process.poll() is None and not ended():
            return process
        process.send_signal(signal.SIGCONT)
        _, error = process.communicate()
        assert process.returncode == 0, error
        undo()
    raise AssertionError(f"{command} is never seen at work")


def used_bytes(daemon: DaemonProcess) -> int:
    return int(Client(str(daemon.api)).get("/v1/pool")["used_bytes"])


def backups(daemon: DaemonProcess, name: str) -> list[str]:
    return [row["name"] for row in json.loads(daemon.cli("repo", "ls", name, "--json"))]


@pytest.mark.needs("qemu-img")
def test_the_commands_of_the_page_do_what_it_says(daemon: DaemonProcess, tmp_path: Path) -> None:
    places = {"/srv/attic": str(tmp_path / "attic"), "/etc/lunette/attic.key": str(tmp_path / "attic.key")}
    lines = commands_of("repositories.md")
    assert len(lines) > 8
    for line in lines:
        words = [places.get(word, word) for word in shlex.split(line)]
        assert words.pop(0) == "lunette"
        daemon.cli(*words)
        if words[0] == "restore":
            daemon.cli("connect", "db@monday")
            run("qemu-img", "compare", "-f", "raw", "-F", "raw", daemon.url("db@monday"), daemon.url("db-old"))
            daemon.cli("disconnect", "db@monday")
    assert backups(daemon, "attic") == ["db@tuesday"]
    jobs = json.loads(daemon.cli("jobs", "--all", "--json"))
    assert {row["state"] for row in jobs} == {"done"}
    assert {"backup", "verify", "check", "gc"} <= {row["kind"] for row in jobs}
    (known,) = json.loads(daemon.cli("repo", "ls", "--json"))
    assert known == {"name": "attic", "url": places["/srv/attic"], "key_file": places["/etc/lunette/attic.key"]}
    key = Path(places["/etc/lunette/attic.key"]).read_text().strip().partition(":")[2]
    assert key not in daemon.log.read_text() + daemon.cli("repo", "ls") + daemon.cli("repo", "ls", "attic")
    for args, why in ((("backup", "db", "--repo", "attic"), "is no snapshot"),
                      (("backup", "db@x", "--repo", "attic"), "no 'db@x'"), (("restore", "attic", "new"), "is no backup"),
                      (("restore", "attic:db@monday", "new"), "has no 'db@monday'"),
                      (("repo", "check", "cellar"), "no repository cellar"), (("repo", "add", "attic", "/x"), "attic already"),
                      (("repo", "add", "b", "s3://k:s@b/p"), "no credentials")):
        with pytest.raises(Refused, match=why) as refused:
            daemon.cli(*args)
        assert refused.value.message.count("\n") == 1
    os.unlink(places["/etc/lunette/attic.key"])
    with pytest.raises(Refused, match="cannot read the key file"):
        daemon.cli("repo", "ls", "attic")
    daemon.cli("delete", "db-old", "db@monday", "db@tuesday", "--force")
    daemon.cli("repo", "rm", "attic")


@pytest.mark.needs("qemu-img")
def test_kill_9_in_a_backup_leaves_none_and_in_a_restore_no_volume(daemon: DaemonProcess, tmp_path: Path) -> None:
    daemon.cli("repo", "add", "r", str(tmp_path / "r"))
    daemon.cli("snapshot", "db@s")

    def another() -> None:
        daemon.cli("repo", "rm", "r")
        shutil.rmtree(tmp_path / "r")
        daemon.cli("repo", "add", "r", str(tmp_path / "r"))

    process = stopped(daemon, ("backup", "db@s", "--repo", "r"), lambda: list((tmp_path / "r").glob("packs/*/*")),
                      lambda: backups(daemon, "r"), another)
    process.kill()
    process.communicate()
    assert backups(daemon, "r") == []
    assert json.loads(daemon.cli("repo", "check", "r", "--json"))["damage"] == {}
    assert json.loads(daemon.cli("backup", "db@s", "--repo", "r", "--json"))["new_bytes"] >= DATA
    daemon.cli("repo", "check", "r", "--data")

    before = used_bytes(daemon)

    def given_back() -> None:
        until(lambda: used_bytes(daemon) <= before + 2 * MIB)

    def restoring() -> subprocess.Popen[str]:
        return stopped(daemon, ("restore", "r:db@s", "w"), lambda: used_bytes(daemon) > before + 4 * MIB,
                       lambda: "w" in daemon.ls(), lambda: (daemon.cli("delete", "w", "--force"), given_back()))

    process = restoring()
    process.kill()
    process.communicate()
    given_back()
    assert "w" not in daemon.ls()

    process = restoring()
    daemon.stop(signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, error.count("\n")) == (1, 1)
    assert error.startswith(f"lunette: {daemon.api}: ")
    daemon.start()
    assert "w" not in daemon.ls()
    daemon.cli("restore", "r:db@s", "w")
    daemon.cli("connect", "db@s")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", daemon.url("db@s"), daemon.url("w"))
    assert daemon.ls()["w"]["mapped_bytes"] <= DATA + MIB
