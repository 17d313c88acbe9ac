"""Regions whose blocks lie scattered become one run again, and where they cannot nothing is refused that was not before."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.aged import BLOCK, GAP, MIB, RUN, Aged, Counting


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


# -- reads over gaps ----------------------------------------------------------------------------------------------------


def reopened(made: Scattered, **args: Any) -> Scattered:
    made.pool.close()
    made.pool = Pool(made.device, **args)
    return made


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("step", [BLOCK, 64 << 10, MIB, RUN])
def test_a_read_takes_a_request_for_each_run_that_it_lies_in(step: int, checksum: bool) -> None:
    made = reopened(Scattered(checksum=checksum), gap_bytes=GAP)
    made.pool.order(False)
    made.reads(step)
    assert made.reads(step) == made.size_bytes // step * (1 if step == BLOCK else 2)


def test_a_gap_that_is_too_wide_is_not_read() -> None:
    made = reopened(Scattered(), gap_bytes=BLOCK - 512)
    made.pool.order(False)
    made.reads()                              # pages of the map come
    assert made.reads() == 1024


def test_a_bad_place_in_a_gap_fails_nothing_and_a_bad_block_is_named() -> None:
    """Blocks that nobody wanted were read beside those that were: the pieces are read once more, each by itself."""
    made = reopened(Scattered(), gap_bytes=GAP)
    made.pool.order(False)
    snapshot = made.pool.call("snapshot", pairs=[(made.volume, "v@x")])[0]
    run = min(page for page, data in made.device.pages.items() if data == bytes(made.content[:BLOCK]))
    made.device.bad = {run + 7}               # in the run that has the even blocks
    made.reads()
    made.device.bad = {run + 6}
    with pytest.raises(PoolError) as caught:
        made.pool.call("read", object_id=snapshot, offset_bytes=0, length_bytes=RUN)
    assert (caught.value.code, caught.value.value) == ("io_read", 6 * BLOCK)
    assert made.pool.call("read", object_id=snapshot, offset_bytes=7 * BLOCK, length_bytes=MIB) == made.content[7 * BLOCK:][:MIB]


# -- what is shared -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [False, True])
def test_what_became_mostly_its_own_is_one_run_again_beside_its_snapshots(checksum: bool) -> None:
    aged = Aged(checksum=checksum)
    aged.age(0.6)
    aged.requests()
    used = aged.pool.stats()["free_bytes"]
    assert aged.move() == ["moved", "moved"]
    aged.requests()                           # pages of checksums come
    assert aged.requests() == 4
    assert aged.pool.stats()["copied_bytes"] == 2 * (512 - int(512 * 0.6)) * BLOCK
    aged.let_go()
    assert used - aged.pool.stats()["free_bytes"] <= aged.pool.stats()["copied_bytes"] + 64 * BLOCK
    assert aged.move() == ["still", "still"]
    aged.pool.close()
    aged.pool = Pool(aged.device, gap_bytes=GAP)
    aged.requests()


def test_no_more_is_copied_than_was_written_since_the_region_was_one_run() -> None:
    """Its own part must be as large as any that it shares: after one snapshot half of it, after more less."""
    aged = Aged()
    aged.age(0.4)
    assert aged.move() == ["still", "still"]
    aged.age(0.4)
    assert aged.move() == ["moved", "moved"]
    assert aged.pool.stats()["copied_bytes"] <= 2 * RUN * 0.8
    for _ in range(12):
        aged.age(0.1)
    assert "moved" not in aged.move(), "a tenth of a region is never worth a copy of the rest"
    aged.requests()


def test_copies_leave_space_for_writers() -> None:
    """Less than a sixteenth of the pool is free: nothing is copied. What is the volume's alone takes no space, and is moved."""
    aged = Aged(pool_bytes=96 * MIB)
    aged.age(0.6)
    filler = aged.pool.call("create", name="filler", size_bytes=96 * MIB)
    at = 0
    while aged.pool.stats()["available_bytes"] > 5 * MIB:
        aged.pool.call("write", object_id=filler, offset_bytes=at, data=b"f" * BLOCK * 64)
        at += BLOCK * 64
    assert aged.move() == ["nowhere", "nowhere"]
    aged.pool.call("delete", object_id=next(iter(aged.snapshots)))
    aged.snapshots.clear()
    aged.let_go()
    assert aged.move() == ["moved", "moved"]
    assert aged.requests() == 4
    assert aged.pool.stats()["copied_bytes"] == 0


def test_nothing_is_copied_while_room_below_is_short() -> None:
    aged = Aged()
    aged.age(0.6)
    aged.pool.hurry()
    assert aged.move() == ["nowhere", "nowhere"]
    aged.now_us += 11_000_000
    assert aged.move() == ["moved", "moved"]
    assert aged.requests() == 4


