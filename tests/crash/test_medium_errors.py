"""What an initiator and an administrator are told when the medium lies or fails, over iSCSI (SPC-5 §4.4, SBC-4 §4.18)."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import layout
from core.check import Checker, Report, check
from core.device import FileDevice
from target.client import Client
from tests.support.daemon import DaemonProcess, Refused, logged
from tests.support.places import pool_directory
from tests.support.stamps import Session, stamp, stamped

MEDIUM_ERROR, DATA_PROTECT = 3, 7


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with pool_directory(tmp_path) as place:
        process = DaemonProcess(place, size="128M")
        try:
            yield process.start()
        finally:
            process.close()


def connected(daemon: DaemonProcess) -> int:
    return connected_to(daemon, "v")


def connected_to(daemon: DaemonProcess, name: str) -> int:
    lun = daemon.ls()[name]["lun"]
    if lun is None:
        daemon.cli("connect", name)
        lun = daemon.ls()[name]["lun"]
    return int(lun)


def test_a_bad_block_is_named(daemon: DaemonProcess) -> None:
    """Data that fails its checksum: MEDIUM ERROR, unrecovered read error, and in INFORMATION the first block that is bad."""
    daemon.cli("create", "v", "--size", "4M", "--checksum")
    lun = connected(daemon)
    session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:reader")
    for lba in range(0, 256, 128):
        assert session.write(lun, lba, stamped(1, lba, 128, 7)).status == 0
    assert session.flush(lun).status == 0
    raw = daemon.pool.read_bytes()
    at = raw.index(stamp(1, 88, 7))
    with daemon.pool.open("r+b") as file:
        file.seek(at + 700)
        file.write(b"rot")
    for first, count in ((0, 128), (80, 16), (89, 3), (95, 1)):
        reply = session.read(lun, first, count)
        assert (reply.status, reply.key) == (2, (MEDIUM_ERROR, 0x1100))
        assert reply.information == max(first, 88)
    assert session.read(lun, 96, 32).data == stamped(1, 96, 32, 7)
    session.close()


def test_a_medium_that_takes_no_more_writes(tmp_path: Path) -> None:
    """A journal that cannot be written makes the pool read-only: it says so, reads go on, and what was flushed is there later."""
    daemon = DaemonProcess(tmp_path, size="128M")           # not in memory, whose files no limit of size holds for
    try:
        written_no_more(daemon.start())
    finally:
        daemon.close()


def written_no_more(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "4M")
    lun = connected(daemon)
    session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:writer")
    assert session.write(lun, 0, stamped(1, 0, 64, 7)).status == 0
    assert session.flush(lun).status == 0
    assert daemon.process is not None
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (8 << 20, resource.RLIM_INFINITY))
    reply = session.write(lun, 1024, stamped(1, 1024, 64, 8))
    assert (reply.status, reply.key) == (2, (DATA_PROTECT, 0x2707))      # of data: a limit like others
    assert session.flush(lun).status == 0                  # of the data alone: what was acknowledged is safe
    with pytest.raises(Refused):
        daemon.cli("snapshot", "v@s")                      # of a journal frame
    for _ in range(3):
        assert session.flush(lun).status == 2
    reply = session.write(lun, 0, stamped(1, 0, 64, 9), fua=True)
    assert (reply.status, reply.key[0]) == (2, DATA_PROTECT)
    assert session.read(lun, 0, 64).data == stamped(1, 0, 64, 7)
    session.close()
    assert Client(str(daemon.api)).get("/v1/pool")["read_only"]
    logged(daemon, "read-only from now on")
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:writer")
    assert session.read(lun, 0, 64).data == stamped(1, 0, 64, 7)
    assert session.write(lun, 2048, stamped(1, 2048, 64, 9), fua=True).status == 0
    session.close()
    daemon.stop()
    assert "clean" in daemon.check()


def leaves(pool: Path) -> dict[str, list[int]]:
    """The lowest nodes of each object of a closed pool, by block."""
    device = FileDevice(pool)
    report = Report()
    checker = Checker(device, report)
    assert checker.load_superblock()
    checker.run()
    device.close()
    assert report.ok, report.errors
    found = {}
    for page in checker.catalog_pages.values():
        for at in range(layout.PAGE_HEADER_BYTES, layout.BLOCK_BYTES, layout.SLOT_BYTES):
            slot = page[at:at + layout.SLOT_BYTES]
            if slot[0] == layout.SLOT_KINDS["object"]:
                root = int.from_bytes(slot[24:32], "little")
                found[slot[96:96 + slot[88]].decode()] = [child for _, child in checker.nodes[root].children] if root else []
    return found


def test_a_rotten_page_of_a_map(daemon: DaemonProcess) -> None:
    """A volume's node has rotted: its blocks are refused by name, all else goes on; once deleted, it is set aside for good."""
    for name in ("v", "w"):
        daemon.cli("create", name, "--size", "16M")
        connected_to(daemon, name)
    session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:rot")
    v, w = daemon.ls()["v"]["lun"], daemon.ls()["w"]["lun"]
    for lun, lba in ((v, 0), (v, 4096), (w, 0)):
        assert session.write(lun, lba, stamped(lun, lba, 64, 5)).status == 0
    session.close()
    daemon.stop()
    block = leaves(daemon.pool)["v"][1]
    with daemon.pool.open("r+b") as file:
        file.seek(block * layout.BLOCK_BYTES + 900)
        file.write(b"rot")
    daemon.start()
    session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:rot")
    for reply in (session.read(v, 4090, 20), session.write(v, 4090, stamped(v, 4090, 20, 6))):
        assert (reply.status, reply.key) == (2, (MEDIUM_ERROR, 0x1100))
    assert session.read(v, 4090, 20).information == 4096
    assert session.read(v, 0, 64).data == stamped(v, 0, 64, 5)
    assert session.write(v, 8192, stamped(v, 8192, 64, 6), fua=True).status == 0
    assert session.write(w, 0, stamped(w, 0, 64, 6), fua=True).status == 0
    logged(daemon, f"node page at block {block} of volume v fails its checksum")
    rows = daemon.ls()
    assert (rows["v"]["damaged_pages"], rows["w"]["damaged_pages"], rows["v"]["exclusive_bytes"]) == (1, 0, None)
    daemon.cli("disconnect", "v", "--force")
    daemon.cli("delete", "v", "--force")
    for _ in range(2):
        logged(daemon, f"node page at block {block} fails its checksum")
        pool = Client(str(daemon.api)).get("/v1/pool")
        assert not pool["read_only"]
        assert pool["set_aside_bytes"] == layout.BLOCK_BYTES
        assert len(pool["damage"]) == 1
        assert session.write(w, 64, stamped(w, 64, 64, 6), fua=True).status == 0
        with pytest.raises(Refused):
            daemon.cli("scrub")
        damaged = Client(str(daemon.api)).get("/v1/scrub")["damaged"]
        assert [(row["part"], row["block"]) for row in damaged] == [("deleted map", block)]
        session.close()
        daemon.stop()
        daemon.log.write_text("")
        daemon.start()
        session = Session(daemon.portal, daemon.target, "iqn.2026-01.test:rot")
    session.close()
    daemon.stop()
    device = FileDevice(daemon.pool)
    assert any(f"block {block}" in error for error in check(device).errors)
    device.close()
