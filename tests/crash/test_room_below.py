"""The file system under a sparse pool fills up: as a pool that is full, and nothing more, at any moment and across restarts."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from core import layout
from core.check import check
from core.errors import PoolError
from core.pool.engine import Pool
from tests.crash.rig import BLOCK
from tests.support.simdisk import PAGE_BYTES, SimDisk

MIB = 1 << 20
CHUNK = 128 << 10


class Thin:
    """A pool on a sparse file in a file system that has so much room beyond what the pool needs to live."""

    def __init__(self, size_bytes: int = 96 * MIB, room_bytes: int = 8 * MIB, *, device: bool = False) -> None:
        self.disk = SimDisk(size_bytes, 1, sparse=True, thin=device)
        Pool.create(self.disk, name="p")
        self.now_us = 1_000_000
        self.pool: Any = None
        self.open()
        self.pool.call("create", name="v", size_bytes=1 << 40)
        self.pool.call("create", name="w", size_bytes=1 << 40)
        self.room(room_bytes)

    def open(self) -> None:
        self.disk.serving = False
        self.pool = Pool(self.disk, clock=self.clock)
        self.disk.serving = True

    def clock(self) -> int:
        self.now_us += 10
        return self.now_us

    def room(self, room_bytes: int) -> None:
        """So much can still be taken of the file system."""
        self.disk.capacity_bytes = self.disk.stored() * PAGE_BYTES + room_bytes

    def attempt(self, op: str, **args: Any) -> bool:
        """Whether there was room; nothing else may go wrong."""
        try:
            self.pool.call(op, **args)
        except PoolError as error:
            if error.code != "no_space":
                raise
            return False
        finally:
            assert self.pool.failure() == ""
        return True

    def write(self, offset: int, length: int = CHUNK, object_id: int = 1) -> bool:
        data = bytes([object_id + offset // MIB % 99]) * length
        return self.attempt("write", object_id=object_id, offset_bytes=offset, data=data)

    def sector(self, offset: int) -> bytes:
        data: bytes = self.pool.call("read", object_id=1, offset_bytes=offset, length_bytes=512)
        return data

    def fill(self, step: int = CHUNK) -> int:
        """Write until the file system is full; returns how far it went."""
        offset = 0
        while self.write(offset):
            offset += step
        assert self.pool.stats()["medium_short"]
        return offset

    def settle(self) -> None:
        self.pool.call("flush")
        self.pool.drain()
        self.pool.call("checkpoint")
        self.pool.drain()

    def reopen(self, power: bool = False) -> None:
        self.pool.abandon()
        if power:
            self.disk.power_cut()
        else:
            self.disk.process_kill()
        self.open()
        assert self.pool.failure() == ""

    def later(self) -> None:
        """The engine asks the file system again some time after it was refused."""
        for _ in range(10):
            self.now_us += 300_000
            self.pool.drain()


def test_all_but_allocating_goes_on() -> None:
    thin = Thin()
    end = thin.fill()
    assert end >= 4 * MIB
    assert not thin.write(512 * MIB)
    assert thin.write(0)                                     # blocks of its own
    thin.settle()
    assert thin.attempt("snapshot", pairs=[(1, "v@s")])
    assert not thin.write(0)                                 # shared now
    assert thin.attempt("unmap", object_id=1, offset_bytes=0, length_bytes=MIB)      # a shared leaf is copied for it
    assert thin.attempt("rename", object_id=2, name="x")
    assert thin.attempt("kv", changes={"k": b"v" * 300})
    thin.settle()
    assert thin.pool.call("read", object_id=3, offset_bytes=0, length_bytes=CHUNK) == bytes([1]) * CHUNK
    assert thin.pool.call("read", object_id=1, offset_bytes=0, length_bytes=CHUNK) == bytes(CHUNK)


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
@pytest.mark.parametrize("device", [False, True], ids=["file", "device"])
def test_it_opens_on_the_full_file_system(power: bool, device: bool) -> None:
    """Recovery makes nodes, and writes a checkpoint: all of that has its room."""
    thin = Thin(device=device)
    assert thin.attempt("kv", changes={"k": b"v" * 5000})
    for i in range(200):
        assert thin.write(i << 30, BLOCK)                    # each has a leaf, and a node above it, of its own
    thin.pool.call("flush")
    thin.fill()
    thin.pool.call("flush")
    thin.room(0)
    for _ in range(3):
        thin.reopen(power)
        assert not thin.write(600 * MIB, MIB)
        for i in range(200):
            assert thin.sector(i << 30) == bytes([1 + (i << 10) % 99]) * 512
    assert thin.pool.kv() == {"k": b"v" * 5000}
    assert thin.attempt("delete", object_id=1)
    thin.settle()
    thin.reopen(power)
    assert thin.attempt("create", name="y", size_bytes=MIB)


def test_deletes_give_room_back_and_writes_go_on() -> None:
    thin = Thin()
    thin.fill()
    stored = thin.disk.stored()
    assert thin.attempt("delete", object_id=1)
    thin.settle()
    thin.later()
    assert thin.disk.stored() < stored - MIB // BLOCK
    assert thin.write(0, object_id=2)
    assert not thin.pool.stats()["medium_short"]
    texts = [event.text for event in thin.pool.trace()]
    assert "the medium has no room" in texts
    assert "the medium has room again" in texts


def test_runs_for_nodes_are_one_event_which_tells_when() -> None:
    thin = Thin()
    thin.now_us += 60_000_000
    thin.reopen()
    met = [event for event in thin.pool.trace() if "kept for nodes" in event.text]
    assert len(met) == 1
    assert met[0].times > 1
    assert met[0].ago_s < 1


def test_room_that_others_make_is_found() -> None:
    thin = Thin()
    end = thin.fill()
    thin.room(8 * MIB)
    thin.later()
    assert thin.write(end)


def test_a_file_system_that_others_fill() -> None:
    """Whatever was let in before has its room: no checkpoint meets a full medium, however many nodes it holds."""
    thin = Thin(room_bytes=64 * MIB)
    made = 0
    while made < 3000 and thin.write(made << 30, BLOCK):
        made += 1
        if made % 100 == 0:
            thin.room(0)                                     # full, at this moment
            thin.settle()
            thin.room(MIB)
    assert made > 100
    thin.room(0)
    thin.settle()
    thin.reopen()
    for i in range(made):
        assert thin.sector(i << 30) == bytes([1 + (i << 10) % 99]) * 512


@pytest.mark.parametrize("device", [False, True], ids=["file", "device"])
def test_a_new_zone_has_its_pages_first(device: bool) -> None:
    """Counts of a zone have their place before a block of it is taken; where they cannot, the zone is out of reach, no more."""
    disk = SimDisk(5 << 30, 1, sparse=True, thin=device)
    Pool.create(disk, name="p", journal_blocks=512, area_blocks=520_000)      # which fill the first zone but for three runs
    pages = range((4 << 30) // PAGE_BYTES + layout.COUNT_START, (4 << 30) // PAGE_BYTES + layout.ZONE_META_BLOCKS)
    assert not any(page in disk.view for page in pages)
    disk.capacity_bytes = (disk.stored() + 3 * 512) * PAGE_BYTES
    thin = Thin.__new__(Thin)
    thin.disk, thin.now_us = disk, 1_000_000
    thin.open()
    assert not thin.attempt("create", name="v", size_bytes=1 << 40)
    thin.settle()
    assert not any(page in disk.view for page in pages)
    disk.capacity_bytes = 0
    thin.later()
    thin.settle()
    assert thin.attempt("create", name="v", size_bytes=1 << 40)
    for i in range(0, 20 * MIB, CHUNK):
        assert thin.write(i, object_id=2)
    assert all(page in disk.view for page in pages)
    thin.room(0)
    thin.pool.call("flush")
    for power in (True, False):                              # what counts there is not written over, whoever opens it
        thin.reopen(power)
        thin.room(MIB)
        for i in range(0, 20 * MIB, CHUNK):
            assert thin.pool.call("read", object_id=2, offset_bytes=i, length_bytes=512) == bytes([2 + i // MIB]) * 512
        assert thin.attempt("snapshot", pairs=[(2, f"v@{power}")])
        thin.write(0, object_id=2)
        thin.settle()
    thin.pool.close()
    assert check(disk).ok


@pytest.mark.parametrize("device", [False, True], ids=["file", "device"])
def test_nodes_share_runs_with_data_only_where_there_is_room_below(device: bool) -> None:
    """No run is wholly free: of those that are used in part, what is free is allocated before a node is put there."""
    thin = Thin(room_bytes=64 * MIB, device=device)
    assert thin.attempt("create", name="narrow", size_bytes=96 * MIB)
    for offset in range(0, 96 * MIB, 2 * MIB):
        thin.write(offset, 64 << 10, object_id=3)
    thin.settle()
    written = [offset for offset in range(0, 96 * MIB, 2 * MIB)
               if any(thin.pool.call("read", object_id=3, offset_bytes=offset, length_bytes=512))]
    assert thin.pool.stats()["free_runs"] == 0
    assert thin.pool.stats()["free_bytes"] > 30 * MIB
    copies = 0
    for i in range(600):
        if i == 200:
            thin.room(0)
        if not thin.attempt("snapshot", pairs=[(3, f"narrow@{i}")]):
            break
        copies += thin.attempt("unmap", object_id=3, offset_bytes=i % 40 * 2 * MIB + i // 40 * BLOCK, length_bytes=BLOCK)
        if i % 10 == 0:
            thin.settle()
    thin.settle()
    thin.reopen()
    assert copies > 100
    for offset in written:                                   # a block that nobody has taken back, of each
        data = thin.pool.call("read", object_id=3, offset_bytes=offset + 15 * BLOCK, length_bytes=512)
        assert data == bytes([3 + offset // MIB % 99]) * 512
    assert thin.attempt("delete", object_id=3)
    thin.settle()
    thin.reopen(power=True)


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
def test_a_zone_that_only_the_journal_knows_is_not_written_over(power: bool) -> None:
    """A thin device is allocated by writing zeros: not where blocks are counted that were taken since the last checkpoint."""
    disk = SimDisk(5 << 30, 1, thin=True)
    Pool.create(disk, name="p", journal_blocks=512, area_blocks=470_000)      # which leave 200 runs of the first zone
    thin = Thin.__new__(Thin)
    thin.disk, thin.now_us = disk, 1_000_000
    thin.open()
    assert thin.attempt("create", name="v", size_bytes=1 << 40)
    thin.settle()
    checkpoints, end = thin.pool.stats()["checkpoints"], 0
    first = (4 << 30) // PAGE_BYTES
    while not any(page in disk.view for page in range(first + layout.ZONE_META_BLOCKS, first + layout.ZONE_META_BLOCKS + 5120)):
        assert thin.write(end, 2 * MIB)
        end += 2 * MIB
    for _ in range(10):                                      # several pages of counts
        assert thin.write(end, 2 * MIB)
        end += 2 * MIB
    thin.pool.call("flush")
    assert thin.pool.stats()["checkpoints"] == checkpoints
    thin.reopen(power)                                       # its checkpoint has written the counts home
    assert thin.write(end, BLOCK)
    thin.settle()
    thin.reopen(power)
    thin.pool.close()
    assert check(disk).ok


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_other_ways_to_say_it(number: int) -> None:
    thin = Thin()
    thin.disk.fail("write", error=number)
    assert not thin.write(0)
    assert thin.pool.stats()["medium_short"]


def test_a_pool_is_not_made_where_it_could_not_live() -> None:
    disk = SimDisk(96 * MIB, 1, sparse=True, capacity_bytes=8 * MIB)
    with pytest.raises(PoolError, match="needs 20 MiB") as caught:
        Pool.create(disk, name="p")
    assert caught.value.code == "no_space"
    assert not disk.writes


def test_growth_has_room_for_its_pages() -> None:
    thin = Thin(room_bytes=0)
    thin.disk.size_bytes = 16 << 30
    with pytest.raises(PoolError, match="no room for the metadata"):
        thin.pool.call("grow", size_bytes=16 << 30)
    thin.room(MIB)
    thin.pool.call("grow", size_bytes=16 << 30)
    thin.room(0)
    thin.settle()
    assert thin.pool.failure() == ""


@pytest.mark.parametrize("device", [False, True], ids=["file", "device"])
def test_an_older_pool_gets_its_room_at_open(device: bool) -> None:
    disk = SimDisk(96 * MIB, 1)
    Pool.create(disk, name="p")
    pool = Pool(disk)
    pool.call("create", name="v", size_bytes=1 << 40)
    pool.close()
    stored = disk.stored()
    disk.sparse, disk.thin = True, device
    thin = Thin.__new__(Thin)
    thin.disk, thin.now_us = disk, 1_000_000
    thin.open()
    at = layout.OWNER_BLOCK * PAGE_BYTES
    assert not device or all(not offset <= at < offset + length for _, kind, offset, length, _ in disk.trace.lines
                             if kind == "allocate")          # the owner may be renewing its record
    assert disk.stored() > stored + 4000                     # journal, areas, fixed pages, a run for nodes
    thin.room(2 * MIB)
    thin.fill()
    assert thin.attempt("delete", object_id=1)
    thin.settle()
    thin.reopen()


def test_a_discard_refused_for_want_of_room_is_tried_again() -> None:
    thin = Thin()
    thin.fill()
    thin.disk.fail("discard", error=errno.ENOSPC)
    assert thin.attempt("delete", object_id=1)
    thin.settle()
    thin.later()
    assert thin.write(0, object_id=2)

