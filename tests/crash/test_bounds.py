"""What one checkpoint must hold is bounded: whatever reclaim, growth and storms of snapshots make dirty, it fits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from core.check import check
from core.errors import PoolError
from tests.crash.rig import BLOCK, Config, Rig, format_disk, open_pool
from tests.support.oracle import Op
from tests.support.simdisk import SimDisk

LEAF = 2 << 20


def turns(pool: Any, count: int, *, hold: range, flush_every: int = 0) -> None:
    """Run the engine with every write to the blocks of `hold` left pending: a checkpoint that takes very long."""
    for step in range(count):
        pool.turn(10**9 + 10 * step)
        for io_id, kind, offset, _ in pool.pending_io():
            if kind != "write" or offset // BLOCK not in hold:
                pool.perform(io_id)
        if flush_every and step % flush_every == 0:
            pool.start("flush")
        pool.reap()


def scattered(config: Config, leaves: int) -> tuple[SimDisk, Any]:
    """A volume with some blocks in each of many leaves, too many for order of arrival: they lie in as many runs of the pool."""
    disk = format_disk(config)
    pool = open_pool(disk, config)
    pool.call("create", name="v", size_bytes=1 << 40)
    for leaf in range(leaves):
        pool.call("write", object_id=1, offset_bytes=leaf * LEAF, data=b"x" * 16 * BLOCK)
    pool.call("checkpoint")
    pool.drain()
    return disk, pool


def test_reclaim_waits_for_the_checkpoint() -> None:
    """A deleted volume's counts lie in more pages than an area half holds, and the checkpoint under way does not end."""
    config = Config(size_bytes=2 << 30, cache_bytes=64 << 20, area_blocks=128, journal_blocks=512)
    disk, pool = scattered(config, 800)
    pool.start("delete", object_id=1)
    area = range(2560 + 512, 2560 + 512 + 256)
    turns(pool, 1500, hold=area, flush_every=20)
    assert 0 < pool.stats()["dirty_pages"] < 112
    assert pool.stats()["pending_items"] > 100
    pool.drain()
    pool.call("checkpoint")      # the homes of the last nodes to go wait for it
    pool.drain()
    assert not pool.stats()["failed"]
    assert pool.stats()["pending_items"] == 0
    pool.close()
    assert check(disk).ok


def test_growth_by_more_summaries_than_an_area_half_holds() -> None:
    """A small pool becomes one of 8 TiB: 4096 summary pages, in steps, at any of which it may stop."""
    config = Config(size_bytes=64 << 20, cache_bytes=64 << 20)
    disk = format_disk(config)
    pool = open_pool(disk, config)
    pool.call("create", name="v", size_bytes=1 << 20)
    pool.call("write", object_id=1, offset_bytes=0, data=b"x" * BLOCK)
    disk.size_bytes = 8 << 40
    for after, power in itertools.product((100, 300, 1000), (True, False)):
        other = disk.fork(after)
        other.size_bytes = disk.size_bytes
        cut = open_pool(other, config)
        other.cut_after(after)
        with pytest.raises(PoolError):
            cut.call("grow", size_bytes=8 << 40)
        cut.abandon()
        other.power_cut() if power else other.process_kill()
        again = open_pool(other, config)
        assert 64 << 20 <= again.size_bytes < 8 << 40
        again.call("grow", size_bytes=8 << 40)
        again.abandon()
    pool.call("grow", size_bytes=8 << 40)
    assert pool.size_bytes == 8 << 40
    assert not pool.stats()["failed"]
    pool.close()
    pool = open_pool(disk, config)
    assert pool.call("read", object_id=1, offset_bytes=0, length_bytes=BLOCK) == b"x" * BLOCK
    pool.close()


