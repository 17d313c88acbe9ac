"""A shrink that a crash interrupts is finished by whoever opens the pool next: nothing stays mapped behind the end."""

from __future__ import annotations

import pytest

from core.check import Report, check
from tests.crash.rig import BLOCK, Config, Rig, format_disk, open_pool
from tests.support.history import Violation
from tests.support.simdisk import SimDisk

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
LEAF = 2 << 20
LEAVES = 80                                                  # more than one turn takes away


@pytest.fixture(scope="module")
def furnished() -> SimDisk:
    """A volume with a block in each of many leaves, some of them shared with a snapshot; checkpointed and closed."""
    disk = format_disk(CONFIG)
    pool = open_pool(disk, CONFIG)
    pool.call("create", name="v", size_bytes=LEAVES * LEAF)
    for leaf in range(LEAVES):
        pool.call("write", object_id=1, offset_bytes=leaf * LEAF + 5 * BLOCK, data=bytes([leaf + 1]) * BLOCK)
        if leaf == 9:
            pool.call("snapshot", pairs=[(1, "v@s")])
    pool.close()
    return disk


def judge(disk: SimDisk) -> Report:
    report = check(disk)
    if not report.ok:
        raise Violation("; ".join(report.errors[:3]))
    return report


def interrupted(report: Report) -> bool:
    return any("shrink" in note for note in report.notes)


def settled(disk: SimDisk, *, size_bytes: int) -> None:
    """Open, let the background work run, close: the tail is gone, what is before it and the snapshot are whole."""
    pool = open_pool(disk, CONFIG)
    pool.drain()
    assert pool.reap() == []                                 # nobody asked, nobody is told
    info = pool.info(1)
    assert info.size_bytes in (size_bytes, LEAVES * LEAF)
    mapped = {at for at, _, is_mapped in pool.call("extents", object_id=1, offset_bytes=0, length_bytes=LEAVES * LEAF,
                                                   limit=1000) if is_mapped}
    expected = range(0, info.size_bytes, LEAF)
    assert mapped == {at + 5 * BLOCK for at in expected if at + 5 * BLOCK < info.size_bytes}
    assert info.mapped_bytes == len(mapped) * BLOCK
    for leaf in range(10):
        assert pool.call("read", object_id=2, offset_bytes=leaf * LEAF + 5 * BLOCK, length_bytes=1 * BLOCK) == bytes(
            [leaf + 1]) * BLOCK
    pool.close()
    assert not interrupted(judge(disk))


def shrink(rig: Rig, most: int, size_bytes: int) -> int:
    """Start a shrink and stop after so many requests, or when it is acknowledged; returns how many there were.

    Somebody flushes all the time, else all its records would be in one frame.
    """
    token = rig.pool.start("resize", object_id=1, size_bytes=size_bytes)
    steps = 0
    while steps < most and token not in {done.token for done in rig.pool.reap()}:
        pending = rig._watch_syncs()
        if pending:
            rig.perform(pending[0][0], pending[0][1])
            steps += 1
        rig.pool.start("flush")
        rig.now_us += 10
        rig.pool.turn(rig.now_us)
    return steps


@pytest.mark.parametrize("size", [LEAF, 6 * BLOCK], ids=["leaves", "within a leaf"])
def test_whoever_opens_the_pool_finishes_it(furnished: SimDisk, size: int) -> None:
    seen = 0
    for after in range(0, 400, 3):
        disk = furnished.fork(after)
        rig = Rig(1, CONFIG, disk)
        rig.random.random = lambda: 0.5                      # type: ignore[method-assign]
        rig.random.choice = lambda options: options[0]       # type: ignore[method-assign]
        steps = shrink(rig, after, size)
        rig.pool.abandon()
        disk.power_cut("all") if after % 2 else disk.process_kill()
        again = disk.fork(1)
        pool = open_pool(again, CONFIG)                      # the recovery alone; then another crash
        info = pool.info(1)
        seen += info.size_bytes == size and info.mapped_bytes > BLOCK
        pool.abandon()
        judge(again)
        settled(again, size_bytes=size)
        settled(disk, size_bytes=size)
        if steps < after:
            break
    assert seen > 5


def test_a_snapshot_of_the_rest_and_growth_come_after(furnished: SimDisk) -> None:
    """What is started right after the recovery finds the tail gone: grown again, the volume is zeros there."""
    disk = furnished.fork(3)
    rig = Rig(1, CONFIG, disk)
    shrink(rig, 60, LEAF)
    rig.pool.abandon()
    disk.process_kill()
    pool = open_pool(disk, CONFIG)
    assert pool.info(1).size_bytes == LEAF
    (snapshot,) = pool.call("snapshot", pairs=[(1, "v@after")])
    pool.call("resize", object_id=1, size_bytes=LEAVES * LEAF)
    for object_id in (1, snapshot):
        assert pool.info(object_id).mapped_bytes == BLOCK
    for leaf in range(1, LEAVES):
        assert not any(pool.call("read", object_id=1, offset_bytes=leaf * LEAF, length_bytes=8 * BLOCK))
    pool.drain()
    pool.close()
    assert not interrupted(judge(disk))


def test_a_write_that_a_shrink_overtakes_does_not_come_back_when_the_volume_grows() -> None:
    """Its data is on the way to new blocks when the end moves; it is answered later, behind the end."""
    rig = Rig(1, CONFIG)
    rig.do("create", name="v", size_bytes=8 << 20)
    data = b"late" * (8 * BLOCK // 4)
    rig.pool.start("write", object_id=1, offset_bytes=4 << 20, data=data)
    rig.turn()
    held = rig.held = {io_id for io_id, kind, _, length in rig.pool.pending_io() if (kind, length) == ("write", len(data))}
    assert held
    shrinking = rig.pool.start("resize", object_id=1, size_bytes=1 << 20)
    ended = set()
    for _ in range(200):
        for io_id, kind, *_ in rig._watch_syncs():
            if io_id not in held:
                rig.perform(io_id, kind)
        rig.now_us += 10
        rig.pool.turn(rig.now_us)
        ended |= {done.token for done in rig.pool.reap()}
    assert ended == {shrinking}
    rig.pool.drain()
    rig.pool.reap()
    rig.pool.call("resize", object_id=1, size_bytes=8 << 20)
    assert rig.pool.call("read", object_id=1, offset_bytes=4 << 20, length_bytes=len(data)) == bytes(len(data))
    rig.pool.close()
    judge(rig.disk)
