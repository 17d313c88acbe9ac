"""Snapshots sent and received by the command line, with QEMU as the judge of what is in them (docs/protection.md)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from target.client import Client
from tests.interop.test_nbd import pool_directory, run
from tests.support.daemon import DaemonProcess, Refused

MIB = 1 << 20
SIZE = 160 * MIB
pytestmark = pytest.mark.needs("qemu-img", "qemu-io")


class Site:
    """A daemon, and streams to and from files."""

    def __init__(self, place: Path, name: str) -> None:
        self.place = place
        self.daemon = DaemonProcess(place / name, size="2G").start()
        self.cli = self.daemon.cli

    def send(self, path: Path, *args: str) -> bytes:
        """A stream, in a file too. Refused."""
        with path.open("wb") as file:
            done = self.run("send", *args, stdout=file)
        if done.returncode:
            raise Refused(args, done.returncode, done.stderr.decode())
        return path.read_bytes()

    def receive(self, stream: bytes | Path, *args: str) -> str:
        raw = stream.read_bytes() if isinstance(stream, Path) else stream
        done = self.run("receive", *args, input=raw, stdout=subprocess.PIPE)
        if done.returncode:
            raise Refused(args, done.returncode, done.stderr.decode())
        return done.stdout.decode()

    def run(self, *args: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-m", "target", *args], stderr=subprocess.PIPE, timeout=60, check=False,
                              env={**os.environ, "LUNETTE_API": str(self.daemon.api)}, **more)

    def status(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.cli("receive", name, "--status", "--json"))
        return rows

    def url(self, name: str) -> str:
        if self.daemon.ls()[name]["url"] is None:
            self.cli("connect", name)
        return self.daemon.url(name)

    def guid(self, name: str) -> str:
        return json.loads(self.cli("diff", name, name))[0]["a"]["guid"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pool_directory(tmp_path_factory.mktemp("streams")) as made:
        (made / "a").mkdir()
        (made / "b").mkdir()
        yield made


@pytest.fixture(scope="module")
def here(place: Path) -> Iterator[Site]:
    """A volume `v` with snapshots 1, 2, 3: much data, then scattered changes, then another size."""
    site = Site(place, "a")
    source = random.Random(5)
    image = place / "image"
    with image.open("wb") as file:
        file.write(source.randbytes(MIB) * 100)
        for _ in range(40):
            file.seek(100 * MIB + source.randrange(50 * MIB // 4096) * 4096)
            file.write(source.randbytes(4096))
        file.truncate(SIZE)
    site.cli("create", "v", "--size", "160M", "--label", "owner=lund")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, site.url("v"))
    site.cli("snapshot", "v@1")
    site.cli("label", "v@1", "why=first")
    for number, more in ((2, []), (3, ["write -P 7 161M 1M"])):
        if number == 3:
            site.cli("resize", "v", "170M")
        changes = [f"write -P {source.randrange(1, 255)} {source.randrange(SIZE // 4096) * 4}k 4k" for _ in range(40)]
        changes += [f"discard {source.randrange(150)}M 2M", f"write -z {source.randrange(150)}M 64k", *more, "flush"]
        run("qemu-io", "-f", "raw", *(word for each in changes for word in ("-c", each)), site.url("v"))
        site.cli("snapshot", f"v@{number}")
    yield site
    site.daemon.close()


@pytest.fixture(scope="module")
def there(place: Path) -> Iterator[Site]:
    site = Site(place, "b")
    yield site
    site.daemon.close()


def marks(stream: bytes) -> list[int]:
    """The offsets of the whole MARKs in a part of a stream (docs/stream-format.md): a slow sender makes more of them."""
    found, at = [], 0
    while at + 64 <= len(stream):
        if stream[at + 6] == 4:
            found.append(int.from_bytes(stream[at + 24:at + 32], "little"))
        at += 64 + int.from_bytes(stream[at + 48:at + 52], "little")
    return found


def same(here: Site, there: Site, name: str, other: str) -> None:
    run("qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", here.url(name), there.url(other))


def test_a_replica_is_what_its_source_is(here: Site, there: Site, place: Path) -> None:
    whole = here.send(place / "s", "v@1", "--compress", "none")
    assert len(whole) > 100 * MIB
    assert "w@1" in there.receive(whole, "w")
    same(here, there, "v@1", "w@1")
    same(here, there, "v@1", "w")
    changes = here.send(place / "s", "v@3", "--from", "v@1", "--intermediates")
    assert len(changes) < 8 * MIB
    there.receive(changes, "w")
    rows, sources = there.daemon.ls(), here.daemon.ls()
    assert {"w", "w@1", "w@2", "w@3"} <= rows.keys()
    for number in (1, 2, 3):
        same(here, there, f"v@{number}", f"w@{number}")
        assert rows[f"w@{number}"]["size_bytes"] == sources[f"v@{number}"]["size_bytes"]
        assert rows[f"w@{number}"]["created_s"] == sources[f"v@{number}"]["created_s"]
        assert rows[f"w@{number}"]["mapped_bytes"] == sources[f"v@{number}"]["mapped_bytes"]      # holes stay holes
    assert rows["w@1"]["labels"] == {"why": "first"}
    same(here, there, "v@3", "w")
    shared = sum(sources[f"v@{n}"]["exclusive_bytes"] for n in (1, 2, 3))
    assert sum(rows[f"w@{n}"]["exclusive_bytes"] for n in (1, 2, 3)) == shared


def test_what_broke_off_goes_on_after_a_kill_too(here: Site, there: Site, place: Path) -> None:
    whole = here.send(place / "s", "v@1", "--compress", "none")
    with pytest.raises(Refused, match="ends before its end"):
        there.receive(whole[:80 * MIB], "x")
    assert not [name for name in there.daemon.ls() if name.startswith("x")]
    (row,) = there.status("x")
    assert row["guid"] == here.guid("v@1")
    assert row["offset_bytes"] == marks(whole[:80 * MIB])[-1] > 0
    assert 0 < row["received_bytes"] <= 80 * MIB
    there.daemon.restart(signal.SIGKILL)
    assert there.status("x") == [row]
    rest = here.send(place / "s", "--resume", row["token"], "--compress", "zstd")
    assert len(rest) < len(whole) - row["received_bytes"] + MIB
    with pytest.raises(Refused, match="of which nothing is here"):
        there.receive(rest, "y")
    assert "x@1" in there.receive(rest, "x")
    assert there.status("x") == []
    same(here, there, "v@1", "x@1")
    assert there.guid("x@1") == here.guid("v@1") == there.daemon.ls()["x@1"]["guid"]


def test_what_is_refused_and_what_stays_as_it_is(here: Site, there: Site, place: Path) -> None:
    whole = here.send(place / "s", "v@1")
    with pytest.raises(Refused, match=r"a whole stream makes a new volume|there is x@1 already"):
        there.receive(whole, "x")
    damaged = bytearray(whole)
    damaged[70 * MIB] ^= 1
    with pytest.raises(Refused, match="damaged"):
        there.receive(bytes(damaged), "z")
    assert "z@1" in there.cli("receive", "z", "--abort", "--json")
    for args, why in ((("z", "--abort"), "nothing of z"),):
        with pytest.raises(Refused, match=why):
            there.cli("receive", *args)
    changes = here.send(place / "s", "v@2", "--from", "v@1")
    with pytest.raises(Refused, match="has not the snapshot"):
        there.receive(changes, "z")
    for args, why in ((("v",), "not"), (("v@1", "--from", "v@2"), "not an earlier"),
                      (("--resume", "abc"), "no token"), (("nothing@1",), "there is no")):
        with pytest.raises(Refused, match=why):
            here.send(place / "s", *args)
    run("qemu-io", "-f", "raw", "-c", "write -P 3 0 4k", "-c", "flush", there.url("x"))
    assert "x@2" in there.receive(changes, "x")       # the snapshot comes, and what was written stays
    same(here, there, "v@2", "x@2")
    run("qemu-io", "-f", "raw", "-c", "read -P 3 0 4k", there.url("x"))
    assert not [tag for row in here.daemon.ls().values() for tag in row["holds"]]


def test_streams_are_jobs_with_progress_that_can_be_cancelled_and_counted(here: Site, there: Site, place: Path) -> None:
    whole = here.send(place / "s", "v@1", "--compress", "none")
    there.receive(whole, "counted")
    sends, receives = ([row for row in json.loads(site.cli("jobs", "--all", "--json")) if row["kind"] == kind]
                       for site, kind in ((here, "send"), (there, "receive")))
    assert sends[-1]["names"][0] == "v@1"
    assert receives[-1]["names"] == ["counted"]
    for row in (sends[-1], receives[-1]):
        assert (row["state"], row["percent"], row["total"]) == ("done", 100.0, SIZE)
    r, w = os.pipe()                                # nobody reads it
    waiting = subprocess.Popen([sys.executable, "-m", "target", "send", "v@1"], stdout=w, stderr=subprocess.PIPE,
                               env={**os.environ, "LUNETTE_API": str(here.daemon.api)})
    os.close(w)
    while not (rows := [row for row in json.loads(here.cli("jobs", "--json")) if row["state"] == "running"]):
        assert waiting.poll() is None
    assert here.cli("ls", "--json").count("send:") == 1
    here.cli("jobs", "cancel", str(rows[0]["id"]))
    assert "was cancelled" in waiting.communicate(timeout=60)[1].decode()
    assert waiting.returncode != 0
    os.close(r)
    assert "send:" not in here.cli("ls", "--json")
    text = b"".join(Client(str(here.daemon.api)).stream("/metrics", lambda said: None)).decode()
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("lunette_transfer"))
    assert float(numbers['lunette_transfer_bytes_total{kind="send"}']) > len(whole)
    assert float(numbers['lunette_transfers_ended_total{kind="send",result="cancelled"}']) == 1
    assert float(numbers['lunette_transfer_last_success_timestamp_seconds{kind="send",volume="v"}']) > 1e9