def test_changed_objects_count_before_their_pages_are_dirty() -> None:
    """Many new objects mean many pages of the catalog, which only the checkpoint touches; an area half must hold those too."""
    config = Config(size_bytes=256 << 20, cache_bytes=64 << 20, area_blocks=128, journal_blocks=8192)
    disk, pool = scattered(config, 40)
    area = range(2560 + 8192, 2560 + 8192 + 256)
    tokens = [pool.start("clone", source_id=1, name=f"c{n}") for n in range(1500)]
    turns(pool, 600, hold=area, flush_every=10)
    pool.abandon()
    disk.process_kill()
    pool = open_pool(disk, config)
    assert 100 < len(pool.objects()) <= len(tokens)
    pool.close()
    assert check(disk).ok


# -- what was let in, and finds its object changed --------------------------------------------------------------------

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0)


def write(rig: Rig, object_id: int, offset: int, length: int) -> Op:
    data = rig.oracle.make_data(object_id, offset, length)
    return rig.start("write", object_id=object_id, offset_bytes=offset, data=data)


@pytest.mark.parametrize("kind", ["write", "write_atomic", "share"])
def test_nothing_is_mapped_behind_the_end(kind: str) -> None:
    """What was under way when its volume was shrunk does not enter the map behind the new end; an atomic write ends first."""
    rig = Rig(1, CONFIG)
    rig.do("create", name="v", size_bytes=8 << 20)
    rig.do("create", name="w", size_bytes=8 << 20)
    rig.settle(write(rig, 2, 0, 64 << 10))
    rig.do("checkpoint")
    rig.pool.drain()
    disk = rig.disk
    rig.pool.close()
    pool = open_pool(disk, CONFIG)                      # nothing in memory: what comes now waits for pages
    args: dict[str, Any] = {"object_id": 1, "offset_bytes": 6 << 20, "data": b"z" * 16384}
    if kind == "share":
        args = {"dst_id": 1, "dst_offset_bytes": 6 << 20, "src_id": 2, "src_offset_bytes": 0, "length_bytes": 16384}
    late = pool.start(kind, **args)
    pool.turn(10**9)
    held = {io_id for io_id, *_ in pool.pending_io()}
    assert held
    shrink = pool.start("resize", object_id=1, size_bytes=1 << 20)
    codes: dict[int, str] = {}
    for step in range(200):
        pool.turn(10**9 + 10 * step)
        for io_id, *_ in pool.pending_io():
            if io_id not in held or shrink in codes or (kind == "write_atomic" and step > 100):
                pool.perform(io_id)
        codes |= {done.token: done.code for done in pool.reap()}
    assert codes[shrink] == "ok"
    assert codes[late] == ("ok" if kind == "write_atomic" else "range")
    assert next(iter(codes)) == (late if kind == "write_atomic" else shrink)
    assert pool.info(1).mapped_bytes == 0
    pool.drain()
    pool.close()
    report = check(disk)
    assert report.ok, report.errors


@pytest.mark.parametrize("kind", ["read", "write", "unmap"])
def test_a_revert_that_makes_the_tree_lower(kind: str) -> None:
    """What was let in far behind the size that the volume then gets back must not be taken for blocks in front."""
    disk = format_disk(CONFIG)
    pool = open_pool(disk, CONFIG)
    pool.call("create", name="v", size_bytes=1 << 20)
    pool.call("write", object_id=1, offset_bytes=0, data=b"a" * 65536)
    pool.call("snapshot", pairs=[(1, "v@s")])
    pool.call("resize", object_id=1, size_bytes=4 << 30)
    pool.call("write", object_id=1, offset_bytes=2 << 30, data=b"b" * 65536)
    pool.close()
    pool = open_pool(disk, CONFIG)
    args: dict[str, Any] = {"object_id": 1, "offset_bytes": 2 << 30}
    args |= {"data": b"z" * 8192} if kind == "write" else {"length_bytes": 8192}
    late = pool.start(kind, **args)
    pool.turn(10**9)
    held = {io_id for io_id, *_ in pool.pending_io()}
    assert held
    back = pool.start("revert", volume_id=1, snapshot_id=2)
    done: dict[int, Any] = {}
    for step in range(300):
        pool.turn(10**9 + 10 * step)
        for io_id, *_ in pool.pending_io():
            if io_id not in held or step > 100:
                pool.perform(io_id)
        done |= {d.token: d for d in pool.reap()}
    assert done[back].code == "ok"
    assert kind != "read" or done[late].value in (None, bytes(8192), b"b" * 8192)
    assert pool.call("read", object_id=1, offset_bytes=0, length_bytes=65536) == b"a" * 65536
    pool.drain()
    pool.close()
    report = check(disk)
    assert report.ok, report.errors


