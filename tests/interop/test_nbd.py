"""A snapshot by NBD, read by libnbd's and QEMU's tools beside `diff` and the initiator's view; and clients that mean no good."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from target.nbd import codes
from tests.interop.test_tools import run
from tests.support.daemon import DaemonProcess, Refused
from tests.support.places import pool_directory
from tests.support.waiting import PATIENCE_SECONDS, until

MIB = 1 << 20
SIZE = 64 * MIB


class Export:
    """`lunette nbd` in its own process."""

    def __init__(self, daemon: DaemonProcess, directory: Path, *args: str) -> None:
        self.socket = daemon.api.parent / f"{directory.name}.sock"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "target", "--api", str(daemon.api), "nbd", *args, "--socket", str(self.socket), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        text = line = ""
        while line != "}\n":
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            text += line
        self.said: dict[str, Any] = json.loads(text)
        self.uri = f"nbd+unix:///?socket={self.socket}"

    def stop(self) -> tuple[int, str]:
        """(exit status, stderr) after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        _, error = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, error

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE_SECONDS)
        sock.connect(str(self.socket))
        return sock


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A volume `v` with snapshots `a` and `b` that differ in scattered blocks, holes and size."""
    source = random.Random(11)
    with pool_directory(tmp_path_factory.mktemp("nbd")) as place:
        made = DaemonProcess(place, size="1G").start()
        image = place / "image"
        with image.open("wb") as file:
            for _ in range(60):
                file.seek(source.randrange(SIZE // 4096) * 4096)
                file.write(source.randbytes(source.randrange(1, 100) * 4096))
            file.truncate(SIZE)
        made.cli("create", "v", "--size", "64M")
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, made.url("v"))
        made.cli("snapshot", "v@a")
        made.cli("resize", "v", "72M")
        changes = [f"write -P {source.randrange(1, 255)} {source.randrange(SIZE // 4096) * 4}k 4k" if source.random() < 0.7
                   else f"discard {source.randrange(SIZE // MIB - 1)}M 128k" for _ in range(80)]
        words = [word for each in [*changes, "write -P 9 70M 64k", "flush"] for word in ("-c", each)]
        run("qemu-io", "-f", "raw", *words, made.url("v"))
        made.cli("snapshot", "v@b")
        made.cli("connect", "v@b")
        yield made
        made.close()


@pytest.fixture(scope="module")
def export(daemon: DaemonProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    served = Export(daemon, tmp_path_factory.mktemp("export"), "v@b", "--since", "v@a")
    yield served
    status, said = served.stop()
    assert status == 0
    assert all("a client" in line for line in said.splitlines())
    assert not served.socket.exists()


def blocks(rows: list[dict[str, Any]], wanted: Any) -> set[int]:
    """The blocks of 4 KiB in those rows of a map that are wanted."""
    found: set[int] = set()
    for row in rows:
        start = row["offset"] if "type" in row else row.get("start", row.get("offset_bytes"))
        length = row.get("length", row.get("length_bytes"))
        assert start % 4096 == length % 4096 == 0
        if wanted(row):
            found |= set(range(start // 4096, (start + length) // 4096))
    return found


@pytest.fixture(scope="module")
def differences(daemon: DaemonProcess) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(daemon.cli("diff", "v@a", "v@b", "--no-header"))
    assert len(rows) > 40
    return rows


@pytest.mark.needs("nbdinfo", "qemu-img")
def test_maps_are_those_of_diff_and_of_the_volume(export: Export, differences: list[dict[str, Any]]) -> None:
    dirty = json.loads(run("nbdinfo", "--json", "--map=qemu:dirty-bitmap:a", export.uri))
    changed = blocks(differences, lambda row: True)
    assert blocks(dirty, lambda row: row["type"] & 1) == changed
    options = f"driver=nbd,server.type=unix,server.path={export.socket},export=v@b,x-dirty-bitmap=qemu:dirty-bitmap:a"
    by_qemu = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", options))
    assert blocks(by_qemu, lambda row: not row["data"]) == changed
    allocation = json.loads(run("nbdinfo", "--json", "--map", export.uri))
    mapped = blocks(allocation, lambda row: row["type"] == 0)
    assert blocks(differences, lambda row: row["content"] == "data") <= mapped
    assert not blocks(differences, lambda row: row["content"] == "hole") & mapped
    assert sum(row["length"] for row in allocation) == 72 * MIB


@pytest.mark.needs("nbdinfo")
def test_what_libnbd_is_told(export: Export) -> None:
    told = json.loads(run("nbdinfo", "--no-content", "--json", export.uri))     # which would ask `file`
    assert told["structured"] is True
    (each,) = told["exports"]
    assert (each["export-name"], each["export-size"]) == ("v@b", 72 * MIB)
    assert (each["is_read_only"], each["can_multi_conn"]) == (True, True)
    assert each["contexts"] == ["base:allocation", "qemu:dirty-bitmap:a"]
    assert export.said["object"]["guid"] in each["description"]


@pytest.mark.needs("nbdcopy", "qemu-img", "qemu-io")
def test_every_reader_gets_what_the_initiator_gets(daemon: DaemonProcess, export: Export, tmp_path: Path) -> None:
    run("nbdcopy", export.uri, tmp_path / "libnbd")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", tmp_path / "libnbd", daemon.url("v@b"))
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", export.uri, tmp_path / "qemu")
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", tmp_path / "qemu", daemon.url("v@b"))
    assert "mission denied" in subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 4k", export.uri], capture_output=True,
                                              text=True, check=False).stderr


def oldstyle(sock: socket.socket) -> None:
    """Into transmission by EXPORT_NAME: no structured replies."""
    receive(sock, 18)
    sock.sendall(struct.pack(">I", 3) + codes.OPTION.pack(codes.OPTION_MAGIC, 1, 0))
    assert receive(sock, 10) == struct.pack(">QH", 72 * MIB, 387)


def receive(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        assert part, "the connection ended"
        data += part
    return data


def request(command: int, offset: int, length: int, cookie: int = 1) -> bytes:
    return codes.REQUEST.pack(codes.REQUEST_MAGIC, 0, command, cookie, offset, length)


def test_simple_replies_at_any_byte_and_of_any_length(daemon: DaemonProcess, export: Export, tmp_path: Path) -> None:
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", daemon.url("v@b"), tmp_path / "image")
    image = (tmp_path / "image").read_bytes()
    with export.connect() as sock:
        oldstyle(sock)
        for offset, length in ((0, 1), (4095, 2), (5 * MIB - 3, 3 * MIB + 7), (72 * MIB - 5, 5), (123, 20 * MIB)):
            sock.sendall(request(codes.Command.READ, offset, length))
            assert receive(sock, 16) == codes.SIMPLE_REPLY.pack(codes.SIMPLE_REPLY_MAGIC, 0, 1)
            assert receive(sock, length) == image[offset:offset + length]
        sock.sendall(request(codes.Command.WRITE, 0, 100, 7) + bytes(100) + request(codes.Command.READ, 72 * MIB, 1, 8)
                     + request(codes.Command.DISC, 0, 0, 9))
        refusals = {codes.SIMPLE_REPLY.pack(codes.SIMPLE_REPLY_MAGIC, *each) for each in ((1, 7), (22, 8))}
        assert {receive(sock, 16), receive(sock, 16)} == refusals
        assert sock.recv(1) == b""


def greeted(export: Export, held: contextlib.ExitStack) -> socket.socket:
    """A connection that is served, once one that has ended is counted no more."""
    def begun() -> socket.socket | None:
        sock = export.connect()
        if sock.recv(18):
            return held.enter_context(sock)
        sock.close()
        return None

    return until(begun)  # type: ignore[return-value]


def resident_bytes(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096


def test_hostile_clients_cost_their_connections_and_bounded_memory(export: Export) -> None:
    before = resident_bytes(export.process)
    with contextlib.ExitStack() as held:
        greedy = held.enter_context(export.connect())       # asks for gigabytes and reads nothing
        oldstyle(greedy)
        greedy.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(100_000):
                greedy.send(request(codes.Command.READ, 0, 32 * MIB))
        for garbage in (b"\0" * 4096, struct.pack(">I", 3) + b"\xff" * 64, struct.pack(">I", 3) + codes.OPTION.pack(
                codes.OPTION_MAGIC, 7, 1 << 31), b"GET / HTTP/1.0\r\n\r\n"):
            with export.connect() as sock:
                sock.sendall(garbage)
                with contextlib.suppress(ConnectionError):
                    while sock.recv(4096):
                        pass
        broken = held.enter_context(export.connect())
        oldstyle(broken)
        broken.sendall(request(codes.Command.READ, 0, 512) + b"\1" * 28)
        with contextlib.suppress(ConnectionError):
            while broken.recv(4096):
                pass
        waiting = [greeted(export, held) for _ in range(15)]
        with export.connect() as beyond:                    # the seventeenth
            assert beyond.recv(1) == b""
        oldstyle_again = waiting[0]
        oldstyle_again.sendall(struct.pack(">I", 3) + codes.OPTION.pack(codes.OPTION_MAGIC, 1, 0))
        receive(oldstyle_again, 10)
        oldstyle_again.sendall(request(codes.Command.READ, 0, 4096))
        receive(oldstyle_again, 16 + 4096)
        assert resident_bytes(export.process) - before < 64 * MIB


def test_what_is_exported_is_held_until_the_server_ends_or_is_killed(daemon: DaemonProcess, tmp_path: Path) -> None:
    daemon.cli("snapshot", "v@held")
    for end in ("stop", "kill"):
        served = Export(daemon, tmp_path, "v@held")
        tag = served.said["tag"]
        assert daemon.ls()["v@held"]["holds"] == [tag]
        for force in ((), ("--force",)):
            with pytest.raises(Refused, match=f"v@held is held by {tag}"):
                daemon.cli("delete", "v@held", *force)
        if end == "stop":
            assert served.stop() == (0, "")
        else:
            served.process.kill()
            served.process.communicate()
            served.socket.unlink()
        until(lambda: not daemon.ls()["v@held"]["holds"])
    daemon.cli("delete", "v@held")
    for args, why in ((("v@held",), "there is no"), (("v",), "is not a snapshot"),
                      (("v@a", "--since", "v"), "is not a snapshot")):
        with pytest.raises(Refused, match=why):
            daemon.cli("nbd", *args, "--socket", str(tmp_path / "s"))


def test_a_hold_that_is_released_lets_go_and_readers_are_told(daemon: DaemonProcess, tmp_path: Path) -> None:
    daemon.cli("snapshot", "v@free")
    served = Export(daemon, tmp_path, "v@free")
    with served.connect() as sock:
        oldstyle(sock)
        daemon.cli("release", "v@free", served.said["tag"])
        daemon.cli("delete", "v@free")
        sock.sendall(request(codes.Command.READ, 0, 4096))
        assert receive(sock, 16) == codes.SIMPLE_REPLY.pack(codes.SIMPLE_REPLY_MAGIC, 108, 1)
    assert served.stop() == (0, "")


@pytest.mark.needs("nbdinfo", "nbdcopy", "qemu-img")
def test_the_commands_of_the_page_do_what_it_says(daemon: DaemonProcess, tmp_path: Path) -> None:
    """docs/export.md: the first line serves, the others read."""
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lines = [line.split("  #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    assert len(lines) == 6
    served = Export(daemon, tmp_path, *shlex.split(lines[0].replace("db@", "v@").partition(" --socket ")[0])[2:])
    for line in lines[1:]:
        line = line.replace("/run/db.sock", str(served.socket)).replace("db@", "v@")
        run(*shlex.split(line.replace(" db.", f" {tmp_path}/db.")))
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", tmp_path / "db.img", tmp_path / "db.qcow2")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", tmp_path / "db.img", daemon.url("v@b"))
    assert served.stop() == (0, "")


def test_the_server_ends_with_its_daemon(tmp_path: Path) -> None:
    with pool_directory(tmp_path) as place:
        daemon = DaemonProcess(place, size="1G").start()
        try:
            daemon.cli("create", "v", "--size", "72M")
            daemon.cli("snapshot", "v@s")
            served = Export(daemon, tmp_path, "v@s")
            daemon.stop(signal.SIGKILL)
            _, error = served.process.communicate(timeout=PATIENCE_SECONDS)
            assert served.process.returncode == 1
            assert error == "lunette: the daemon is gone, v@s is exported no more\n"
        finally:
            daemon.close()
