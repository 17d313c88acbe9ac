"""A pool on an image of a real cluster: all that works on a file works there, and it says so when it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from core import ceph
from core.ceph import Place, is_place, parse_place
from core.errors import PoolError
from core.image import ImageDevice, create_image
from tests.ceph.conftest import Images
from tests.crash.test_daemon_kill import Load
from tests.support import libiscsi
from tests.support.cluster import Cluster
from tests.support.daemon import DaemonProcess, Refused
from tests.support.stamps import Session

MIB = 1 << 20


def session(daemon: DaemonProcess) -> Session:
    return Session(daemon.portal, daemon.target, "iqn.2026-01.test:ceph")


def test_what_names_an_image() -> None:
    assert parse_place("rbd:lun/x") == Place("lun", "x")
    assert parse_place("rbd:lun/space/x@/etc/other.conf") == Place("lun", "x", "space", "/etc/other.conf")
    assert not is_place("/a/rbd:lun/x")
    for wrong in ("rbd:", "rbd:lun", "rbd:lun/", "rbd:/x", "rbd:lun/a/b/c", "rbd:lun/x@"):
        with pytest.raises(PoolError, match="names no image"):
            parse_place(wrong)


def test_device(cluster: Cluster) -> None:
    path = cluster.place("device")
    create_image(parse_place(path), 16 * MIB)
    with pytest.raises(PoolError, match="already exists"):
        create_image(parse_place(path), 16 * MIB)
    device = ImageDevice(path)
    assert device.lock()
    assert device.lockers() == [device.client.address()]
    device.write(512, b"x" * 1024)
    assert device.read(0, 2048) == bytes(512) + b"x" * 1024 + bytes(512)
    device.allocate(512, 8 * MIB)
    assert device.read(0, 2048) == bytes(512) + b"x" * 1024 + bytes(512)
    device.write(4 * MIB, b"y" * 65536)
    device.discard(4 * MIB, 65536)
    assert device.read(4 * MIB, 65536) == bytes(65536)
    device.enlarge(32 * MIB)
    assert device.size_bytes == 32 * MIB
    other = ImageDevice(path)
    assert not other.lock()
    other.client.block(device.client.address())
    assert other.break_lock(device.client.address())
    assert other.lock()
    for refused in (lambda: device.write(0, bytes(512)), lambda: device.read(0, 512)):
        with pytest.raises(OSError, match="has blocked this client"):
            refused()
    fenced = other.client.fenced
    for number in range(600):
        fenced.put(f"1.2.3.4:0/{number}", {"pid": number})
    mine = {key: facts for key, facts in fenced.all().items() if key.startswith("1.2.3.4:0/")}
    assert mine == {f"1.2.3.4:0/{number}": {"pid": number} for number in range(600)}
    for number in range(600):
        if number != 5:
            fenced.remove(f"1.2.3.4:0/{number}")
    assert other.client.sweep(lambda facts: facts == {"pid": 5}) == ["1.2.3.4:0/5"]
    assert "1.2.3.4:0/5" not in fenced.all()
    for each in (device, other):
        each.close()


def test_what_is_wrong_is_said_in_one_line(images: Images, tmp_path: object) -> None:
    daemon = images.gateway()
    conf = images.cluster.conf
    for words, message in (
            (("pool", "create", str(daemon.pool), "--size", "256M"), "is not blank"),
            (("pool", "create", "rbd:lun", "--size", "256M"), "names no image"),
            (("pool", "create", f"rbd:lun/new@{conf}"), "does not exist"),
            (("pool", "info", f"rbd:lun/none@{conf}"), "does not exist"),
            (("pool", "check", f"rbd:none/x@{conf}"), "pool none"),
            (("serve", f"rbd:lun/none@{conf}"), "does not exist"),
            (("pool", "info", "rbd:lun/x@/nowhere"), "cannot be read: /nowhere")):
        with pytest.raises(Refused, match=message) as refused:
            daemon.cli(*words)
        assert refused.value.message.count("\n") == 1


def test_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceph, "LIBRBD", "libnone.so.9")
    monkeypatch.setattr(ceph, "_LOADED", None)
    with pytest.raises(PoolError, match="apt-get install librbd1"):
        ImageDevice("rbd:lun/x")


def test_serve_write_restart_kill_grow_trim_check(images: Images) -> None:
    daemon = images.gateway("--reactors", "2").start()
    daemon.cli("create", "v", "--size", "64M")
    data = {lba: os.urandom(65536) for lba in (0, 1000, 8192, 130000)}
    one = session(daemon)
    for lba, each in data.items():
        assert one.write(0, lba, each).status == 0
    assert one.flush(0).status == 0
    assert one.write(0, 5000, b"soft" * 128).status == 0
    daemon.cli("snapshot", "v@1")
    assert one.write(0, 0, bytes(65536)).status == 0
    daemon.stop()
    assert "clean" in daemon.check()
    assert "owner nobody" in daemon.cli("pool", "info", str(daemon.pool))
    daemon.start()
    one = session(daemon)
    assert one.read(0, 0, 128).data == bytes(65536)
    daemon.cli("revert", "--force", "v@1")
    for lba, each in data.items():
        assert one.read(0, lba, 128).data == each
    assert one.read(0, 5000, 1).data == b"soft" * 128
    assert one.unmap(0, 8192, 128).status == 0
    assert f"process {daemon.process.pid}" in daemon.cli("pool", "info", str(daemon.pool))  # type: ignore[union-attr]
    with pytest.raises(Refused, match="in use: process"):
        daemon.cli("pool", "check", str(daemon.pool))
    with pytest.raises(Refused, match="in use: process"):
        daemon.cli("serve", str(daemon.pool), "--api", "/dev/shm/none.sock")
    daemon.restart(signal.SIGKILL)
    one = session(daemon)
    assert one.read(0, 8192, 128).data == bytes(65536)
    assert one.read(0, 1000, 128).data == data[1000]
    daemon.cli("pool", "grow", "512M")
    assert json.loads(daemon.cli("pool", "info", "--json"))["size_bytes"] == 512 * MIB
    daemon.cli("delete", "--force", "v@1")
    daemon.cli("delete", "--force", "v")
    assert "given back" in daemon.cli("pool", "trim")
    daemon.stop()
    assert "clean" in daemon.check()


def test_nobody_spins_for_what_is_a_network_away(images: Images) -> None:
    daemon = images.gateway("--poll-us", "10000").start()
    daemon.cli("create", "v", "--size", "16M")
    one = session(daemon)
    before = daemon.stats()["reactors"][0]["wakeups"]
    for _ in range(50):
        assert one.write(0, 0, bytes(4096)).status == one.read(0, 0, 8).status == 0
    assert daemon.stats()["reactors"][0]["wakeups"] - before >= 50        # most are waited for asleep
    daemon.stop()


def test_two_that_start_at_once(images: Images) -> None:
    """One serves, the other says who does."""
    first = images.gateway()
    pair = [first, images.another(first)]
    processes = [subprocess.Popen([sys.executable, "-m", "target", "serve", str(each.pool), "--api", str(each.api), "--listen",
                                   each.portal, "--open"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for each in pair]
    lines = [process.stdout.readline() for process in processes if process.stdout is not None]
    try:
        assert sorted(bool(line) for line in lines) == [False, True]
        loser = processes[lines.index("")]
        assert loser.wait(60) == 1
        assert loser.stderr is not None
        assert "in use" in loser.stderr.read()
    finally:
        for process in processes:
            process.terminate()
            process.communicate()
    assert "clean" in first.check()


@pytest.mark.skipif(libiscsi.lib is None, reason="libiscsi is not installed (make clients)")
def test_killed_again_and_again_under_load(images: Images) -> None:
    """Every acknowledged stamp, snapshot and clone, by the oracle of the crash tests."""
    daemon = images.gateway("--reactors", "2").start()
    load = Load(daemon, 7)
    for _ in range(3):
        load.until_killed(1.5)
        daemon.start()
        load.verify()
    assert load.acknowledged > 50
    daemon.stop()
    assert "clean" in daemon.check()


def test_many_in_flight(images: Images) -> None:
    """Several sessions at once on two reactors, so that ends come from librbd's threads while others begin."""
    daemon = images.gateway("--reactors", "2").start()
    daemon.cli("create", "v", "--size", "32M")
    failures: list[object] = []

    def work(number: int) -> None:
        one = Session(daemon.portal, daemon.target, f"iqn.2026-01.test:w{number}", number + 1)
        for round_number in range(40):
            lba = number * 8192 + round_number * 128
            data = bytes([number, round_number]) * 32768
            if one.write(0, lba, data).status or one.read(0, lba, 128).data != data:
                failures.append((number, round_number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    daemon.stop()
    assert "clean" in daemon.check()
