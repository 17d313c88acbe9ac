"""The daemon killed -9 under writers that share nothing with it, amid storms of snapshots, clones, deletes and growth, while it
starts, recovers and stops; after each kill every acknowledged stamp, every snapshot and every clone is what it has to be."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from target.client import Client
from target.errors import LunetteError
from tests.support.daemon import DaemonProcess
from tests.support.places import pool_directory
from tests.support.stamps import SECTOR, Lost, Reply, Session, read_stamps, stamped
from tests.support.waiting import until

MIB = 1 << 20
ROOM_BYTES = 64 * MIB        # more than is written between two looks at the pool
WRITERS = 3
Value = tuple[int, int]


class Volume:
    """What each sector of a volume or clone must hold, or may hold if the write of it was never answered."""

    def __init__(self, name: str, tag: int, sure: list[Value]) -> None:
        self.name = name
        self.tag = tag
        self.sure = sure
        self.maybe: dict[int, set[Value]] = {}
        self.unmapped: set[int] = set()

    def begin(self, lba: int, sectors: int, value: Value) -> None:
        for at in range(lba, lba + sectors):
            self.maybe.setdefault(at, set()).add(value)
            if not value[1]:
                self.unmapped.add(at)

    def end(self, lba: int, sectors: int, value: Value) -> None:
        for at in range(lba, lba + sectors):
            self.sure[at] = value
            del self.maybe[at]

    def judge(self, found: list[Value]) -> None:
        for lba, value in enumerate(found):
            wanted = self.sure[lba]
            assert value == wanted or value in self.maybe.get(lba, ()), (
                f"{self.name} sector {lba} holds {value}; {wanted} was acknowledged, {self.maybe.get(lba)} may be")
        self.sure = found
        self.maybe.clear()


class Storm:
    """A daemon, what was promised of its objects, and the threads that change them until it is killed."""

    def __init__(self, daemon: DaemonProcess, seed: int) -> None:
        self.daemon = daemon
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.number = 0
        self.names = 0
        self.acknowledged = 0
        self.stopping = False
        self.kills = {"load": 0, "start": 0, "stop": 0}
        self.volumes: dict[str, Volume] = {}
        self.snapshots: dict[str, str] = {}              # name -> hash of its content
        self.going: set[str] = set()                     # being deleted
        self.logs: list[list[tuple[int, str, int, int]]] = [[] for _ in range(WRITERS)]   # (number, volume, lba, sectors)
        self.client = Client(str(daemon.api))
        for tag, name in enumerate(("a", "b", "c"), 1):
            # what keeps checksums redirects every write, so that the loop covers both ways
            self.client.command("create", {"name": name, "size_bytes": 4 * MIB, "checksum": name == "c"})
            self.client.command("connect", {"name": name})
            self.volumes[name] = Volume(name, tag, [(0, 0)] * (4 * MIB // SECTOR))

    def session(self, name: str, isid: int) -> Session:
        return Session(self.daemon.portal, self.daemon.target, f"iqn.2026-01.test:{name}", isid)

    def luns(self) -> dict[str, int]:
        return {row["name"]: row["lun"] for row in self.client.get("/v1/objects")}

    # -- load --------------------------------------------------------------------------------------------------------

    def writer(self, index: int, dice: random.Random) -> None:
        """Writes one thing after the other to its own third of each volume."""
        with suppress(Lost, LunetteError):
            luns = self.luns()
            session = self.session(f"w{index}", index + 1)
            while True:
                name = dice.choice("abc")
                volume = self.volumes[name]
                part = len(volume.sure) // WRITERS // 8 * 8
                sectors = dice.choice((1, 3, 8, 8, 16, 64, 128))
                lba = index * part + dice.randrange(0, part // (1 if dice.random() < 0.3 else 16) - sectors + 1)
                if sectors >= 8 and dice.random() < 0.7:
                    lba = lba // 8 * 8
                self.change(session, luns[name], volume, lba, sectors, index, dice)
                if dice.random() < 0.1:
                    self.good(session.flush(luns[name]))

    def good(self, reply: Reply) -> None:
        """A daemon that was asked to stop may refuse; that is no answer to rely on."""
        if reply.status and self.stopping:
            raise Lost("stopping")
        assert reply.status == 0, (reply.status, reply.key)

    def change(self, session: Session, lun: int, volume: Volume, lba: int, sectors: int, index: int, dice: random.Random) -> None:
        zero = dice.random() < 0.08
        with self.lock:
            self.number += 1
            value = (0, 0) if zero else (volume.tag, self.number)
            volume.begin(lba, sectors, value)
            if index >= 0 and not zero:
                self.logs[index].append((self.number, volume.name, lba, sectors))
        if zero:
            reply = session.unmap(lun, lba, sectors)
        else:
            reply = session.write(lun, lba, stamped(volume.tag, lba, sectors, value[1]), fua=dice.random() < 0.05)
        self.good(reply)
        with self.lock:
            volume.end(lba, sectors, value)
            self.acknowledged += 1

    def administer(self, dice: random.Random) -> None:
        with suppress(Lost, LunetteError):
            session = self.session("admin", 99)
            while True:
                self.names += 1
                self.make_room()
                what = dice.choices(("snapshot", "clone", "delete", "grow", "volume"), (8, 5, 6, 1, 1))[0]
                if what == "snapshot":
                    self.snapshot(session, f"s{self.names}")
                elif what == "clone" and self.snapshots and len(self.volumes) < 9:
                    self.clone(session, dice.choice(sorted(self.snapshots)), f"k{self.names}", dice)
                elif what == "delete" and len(self.snapshots) + len(self.volumes) > 9:
                    self.delete(dice.choice([*self.snapshots, *[n for n in self.volumes if n not in "abc"]]))
                elif what == "grow":
                    self.client.command("grow", {"size_bytes": self.client.get("/v1/pool")["size_bytes"] + 8 * MIB})
                elif what == "volume" and len(self.volumes["b"].sure) < 8 * MIB // SECTOR:
                    self.client.command("resize", {"name": "b", "size_bytes": len(self.volumes["b"].sure) * SECTOR + MIB})
                    with self.lock:
                        self.volumes["b"].sure += [(0, 0)] * (MIB // SECTOR)

    def make_room(self) -> None:
        """Snapshots pile up, and a full pool refuses writes, rightly: it grows before."""
        pool = self.client.get("/v1/pool")
        if pool["available_bytes"] < ROOM_BYTES:
            self.client.command("grow", {"size_bytes": pool["size_bytes"] + 2 * ROOM_BYTES})

    def snapshot(self, session: Session, label: str) -> None:
        """Of two volumes at one instant, under load; what it holds at first is what it must hold for ever."""
        with self.lock:
            before = {name: list(self.volumes[name].sure) for name in "ac"}
        self.client.command("snapshot", {"names": [f"a@{label}", f"c@{label}"]})
        content: dict[str, list[Value]] = {}
        for name in "ac":
            full = f"{name}@{label}"
            lun = self.client.command("connect", {"name": full})["lun"]
            content[name], digest = self.content(session, lun, 4 * MIB // SECTOR)
            for lba, value in enumerate(content[name]):
                old = before[name][lba]
                fresh = value[1] >= old[1] or lba in self.volumes[name].unmapped
                assert fresh, f"{full} sector {lba}: {value} is older than {old}"
            self.snapshots[full] = digest
        self.one_instant(content, label)

    def one_instant(self, content: dict[str, list[Value]], label: str) -> None:
        """A writer waits for each answer: who is seen to have written a thing has written all before it."""
        for log in self.logs:
            with self.lock:
                entries = [entry for entry in log[-400:] if entry[1] in content]
            seen = [number for number, name, lba, sectors in entries
                    if any(content[name][at][1] == number for at in range(lba, lba + sectors))]
            for number, name, lba, sectors in entries:
                for at in range(lba, lba + sectors):
                    late = number < max(seen, default=0) and content[name][at][1] < number
                    assert not late or at in self.volumes[name].unmapped, f"@{label} holds {max(seen)}, {name} lacks {number}"

    def clone(self, session: Session, source: str, name: str, dice: random.Random) -> None:
        lun = self.client.command("clone", {"source": source, "name": name})["lun"]
        lun = self.client.command("connect", {"name": name})["lun"] if lun is None else lun
        sure, digest = self.content(session, lun, 4 * MIB // SECTOR)
        assert digest == self.snapshots[source], f"{name} is not what {source} is"
        volume = self.volumes[name] = Volume(name, 1000 + self.names, sure)
        for _ in range(20):
            self.change(session, lun, volume, dice.randrange(0, len(sure) - 64), dice.choice((1, 8, 24)), -1, dice)

    def delete(self, name: str) -> None:
        self.going.add(name)
        self.client.command("delete", {"names": [name], "force": True})
        self.snapshots.pop(name, None)
        self.volumes.pop(name, None)
        self.going.discard(name)

    def content(self, session: Session, lun: int, sectors: int) -> tuple[list[Value], str]:
        found: list[Value] = []
        digest = hashlib.sha256()
        for lba in range(0, sectors, 512):
            reply = session.read(lun, lba, min(512, sectors - lba))
            self.good(reply)
            digest.update(reply.data)
            found += read_stamps(reply.data, lba)
        return found, digest.hexdigest()

    # -- kills -------------------------------------------------------------------------------------------------------

    def load(self, seconds: float) -> None:
        broken: list[BaseException] = []

        def guarded(run: Any, *args: Any) -> None:
            try:
                run(*args)
            except BaseException as error:
                broken.append(error)

        dice = [random.Random(self.random.randrange(1 << 30)) for _ in range(WRITERS + 1)]
        threads = [threading.Thread(target=guarded, args=(self.writer, i, dice[i])) for i in range(WRITERS)]
        threads.append(threading.Thread(target=guarded, args=(self.administer, dice[WRITERS])))
        written = self.acknowledged
        for thread in threads:
            thread.start()
        until(lambda: self.acknowledged >= written + 20 or broken)
        time.sleep(seconds)
        self.kills["load"] += 1
        if self.random.random() < 0.25:                  # while it stops
            self.kills["stop"] += 1
            self.stopping = True
            self.daemon.process.send_signal(signal.SIGTERM)      # type: ignore[union-attr]
            time.sleep(self.random.random() * 0.4)
        self.daemon.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
        self.stopping = False
        for log in self.logs:
            log.clear()                                  # the last of each may not have happened
        for error in broken:
            raise error

    def start(self) -> None:
        """Start it, killed some times while it starts and recovers."""
        for _ in range(self.random.choice((0, 0, 1, 3))):
            self.kills["start"] += 1
            command = [sys.executable, "-m", "target", "serve", str(self.daemon.pool), "--api", str(self.daemon.api),
                       "--listen", self.daemon.portal, "--open"]
            early = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(self.random.random() * float(os.environ.get("KILL_START_SECONDS", "0.9")))
            early.kill()
            early.wait()
        self.daemon.start()

    def verify(self) -> None:
        luns = self.luns()
        for name in [*self.snapshots, *self.volumes]:
            assert name in luns or name in self.going, f"{name} is gone"
        for name in self.going:
            if name not in luns:
                self.snapshots.pop(name, None)
                self.volumes.pop(name, None)
        self.going.clear()
        known = {*self.snapshots, *self.volumes}
        for name in [name for name in luns if name not in known]:      # made, and nobody was told
            self.client.command("delete", {"names": [name], "force": True})
        session = self.session("judge", 98)
        for name in known:
            lun = luns[name]
            if lun is None:
                lun = self.client.command("connect", {"name": name})["lun"]
            if name in self.snapshots:
                assert self.content(session, lun, 4 * MIB // SECTOR)[1] == self.snapshots[name], f"{name} has changed"
                continue
            volume = self.volumes[name]
            size = int.from_bytes(session.settled(lun, b"\x9e\x10" + bytes(8) + b"\0\0\0\x20", want=32).data[:8], "big") + 1
            assert size >= len(volume.sure), f"{name} has become smaller"
            volume.sure += [(0, 0)] * (size - len(volume.sure))
            volume.judge(self.content(session, lun, size)[0])
        session.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with pool_directory(tmp_path) as place:
        process = DaemonProcess(place, size="192M")
        try:
            yield process.start()
        finally:
            process.close()


def checked(daemon: DaemonProcess) -> None:
    """`lunette pool check --data` of the pool as it lies there: every count, every checksum of metadata and data."""
    result = subprocess.run([sys.executable, "-m", "target", "pool", "check", "--data", str(daemon.pool)],
                            capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_storms(daemon: DaemonProcess, first_seed: int, seed_count: int, crash_full: bool) -> None:
    storm = Storm(daemon, first_seed)
    rounds = seed_count or (40 if crash_full else 3)
    for round_number in range(rounds):
        storm.load(0.4 + storm.random.random() * 1.5)
        if round_number % 3 == 0:
            checked(daemon)
        storm.start()
        storm.verify()
    daemon.stop()
    checked(daemon)
    assert storm.acknowledged > 50
    assert storm.kills["load"] == rounds
    print(f"{rounds} rounds, kills {storm.kills}, {storm.acknowledged} acknowledged writes, {storm.names} admin operations, "
          f"{len(storm.snapshots)} snapshots and {len(storm.volumes)} volumes at the end")
