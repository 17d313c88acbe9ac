"""A walk whose pages are not in memory: how often it waits for the medium (core/ops/walk.pyx)."""

from __future__ import annotations

import pytest

from core.pool.engine import Pool
from tests.support.simdisk import SimDisk

BLOCK = 4096
LEAF_BYTES = 512 * BLOCK            # of a volume, behind one leaf of its map
LEAVES = 512


@pytest.fixture(scope="module")
def disk() -> SimDisk:
    """A volume of which a snapshot has a block in each leaf, and another snapshot another one."""
    made = SimDisk(96 << 20)
    Pool.create(made, name="cold")
    pool = Pool(made)
    volume = pool.call("create", name="v", size_bytes=LEAVES * LEAF_BYTES)
    for number in (1, 2):
        for leaf in range(LEAVES):
            pool.call("write", object_id=volume, offset_bytes=leaf * LEAF_BYTES + number * 9 * BLOCK, data=b"x" * BLOCK)
        pool.call("snapshot", pairs=[(volume, f"v@{number}")])
    pool.close()
    return made


def walked(disk: SimDisk, since: str, name: str) -> tuple[int, int]:
    """Reads of the medium, and how often all of them were waited for, from a cold start to the last row."""
    pool, reads, waits = Pool(disk), 0, 0
    ids = pool.names()
    rows, at = b"", 0
    while at is not None:
        token = pool.start("changes", since_id=ids[since], object_id=ids[name], offset_bytes=at, limit=100)
        pool.turn()
        while (done := pool.take(token)) is None:
            asked = pool.pending_io()
            reads += sum(kind == "read" for _, kind, _, _ in asked)
            waits += bool(asked)
            for number, *_ in asked:
                pool.perform(number)
            pool.turn()
        assert done.code == "ok"
        more, at = done.value
        rows += more
    assert len(rows) == 24 * LEAVES
    pool.abandon()
    return reads, waits


def test_leaves_are_read_ahead(disk: SimDisk) -> None:
    reads, waits = walked(disk.fork(1), "v@1", "v@2")
    assert reads >= 2 * LEAVES          # each leaf of both
    assert waits <= reads // 10         # one by one there would be as many waits