def test_check_knows_leaves_that_are_yet_to_be_dropped() -> None:
    """A leaf in the pending list has level 0, which is no length."""
    config = Config(size_bytes=1 << 30, cache_bytes=64 << 20)
    disk, pool = scattered(config, 400)
    pool.call("snapshot", pairs=[(1, "v@s")])
    pool.start("unmap", object_id=1, offset_bytes=0, length_bytes=400 * LEAF)
    pool.start("checkpoint")
    turns(pool, 60, hold=range(0))
    pool.abandon()
    disk.process_kill()
    report = check(disk)
    assert report.ok, report.errors
    assert report.counts["pending"]


def test_blocks_of_writes_under_way_fit_one_checkpoint() -> None:
    """Large writes to what is mapped block by block, and a medium that takes very long: a checkpoint names each block taken."""
    config = Config(size_bytes=320 << 20, cache_bytes=64 << 20, area_blocks=128, journal_blocks=512)
    disk = format_disk(config)
    pool = open_pool(disk, config)
    size_bytes = 96 << 20
    pool.call("create", name="v", size_bytes=size_bytes)
    for block in range(0, 64, 2):
        pool.call("write", object_id=1, offset_bytes=block * BLOCK, data=b"x" * BLOCK)
    done = 64 * BLOCK
    while done < size_bytes:          # holes and shared blocks in turn: each block that is written is a piece of its own
        length = min(done, size_bytes - done)
        pool.call("share", dst_id=1, dst_offset_bytes=done, src_id=1, src_offset_bytes=0, length_bytes=length)
        done += length
    for at in range(0, size_bytes, 4 << 20):
        pool.start("write", object_id=1, offset_bytes=at, data=bytes([at >> 22]) * (4 << 20))
    pool.start("checkpoint")
    turns(pool, 60, hold=range(2560 + 512 + 2 * config.area_blocks, disk.size_bytes // BLOCK), flush_every=20)
    assert pool.failure() == ""
    assert len(pool.pending_io()) <= 2048
    pool.abandon()
    assert check(disk).ok


def test_writes_that_waited_for_others_all_end() -> None:
    """More than may be under way at once, to a pool of the least size, with others that read, flush and change the catalog."""
    config = Config(size_bytes=64 << 20, cache_bytes=64 << 20, area_blocks=128, journal_blocks=512)
    disk = format_disk(config)
    pool = open_pool(disk, config)
    pool.call("create", name="v", size_bytes=16 << 20)
    tokens = {pool.start("write", object_id=1, offset_bytes=at, data=bytes([at >> 20]) * (1 << 20), fua=at % 2 == 0)
              for at in range(0, 16 << 20, 1 << 20)}
    tokens |= {pool.start("write_atomic", object_id=1, offset_bytes=at << 20, data=bytes([at]) * BLOCK) for at in range(16)}
    tokens |= {pool.start("flush"), pool.start("snapshot", pairs=[(1, "v@a")])}
    for step in range(20000):
        done = pool.reap()
        assert all(each.code == "ok" for each in done)
        tokens -= {each.token for each in done}
        if not tokens:
            break
        pool.turn(10**9 + 10 * step)
        for io_id, *_ in pool.pending_io()[:40]:
            pool.perform(io_id)
    assert not tokens
    for at in range(16):
        assert pool.call("read", object_id=1, offset_bytes=at << 20, length_bytes=BLOCK)[0] == at
    pool.drain()
    pool.close()
    assert check(disk).ok
