"""What protects data while its pool changes hands: a stream that comes in, mirrors, schedules, a pass of defragmentation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from target.client import Client
from tests.ceph.conftest import Images
from tests.support import libiscsi
from tests.support.daemon import DaemonProcess, free_port
from tests.support.pair import Side, rounds, until

pytestmark = pytest.mark.skipif(libiscsi.lib is None, reason="libiscsi is not installed (make clients)")
MIB = 1 << 20
PIECE = 64 << 10


class Gateway(Side):
    """A side whose pool is an image, and which may be another gateway after a move."""

    def __init__(self, images: Images, name: str) -> None:
        self._images = images
        self.name = name
        self.peer_port = free_port()
        self._use(images.gateway("--lease", "4", "--peer", f"127.0.0.1:{self.peer_port}", size="512M").start())

    def _use(self, daemon: DaemonProcess) -> None:
        self.daemon, self.cli, self.client = daemon, daemon.cli, Client(str(daemon.api))

    def killed_and_taken_over(self) -> None:
        """By another gateway, to which its addresses move."""
        before = self.daemon
        before.stop(signal.SIGKILL)
        self._use(self._images.another(before, "--takeover").start())

    def end(self) -> None:
        self.daemon.stop()
        assert "clean" in self.daemon.check()


def test_a_stream_that_a_takeover_cuts_goes_on_at_the_other_gateway(images: Images, tmp_path: Path) -> None:
    here, there = Gateway(images, "here"), Gateway(images, "there")
    here.cli("create", "v", "--size", "80M")
    for at in range(0, 80 * MIB, MIB):
        here.write("v", at, os.urandom(MIB))
    here.cli("snapshot", "v@1")
    stream = sent(here, tmp_path, "v@1")
    receiving = receive(there, "x")
    assert receiving.stdin is not None
    receiving.stdin.write(stream[:len(stream) * 9 // 10])
    receiving.stdin.flush()
    until(lambda: any(row["received_bytes"] for row in json.loads(there.cli("receive", "x", "--status", "--json"))))
    there.killed_and_taken_over()
    receiving.stdin.close()
    assert receiving.wait() != 0
    left = json.loads(there.cli("receive", "x", "--status", "--json"))       # what was durable, which may be nothing
    rest = sent(here, tmp_path, "--resume", left[0]["token"]) if left else stream
    again = receive(there, "x")
    again.communicate(rest)
    assert again.returncode == 0
    assert there.sha256("x@1") == here.sha256("v@1")
    here.end()
    there.end()


def sent(side: Side, place: Path, *words: str) -> bytes:
    """What `send` writes."""
    path = place / "stream"
    with path.open("wb") as out:
        subprocess.run([sys.executable, "-m", "target", "--api", str(side.daemon.api), "send", "--compress", "none", *words],
                       stdout=out, check=True)
    return path.read_bytes()


def receive(side: Side, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "target", "--api", str(side.daemon.api), "receive", name],
                            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_mirror_goes_on_when_either_side_is_taken_over(images: Images) -> None:
    a, b = Gateway(images, "a"), Gateway(images, "b")
    a.add_peer(b, "send", "receive")
    b.add_peer(a, "send", "receive")
    a.cli("create", "v", "--size", "32M")
    a.cli("mirror", "add", "v", "--to", "b", "--rpo", "300ms")
    rounds(a, "v", 1)
    for number, side in enumerate((a, b, a)):
        for at in range(0, 4 * MIB, PIECE * 4):
            a.write("v", at + number * 4 * MIB, os.urandom(PIECE))
        side.killed_and_taken_over()
        a.write("v", number * 4 * MIB, os.urandom(PIECE))
        rounds(a, "v")
    assert a.sha256("v") == b.sha256("v")
    a.end()
    b.end()


def test_defragmentation_and_schedules_go_on_at_the_other_gateway(images: Images) -> None:
    gateway = Gateway(images, "g")
    gateway.cli("create", "v", "--size", "32M")
    gateway.cli("schedule", "create", "s", "--select", "v", "--cron", "* * * * *", "--keep", "last=3")
    for at in range(0, 32 * MIB, MIB):
        gateway.write("v", at, os.urandom(MIB))
    for number in range(4):
        gateway.cli("snapshot", f"v@{number}")
        for at in range(number * PIECE, 32 * MIB, 8 * PIECE):
            gateway.write("v", at, os.urandom(4096))
    gateway.cli("delete", *(f"v@{number}" for number in range(4)))
    before = gateway.sha256("v")
    gateway.cli("pool", "defrag", "v", "--rate", "1M", "--background")
    gateway.killed_and_taken_over()
    assert gateway.sha256("v") == before
    gateway.cli("pool", "defrag", "v", timeout=120)
    assert gateway.sha256("v") == before
    (schedule,) = gateway.client.get("/v1/schedules")
    assert schedule["name"] == "s"
    gateway.end()


def test_backups_and_restores_at_either_gateway(images: Images, tmp_path: Path) -> None:
    """A repository is none of the pool's; what is under way when the pool changes hands ends, and is whole or not there."""
    gateway = Gateway(images, "g")
    gateway.cli("create", "v", "--size", "48M")
    for at in range(0, 48 * MIB, MIB):
        gateway.write("v", at, os.urandom(MIB))
    gateway.cli("snapshot", "v@1")
    gateway.cli("repo", "add", "r", str(tmp_path / "r"))
    gateway.cli("backup", "v@1", "--repo", "r")
    gateway.killed_and_taken_over()
    gateway.write("v", 5 * MIB, os.urandom(PIECE))
    gateway.cli("snapshot", "v@2")
    assert json.loads(gateway.cli("backup", "v@2", "--repo", "r", "--json"))["new_bytes"] < 4 * MIB
    whole = {label: gateway.sha256(f"v@{label}") for label in "12"}
    restoring = subprocess.Popen([sys.executable, "-m", "target", "--api", str(gateway.daemon.api), "restore", "r:v@1", "w"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: gateway.client.get("/v1/jobs") or restoring.poll() is not None)
    gateway.killed_and_taken_over()
    said = restoring.communicate()[1]
    if "w" not in gateway.ls():
        assert (restoring.returncode, said.count("\n")) == (1, 1), said
        gateway.cli("restore", "r:v@1", "w")
    gateway.cli("restore", "r:v@2", "x")
    assert {"1": gateway.sha256("w"), "2": gateway.sha256("x")} == whole
    assert json.loads(gateway.cli("repo", "check", "r", "--data", "--json"))["damage"] == {}
    gateway.end()