def test_without_a_free_run_a_region_is_gathered_in_the_run_that_has_most_of_it() -> None:
    """What was in the others finds its places there, and those runs become free."""
    aged = Aged()
    aged.age(0.6)
    aged.pool.call("delete", object_id=next(iter(aged.snapshots)))
    aged.snapshots.clear()
    aged.let_go()
    filler = aged.pool.call("create", name="filler", size_bytes=160 * MIB)
    at = 0
    while aged.pool.stats()["free_runs"] > 3:
        aged.pool.call("write", object_id=filler, offset_bytes=at, data=b"f" * RUN)
        at += RUN
    assert aged.move() == ["moved", "moved"]
    assert aged.requests() == 4
    assert aged.pool.stats()["moved_bytes"] == 2 * (512 - int(512 * 0.6)) * BLOCK, "the rest stays where it is"
    aged.let_go()
    assert aged.pool.stats()["free_runs"] >= 4


def test_a_run_in_which_somebody_else_has_a_block_gathers_nothing() -> None:
    """Not all of the region would find its place there: half of a move costs its writes and brings nothing."""
    aged = Aged(regions=1)
    aged.age(0.6)
    filler, at = aged.take_runs()
    block = max(block for block in range(512) if not is_old(aged, block))
    aged.pool.call("unmap", object_id=aged.volume, offset_bytes=block * BLOCK, length_bytes=BLOCK)
    aged.let_go()
    aged.pool.call("write", object_id=filler, offset_bytes=at, data=b"f" * BLOCK)       # it takes what was freed there
    aged.write(block * BLOCK, BLOCK)
    aged.pool.call("delete", object_id=aged.snapshots.popitem()[0])
    aged.let_go()
    assert aged.move() == ["nowhere"]
    assert aged.pool.stats()["moved_bytes"] == 0
    aged.requests()


def test_a_run_in_which_a_region_lies_shifted_gathers_nothing() -> None:
    """Its rest would not fit into that run."""
    aged = Aged(regions=1, gap_bytes=0)
    other = aged.pool.call("create", name="w", size_bytes=8 * RUN)
    for at in range(0, 8 * RUN, RUN):
        aged.pool.call("write", object_id=other, offset_bytes=at + 100 * BLOCK, data=b"w" * (412 * BLOCK))
    aged.pool.close()
    aged.pool = Pool(aged.device, clock=aged.clock)         # where the region was being filled is forgotten
    aged.pool.order(False)
    aged.pool.call("unmap", object_id=other, offset_bytes=0, length_bytes=8 * RUN)
    aged.let_go()
    snapshot = aged.pool.call("snapshot", pairs=[(aged.volume, "v@s")])[0]
    for block in range(41, 452):                            # the first one takes a block that is marked, the others follow it
        if block % 8:
            aged.write(block * BLOCK, BLOCK)
    aged.pool.call("delete", object_id=snapshot)
    aged.let_go()
    (place,) = [page for page, data in aged.device.pages.items() if data == aged.content[41 * BLOCK:42 * BLOCK]]
    assert place % 512 == 100
    aged.take_runs()
    assert aged.move() == ["nowhere"]
    assert aged.pool.stats()["moved_bytes"] == 0
    aged.requests()


def is_old(aged: Aged, block: int) -> bool:
    """Not overwritten since the snapshot."""
    content = next(iter(aged.snapshots.values()))
    return aged.content[block * BLOCK:(block + 1) * BLOCK] == content[block * BLOCK:(block + 1) * BLOCK]


def test_a_move_goes_to_a_run_in_which_nobody_has_anything() -> None:
    """One whose first blocks are free will not do: the rest of the region would find its places taken."""
    aged = Aged(regions=1)
    other = aged.pool.call("create", name="w", size_bytes=RUN)
    aged.pool.call("write", object_id=other, offset_bytes=300 * BLOCK, data=b"w" * BLOCK)
    aged.age(0.6)
    assert aged.move() == ["moved"]
    assert aged.requests() == 2


def test_holes_stay_holes() -> None:
    aged = Aged(regions=1)
    aged.pool.call("unmap", object_id=aged.volume, offset_bytes=40 * BLOCK, length_bytes=100 * BLOCK)
    aged.content[40 * BLOCK:140 * BLOCK] = bytes(100 * BLOCK)
    aged.snapshots[aged.pool.call("snapshot", pairs=[(aged.volume, "v@h")])[0]] = bytes(aged.content)
    for block in aged.random.sample([*range(40), *range(140, 512)], 300):
        aged.write(block * BLOCK, BLOCK)
    info = aged.pool.info(aged.volume)
    assert info is not None
    mapped = info.mapped_bytes
    assert aged.move() == ["moved"]
    aged.requests()
    assert aged.pool.info(aged.volume).mapped_bytes == mapped == 412 * BLOCK      # type: ignore[union-attr]
