"""The real daemon under an iSCSI load of stamped sectors, killed -9 again and again: nothing acknowledged is ever lost."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import libiscsi
from tests.support.daemon import DaemonProcess, Refused
from tests.support.history import FOREVER, Op, Violation
from tests.support.libiscsi import GOOD, Initiator, InitiatorError
from tests.support.oracle import Oracle
from tests.support.places import pool_directory
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(libiscsi.lib is None, reason="libiscsi is not installed (make clients)")

VOLUME_BYTES = 2 << 20
SECTOR = 512


class Row(NamedTuple):
    """What the oracle wants to know of an object."""

    id: int
    kind: str
    name: str
    size_bytes: int
    block_bytes: int


class View:
    """A daemon's objects, read over iSCSI: what `Oracle.reconcile` takes for a pool."""

    def __init__(self, daemon: DaemonProcess) -> None:
        rows = daemon.ls()
        hidden = [name for name, row in rows.items() if row["lun"] is None]
        if hidden:
            daemon.cli("batch", stdin="".join(f"connect {name}\n" for name in hidden))
            rows = daemon.ls()
        self.luns = {row["id"]: row["lun"] for row in rows.values()}
        self.rows = [Row(r["id"], r["kind"], r["name"], r["size_bytes"], r["block_bytes"]) for r in rows.values()]
        self.session = Initiator(daemon.portal, daemon.target, "iqn.2026-01.test:judge")
        for lun in self.luns.values():
            self.session.settle(lun)

    def objects(self) -> list[Row]:
        return self.rows

    def kv(self) -> dict[str, bytes]:
        return {}

    def call(self, op: str, *, object_id: int, offset_bytes: int, length_bytes: int) -> bytes:
        data = b""
        while len(data) < length_bytes:
            count = min(length_bytes - len(data), 256 << 10)
            answer = self.session.read(self.luns[object_id], (offset_bytes + len(data)) // SECTOR, count // SECTOR)
            if answer.status != GOOD or len(answer.data) != count:
                raise Violation(f"object {object_id} cannot be read at {offset_bytes + len(data)}: {answer}")
            data += answer.data
        return data


class Load:
    """Writers on sessions of their own, administration beside them, one oracle over all."""

    def __init__(self, daemon: DaemonProcess, seed: int) -> None:
        self.daemon = daemon
        self.oracle = Oracle()
        self.lock = threading.Lock()
        self.random = random.Random(seed)
        self.names = 0
        self.acknowledged = 0
        self.administered = 0
        for name in ("a", "b"):
            self.admin("create", ["create", name, "--size", str(VOLUME_BYTES)], name=name, size_bytes=VOLUME_BYTES)

    def admin(self, kind: str, words: list[str], **args: Any) -> None:
        """Run a command; in the oracle it is in flight until it has answered."""
        with self.lock:
            op = self.oracle.begin(kind, **args)
        self.daemon.cli(*words)
        value: Any = None
        if kind != "delete":
            rows = self.daemon.ls()
            value = rows[args["name"]]["id"] if "name" in args else [rows[name]["id"] for _, name in args["pairs"]]
        with self.lock:
            self.oracle.finish(op, "ok", value)
            self.administered += 1

    def write(self, number: int) -> None:
        """One session that writes, unmaps and syncs until the daemon is gone."""
        dice = random.Random(self.random.randrange(1 << 30) + number)
        with suppress(InitiatorError):
            session = Initiator(self.daemon.portal, self.daemon.target, f"iqn.2026-01.test:w{number}", isid=number + 1)
            for lun in (0, 1):
                session.settle(lun)
            while True:             # until the connection breaks; libiscsi cannot be tidied up after that
                self.one(session, dice)

    def one(self, session: Initiator, dice: random.Random) -> None:
        lun = dice.randrange(2)
        if dice.random() < 0.1:
            session.synchronize_cache(lun)
            return
        length = dice.choice((512, 4096, 4096, 8192, 3 * 512, 64 << 10))
        offset = dice.randrange(0, VOLUME_BYTES - length) // 512 * 512
        if dice.random() < 0.7:
            offset = offset // 16 // 4096 * 4096
        with self.lock:
            data = self.oracle.make_data(lun + 1, offset, length)
            op = self.oracle.begin("write", object_id=lun + 1, offset_bytes=offset, data=data)
        answer = session.write(lun, offset // SECTOR, data, fua=dice.random() < 0.1)
        with self.lock:
            if op.end == FOREVER:
                # above 255 it is the initiator's own word, for a command whose connection broke: it may have been carried out
                self.oracle.finish(op, "ok" if answer.status == GOOD else "busy" if answer.status <= 0xFF else "aborted")
                self.acknowledged += answer.status == GOOD

    def administer(self) -> None:
        """Snapshots, clones and deletes until the daemon is gone."""
        with suppress(Refused, KeyError, ValueError):
            while True:
                self.names += 1
                n = self.names
                if n % 2:
                    self.admin("snapshot", ["snapshot", f"a@{n}", f"b@{n}"], pairs=[(1, f"a@{n}"), (2, f"b@{n}")])
                    continue
                models = [m for m in self.oracle.objects.values() if m.id > 2]
                if len(models) > 6:
                    victim = self.random.choice(models)
                    self.admin("delete", ["delete", "--force", str(victim.name[0].value)], object_id=victim.id)
                else:
                    source = self.random.choice(list(self.oracle.objects.values()))
                    self.admin("clone", ["clone", str(source.name[0].value), f"c{n}"], source_id=source.id,
                               name=f"c{n}")

    def until_killed(self, seconds: float) -> None:
        """Kill it so long after it has begun to do what is asked of it."""
        written, administered = self.acknowledged, self.administered
        threads = [threading.Thread(target=self.write, args=(i,)) for i in range(3)]
        threads.append(threading.Thread(target=self.administer))
        for thread in threads:
            thread.start()
        until(lambda: self.acknowledged >= written + 20 and self.administered > administered)
        time.sleep(seconds)
        self.daemon.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
        self.oracle.crash(power=False)

    def verify(self) -> None:
        view = View(self.daemon)
        try:
            self.oracle.reconcile(view)
        finally:
            view.session.drop()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with pool_directory(tmp_path) as place:
        process = DaemonProcess(place, size="256M")
        try:
            yield process.start()
        finally:
            process.close()


def test_what_was_acknowledged_survives_a_kill_without_the_page_cache(tmp_path: Path) -> None:
    """O_DIRECT changes nothing about a process that is killed: the machine, and the medium, live on."""
    daemon = DaemonProcess(tmp_path, "--direct", size="64M")
    try:
        try:
            daemon.start()
        except AssertionError:
            pytest.skip("no O_DIRECT on this file system")
        daemon.cli("create", "v", "--size", "16M")
        session = Initiator(daemon.portal, daemon.target)
        session.settle()
        assert session.write(0, 8, b"x" * 4096).status == GOOD
        daemon.stop(signal.SIGKILL)         # before an idle second has made it durable
        session.drop()
        daemon.start()
        with Initiator(daemon.portal, daemon.target) as session:
            session.settle()
            assert session.read(0, 8, 8).data == b"x" * 4096
    finally:
        daemon.close()


def test_kill_again_and_again(daemon: DaemonProcess, first_seed: int, crash_full: bool) -> None:
    """Every acknowledged stamp, every snapshot's content and every clone's isolation, after each kill; then a check."""
    load = Load(daemon, first_seed)
    ops: list[Op] = []
    for round_number in range(40 if crash_full else 3):
        load.until_killed(0.5 + load.random.random() * 2)
        if round_number % 4 == 0:
            daemon.check()                  # of the pool as the kill left it: recovered in memory
        daemon.start()
        load.verify()
        ops += load.oracle.limbo
    assert not ops
    assert load.acknowledged > 50
    assert len(load.oracle.used_ids) > 3
    daemon.stop()
    assert "clean" in daemon.check()
