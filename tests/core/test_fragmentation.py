"""Regions whose blocks lie scattered become one run again, and where they cannot nothing is refused that was not before."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB, BLOCK = 1 << 20, 4096
RUN = 2 * MIB


class Counting(MemoryDevice):
    """Knows how many reads there were; has no room for more while it is full."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.reads = 0
        self.full = False

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        self.reads += 1
        return super().read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, data: bytes) -> None:
        pages = range(offset_bytes // BLOCK, (offset_bytes + len(data)) // BLOCK)
        if self.full and any(page not in self.pages for page in pages):
            raise OSError(28, "no space")
        super().write(offset_bytes, data)


class Scattered:
    """A volume whose blocks lie in two runs for each region, by turns, and are its own: a snapshot was there, and is gone."""

    def __init__(self, size_bytes: int = 4 * MIB, pool_bytes: int = 160 * MIB, **args: Any) -> None:
        self.device = Counting(pool_bytes)
        Pool.create(self.device, name="test", journal_blocks=512, area_blocks=1024)
        self.pool = Pool(self.device)
        self.size_bytes = size_bytes
        self.volume: int = self.pool.call("create", name="v", size_bytes=size_bytes, **args)
        self.content = bytearray(size_bytes)
        for at in range(0, size_bytes, MIB):
            self.write(at, MIB, 1)
        snapshot = self.pool.call("snapshot", pairs=[(self.volume, "v@s")])[0]
        blocks = [at for at in range(0, size_bytes, BLOCK) if at // BLOCK % 2]
        random.Random(1).shuffle(blocks)
        for at in blocks:
            self.write(at, BLOCK, 2)
        self.pool.call("delete", object_id=snapshot)
        self.settle()

    def settle(self) -> None:
        self.pool.call("flush")
        self.pool.drain()
        self.pool.call("checkpoint")
        self.pool.drain()

    def write(self, at: int, length: int, number: int) -> None:
        data = bytes([number + at // BLOCK % 99]) * length
        self.pool.call("write", object_id=self.volume, offset_bytes=at, data=data)
        self.content[at:at + length] = data

    def in_order(self, step: int, number: int = 7) -> None:
        for at in range(0, self.size_bytes, step):
            self.write(at, step, number)

    def reads(self, step: int = MIB) -> int:
        """Requests that reading it once in order takes; what is read is right."""
        before = self.device.reads
        for at in range(0, self.size_bytes, step):
            data = self.pool.call("read", object_id=self.volume, offset_bytes=at, length_bytes=step)
            assert data == self.content[at:at + step], at
        return self.device.reads - before


@pytest.mark.parametrize("step", [64 << 10, MIB, RUN])
def test_an_overwrite_in_order_makes_runs_again(step: int) -> None:
    made = Scattered()
    assert made.reads() > 100
    before = made.pool.stats()["free_bytes"]
    made.in_order(step)
    assert made.reads() == 4
    made.settle()
    assert made.pool.stats()["free_bytes"] >= before + 2 * BLOCK, "and huge entries: the leaves are gone"
    made.in_order(step, 9)
    assert made.pool.stats()["free_bytes"] >= before + 2 * BLOCK, "once more it lies still"
    made.pool.abandon()
    made.pool = Pool(made.device)
    made.reads()


def test_what_is_no_stream_is_written_where_it_lies() -> None:
    made = Scattered()
    before = made.pool.stats()["journal_records"]
    made.in_order(8 * BLOCK)
    assert made.pool.stats()["journal_records"] == before


def test_parts_of_blocks_at_its_ends_stay_where_they_are() -> None:
    made = Scattered()
    at, length = 512, MIB + 1024
    data = b"p" * length
    made.pool.call("write", object_id=made.volume, offset_bytes=at, data=data)
    made.content[at:at + length] = data
    assert made.reads(RUN) <= 1024 - 254, "all but the first and the last block in one piece"


def test_a_medium_without_room_is_overwritten_in_place() -> None:
    """What overwrites private blocks needs no room, and is not refused because it looked for some."""
    made = Scattered()
    made.device.full = True
    made.in_order(MIB)
    made.device.full = False
    assert made.reads() > 100
    made.in_order(MIB)
    assert made.reads() == 4


def test_a_full_pool_is_overwritten_in_place() -> None:
    made = Scattered(pool_bytes=40 * MIB)
    made.in_order(MIB)
    assert made.reads() > 100


def moved(made: Scattered) -> None:
    for at in range(0, made.size_bytes, RUN):
        made.pool.call("move", object_id=made.volume, offset_bytes=at, length_bytes=RUN)


@pytest.mark.parametrize("checksum", [False, True])
def test_a_move_puts_a_region_into_one_run_and_it_reads_the_same(checksum: bool) -> None:
    made = Scattered(checksum=checksum)
    assert made.reads() > 100
    before = made.pool.stats()["free_bytes"]
    moved(made)
    assert made.reads() <= (8 if checksum else 4), "some are of checksum pages"
    made.settle()
    assert checksum or made.pool.stats()["free_bytes"] >= before + 2 * BLOCK, "and huge entries: the leaves are gone"
    done = made.pool.stats()["moved_bytes"], made.pool.stats()["journal_records"]
    moved(made)
    assert (made.pool.stats()["moved_bytes"], made.pool.stats()["journal_records"]) == done, "once is enough"
    made.pool.abandon()
    made.pool = Pool(made.device)
    made.reads()


def test_what_is_shared_or_has_no_room_is_not_moved() -> None:
    made = Scattered()
    snapshot = made.pool.call("snapshot", pairs=[(made.volume, "v@t")])[0]
    records = made.pool.stats()["journal_records"]
    moved(made)
    assert made.pool.stats()["journal_records"] == records
    made.pool.call("delete", object_id=snapshot)
    made.settle()
    made.device.full = True
    moved(made)
    assert made.reads() > 100
    made.device.full = False
    with pytest.raises(PoolError, match="invalid"):
        made.pool.call("move", object_id=made.volume, offset_bytes=BLOCK, length_bytes=RUN)


def test_a_move_goes_where_the_medium_keeps_nothing() -> None:
    """A run that was freed and is still in the file below is scattered there, too: it is taken only where there is no other."""
    made = Scattered()
    other = made.pool.call("create", name="w", size_bytes=made.size_bytes)
    for at in range(0, made.size_bytes, RUN):
        made.pool.call("write", object_id=other, offset_bytes=at, data=b"w" * RUN)
    made.pool.call("delete", object_id=other)
    made.settle()
    before = set(made.device.pages)
    moved(made)
    assert len(set(made.device.pages) - before) >= made.size_bytes // BLOCK
    assert made.reads() <= 4
