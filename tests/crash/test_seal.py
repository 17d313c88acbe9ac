"""Idle for a second: what nobody flushed becomes hard, and the journal vouches for its newest frame: rot in any is found."""

from __future__ import annotations

import pytest

from core import layout
from core.check import Checker, Report
from core.errors import PoolError
from tests.crash.rig import Config, Rig, open_pool
from tests.support.simdisk import SimDisk

BLOCK = layout.BLOCK_BYTES
CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
SECOND_US = 1_000_000


def write(rig: Rig, block: int) -> None:
    """A durable write of one block that takes a millisecond or two."""
    op = rig.start("write", object_id=1, offset_bytes=block * BLOCK, data=rig.oracle.make_data(1, block * BLOCK, BLOCK), fua=True)
    while op in rig.oracle.inflight:
        idle(rig, 0.001)


def scene() -> Rig:
    rig = Rig(1, CONFIG)
    rig.random.random = lambda: 0.5                      # type: ignore[method-assign]
    rig.do("create", name="v", size_bytes=1 << 20)
    for block in range(4):
        write(rig, block)
    return rig


def idle(rig: Rig, seconds: float) -> None:
    """Time passes and every request is performed."""
    end = rig.now_us + int(seconds * SECOND_US)
    while rig.now_us < end:
        for io_id, kind, _, _ in rig._watch_syncs():
            rig.perform(io_id, kind)
        wait = rig.pool.turn(rig.now_us)
        rig.reap()
        rig.now_us += 100 if rig._watch_syncs() else min(max(wait, 100), max(end - rig.now_us, 100))


def frames(rig: Rig) -> int:
    return int(rig.pool.stats()["journal_frames"])


def live_frames(disk: SimDisk) -> list[int]:
    """Blocks of the frames that the next open would follow, oldest first."""
    checker = Checker(disk, Report())
    checker.load_superblock()
    start, count, seq = (checker.sb[key] for key in ("journal_start", "journal_blocks", "journal_seq"))
    found = []
    for block in range(start, start + count):
        page = disk.view.get(block, b"")
        if page[:4] == layout.FRAME_MAGIC.to_bytes(4, "little") and int.from_bytes(page[24:32], "little") >= seq:
            found.append((int.from_bytes(page[24:32], "little"), block))
    return [block for _, block in sorted(found)]


def survivor(rig: Rig, power: bool) -> SimDisk:
    disk = rig.disk.fork(1)
    if power:
        disk.power_cut("none")
    else:
        disk.process_kill()
    return disk


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
def test_rot_in_any_synced_frame_is_refused(power: bool) -> None:
    rig = scene()
    idle(rig, 2)
    disk = survivor(rig, power)
    chain = live_frames(disk)
    assert len(chain) > 8
    for block in chain[:-1]:
        rotten = disk.fork(1)
        rotten.flip(block * BLOCK + 33, 3)
        with pytest.raises(PoolError) as refused:
            open_pool(rotten, CONFIG)
        assert refused.value.code == "damaged"
    disk.flip(chain[-1] * BLOCK + 30, 3)                 # the seal itself holds nothing
    pool = open_pool(disk, CONFIG)
    rig.oracle.crash(power=power)
    rig.oracle.reconcile(pool)
    pool.abandon()


def test_without_a_seal_the_newest_frame_is_taken_for_torn() -> None:
    """Why there is one: before it is written, rot in the marker loses what the marker made durable."""
    rig = scene()
    disk = survivor(rig, True)
    disk.flip(live_frames(disk)[-1] * BLOCK + 30, 3)
    pool = open_pool(disk, CONFIG)
    assert not any(pool.call("read", object_id=1, offset_bytes=3 * BLOCK, length_bytes=BLOCK))
    pool.abandon()


def test_going_idle_costs_one_frame_and_load_none() -> None:
    rig = scene()
    before = frames(rig)
    for block in range(8, 16):
        write(rig, block)
        idle(rig, 0.5)
    per_write = (frames(rig) - before) / 8
    assert per_write == 2                                # the record and the marker
    before, syncs = frames(rig), rig.pool.stats()["syncs"]
    idle(rig, 20)
    assert (frames(rig) - before, rig.pool.stats()["syncs"] - syncs) == (1, 1)
    for _ in range(4):
        write(rig, 0)                                    # in place: nothing to vouch for
        idle(rig, 2)
    assert frames(rig) - before == 1
    rig.do("checkpoint")
    idle(rig, 5)
    assert frames(rig) - before == 1                     # what the checkpoint holds needs no journal


@pytest.mark.parametrize("torn", [False, True])
def test_a_crash_while_it_is_written(torn: bool) -> None:
    rig = scene()
    rig.now_us += 900_000
    rig.pool.turn(rig.now_us)
    while not (pending := rig._watch_syncs()):
        rig.now_us += 200_000
        rig.pool.turn(rig.now_us)
    ((io_id, kind, _, _),) = pending
    assert kind == "write"
    if torn:
        rig.disk.tear_next = True
        rig.perform(io_id, kind)
    rig.pool.abandon()
    rig.pool = None
    rig._lost(power=False)
    rig.reopen()
    rig.verify()


def test_what_nobody_flushes_is_hard_after_an_idle_second() -> None:
    """No command comes that could wake the engine: its own deadlines must."""
    rig = scene()
    idle(rig, 3)
    unflushed = rig.oracle.make_data(1, 64 * BLOCK, BLOCK)
    op = rig.start("write", object_id=1, offset_bytes=64 * BLOCK, data=unflushed)
    while op in rig.oracle.inflight:
        idle(rig, 0.001)
    idle(rig, 2)
    disk = survivor(rig, True)
    pool = open_pool(disk, CONFIG)
    assert pool.call("read", object_id=1, offset_bytes=64 * BLOCK, length_bytes=BLOCK) == unflushed
    pool.abandon()


def test_space_of_a_deleted_volume_comes_back_after_idle_seconds() -> None:
    """Freed blocks wait for a hard commit: it comes though nobody writes any more."""
    rig = scene()
    idle(rig, 3)
    free = rig.pool.stats()["free_bytes"]
    rig.do("delete", object_id=1)
    idle(rig, 5)
    assert rig.pool.stats()["free_bytes"] >= free + 4 * BLOCK
    assert not rig.pool.stats()["pending_items"]
