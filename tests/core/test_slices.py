"""Long work on a map is done in slices: between two of them the engine's lock is free and others have their turn."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

LEAF = 2 << 20
LEAVES = 1500
VOLUME = 1 << 40


@pytest.fixture(scope="module")
def pool() -> Pool:
    """A volume with one block in each of many leaves, behind them a part of which only upper nodes are left."""
    device = MemoryDevice(96 << 20)
    Pool.create(device, name="test", journal_blocks=2048, area_blocks=4096)
    made = Pool(device)
    volume = made.call("create", name="v", size_bytes=VOLUME)
    made.call("create", name="empty", size_bytes=VOLUME)
    for leaf in range(2 * LEAVES):
        made.start("write", object_id=volume, offset_bytes=leaf * LEAF, data=b"x" * 4096)
        if leaf % 100 == 99:
            made.drain()
            made.reap()
    made.call("unmap", object_id=volume, offset_bytes=LEAVES * LEAF, length_bytes=LEAVES * LEAF)
    made.drain()
    return made


def turns(pool: Any, op: str, **args: Any) -> int:
    """How many turns an operation takes that finds every page in memory."""
    token = pool.start(op, **args)
    for count in range(1, 100000):
        pool.turn()
        for io_id, *_ in pool.pending_io():
            pool.perform(io_id)
        if any(done.token == token and done.code == "ok" for done in pool.reap()):
            return count
    raise AssertionError(f"{op} does not end")


def test_a_leaf_beside_a_hole_is_compared_at_once(pool: Pool) -> None:
    assert turns(pool, "diff", a_id=2, b_id=1, limit=10000) < 4 * LEAVES // 256


@pytest.mark.parametrize(("op", "args", "looks"), [
    ("extents", {"object_id": 1, "offset_bytes": 0, "length_bytes": VOLUME, "limit": 10000}, 256),
    ("exclusive", {"object_ids": [1]}, 32),
    ("diff", {"a_id": 1, "b_id": 2, "limit": 10000}, 256),
    ("unmap", {"object_id": 1, "offset_bytes": 0, "length_bytes": LEAVES * LEAF}, 64)])
def test_a_turn_looks_at_a_bounded_part(pool: Pool, op: str, args: dict[str, Any], looks: int) -> None:
    assert turns(pool, op, **args) >= LEAVES // looks


@pytest.mark.parametrize(("op", "args"), [
    ("unmap", {"offset_bytes": LEAVES * LEAF, "length_bytes": LEAVES * LEAF}), ("resize", {"size_bytes": LEAF})])
def test_of_holes_too(pool: Pool, op: str, args: dict[str, Any]) -> None:
    """More than 1024 of them, one by one: upper nodes without leaves."""
    assert turns(pool, op, object_id=1, **args) > turns(pool, op, object_id=2, **args)


def test_differences_of_a_leaf_and_a_huge_entry_or_a_hole() -> None:
    device = MemoryDevice(96 << 20)
    Pool.create(device, name="test")
    made = Pool(device)
    volume = made.call("create", name="v", size_bytes=8 << 20)
    made.call("write", object_id=volume, offset_bytes=0, data=b"x" * LEAF)
    clone = made.call("clone", source_id=volume, name="c")
    empty = made.call("create", name="empty", size_bytes=8 << 20)
    for first, blocks in ((3, 1), (7, 2), (511, 2)):
        made.call("write", object_id=clone, offset_bytes=first * 4096, data=b"y" * blocks * 4096)
    changed = [(3 * 4096, 4096), (7 * 4096, 8192), (511 * 4096, 8192)]
    assert made.call("diff", a_id=volume, b_id=clone, limit=10) == changed
    assert made.call("diff", a_id=clone, b_id=volume, limit=10) == changed
    made.call("unmap", object_id=clone, offset_bytes=0, length_bytes=3 * 4096)
    made.call("unmap", object_id=clone, offset_bytes=9 * 4096, length_bytes=4096)
    mapped = [(3 * 4096, 6 * 4096), (10 * 4096, 503 * 4096)]
    assert made.call("diff", a_id=clone, b_id=empty, limit=10) == mapped
    assert made.call("diff", a_id=empty, b_id=clone, limit=10) == mapped


def test_one_unmap_of_several_ranges_ends_at_the_first_that_is_refused() -> None:
    device = MemoryDevice(96 << 20)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
    made = Pool(device)
    volume = made.call("create", name="v", size_bytes=1 << 20)
    made.call("write", object_id=volume, offset_bytes=0, data=b"x" * (1 << 20))
    made.drain()
    before = made.stats()["journal_frames"]
    made.call("unmap", object_id=volume, offset_bytes=0, length_bytes=4096,
              further=[(at, 4096) for at in range(8192, 1 << 20, 8192)])
    assert made.stats()["journal_frames"] - before == 1, "127 records of 32 bytes"
    with pytest.raises(PoolError) as caught:
        made.call("unmap", object_id=volume, offset_bytes=4096, length_bytes=512,
                  further=[(3 * 4096, 4096), (1 << 20, 4096), (5 * 4096, 4096)])
    assert caught.value.code == "range"
    data = made.call("read", object_id=volume, offset_bytes=0, length_bytes=6 * 4096)
    assert data == bytes(4096) + bytes(512) + b"x" * 3584 + bytes(3 * 4096) + b"x" * 4096
    for further in ([(0, 0)], [(-4096, 4096)]):
        with pytest.raises(PoolError, match="empty, or outside"):
            made.call("unmap", object_id=volume, offset_bytes=0, length_bytes=4096, further=further)


def test_a_checkpoint_chooses_homes_in_slices_and_writes_neighbours_together() -> None:
    device = MemoryDevice(96 << 20)
    Pool.create(device, name="test", journal_blocks=2048, area_blocks=8192)
    made = Pool(device)
    volume = made.call("create", name="v", size_bytes=LEAVES * LEAF)
    made.call("checkpoint")
    for leaf in range(LEAVES):
        at = leaf * 977 % LEAVES         # they become dirty in any order
        made.start("write", object_id=volume, offset_bytes=at * LEAF, data=bytes([at % 251]) * 4096)
        if leaf % 100 == 99:
            made.drain()
            made.reap()
    assert made.stats()["dirty_pages"] > LEAVES
    token = made.start("checkpoint")
    before = writes = 0
    while token not in [done.token for done in made.reap()]:
        made.turn()
        requests = made.pending_io()
        writes += sum(kind == "write" for _, kind, _, _ in requests)
        before += writes == 0
        for io_id, *_ in requests:
            made.perform(io_id)
    assert before >= LEAVES // 128
    assert writes < LEAVES // 16, "each takes neighbours along"
    made.close()
    again = Pool(device)
    for at in (0, 1, 976, LEAVES - 1):
        assert again.call("read", object_id=volume, offset_bytes=at * LEAF, length_bytes=4096) == bytes([at % 251]) * 4096
    again.close()
