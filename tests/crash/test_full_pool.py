"""A full pool: what would allocate fails, everything else goes on, and room that comes back is used without a restart."""

from __future__ import annotations

import random

import pytest

from core.errors import PoolError
from core.pool.engine import Pool
from tests.crash.actions import live
from tests.crash.rig import BLOCK, Config, Rig
from tests.support.history import Op, Violation
from tests.support.simdisk import SimDisk

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, volume_bytes=16 << 20, checked=True)
CHUNK = 128 << 10


def write(rig: Rig, object_id: int, offset: int, length: int = CHUNK) -> Op:
    data = rig.oracle.make_data(object_id, offset, length)
    return rig.do("write", object_id=object_id, offset_bytes=offset, data=data)


def filled() -> Rig:
    """A volume written until the pool has no more room; a snapshot shares its first megabyte."""
    rig = Rig(1, CONFIG)
    rig.do("create", name="v", size_bytes=32 << 20)
    write(rig, 1, 0, 1 << 20)
    rig.do("snapshot", pairs=[(1, "v@s")])
    offset = 1 << 20
    while write(rig, 1, offset).ok:
        offset += CHUNK
    return rig


def settle(rig: Rig) -> None:
    rig.do("flush")
    rig.pool.drain()
    rig.do("checkpoint")
    rig.pool.drain()


def test_everything_else_goes_on() -> None:
    rig = filled()
    assert not write(rig, 1, 24 << 20).ok                    # a new block
    assert not write(rig, 1, 0).ok                           # a block that the snapshot shares
    assert write(rig, 1, 1 << 20).ok                         # a block of its own
    assert rig.do("read", object_id=2, offset_bytes=0, length_bytes=1 << 20).ok
    assert rig.do("flush").ok
    assert rig.do("unmap", object_id=1, offset_bytes=2 << 20, length_bytes=512 << 10).ok
    settle(rig)
    assert write(rig, 1, 24 << 20).ok                        # room came back: no restart needed
    rig.verify()
    rig.crash(power=True)
    rig.reopen()


def test_delete_makes_room() -> None:
    rig = filled()
    assert rig.do("unmap", object_id=1, offset_bytes=0, length_bytes=1 << 20).ok     # still the snapshot's
    assert rig.do("delete", object_id=2).ok
    settle(rig)
    for i in range(7):
        assert write(rig, 1, i * CHUNK).ok, i
    rig.verify()


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
def test_full_pool_survives(power: bool) -> None:
    rig = filled()
    for offset in range(1 << 20, 4 << 20, CHUNK):
        write(rig, 1, offset)
        write(rig, 1, offset + (20 << 20))
    rig.crash(power=power)
    rig.reopen()
    assert not write(rig, 1, 30 << 20).ok
    assert rig.do("delete", object_id=1).ok
    settle(rig)
    assert rig.do("create", name="w", size_bytes=8 << 20).ok
    assert write(rig, 3, 0).ok
    rig.verify()


def test_lives_in_a_crowded_pool(first_seed: int) -> None:
    refused = 0
    for seed in range(first_seed, first_seed + 3):
        rig = Rig(seed, Config(size_bytes=25 << 20, cache_bytes=0, volume_bytes=8 << 20, hot_bytes=8 << 20))
        rig.do("create", name="filler", size_bytes=32 << 20)
        offset = 0
        while write(rig, 1, offset).ok:
            offset += CHUNK
        try:
            live(rig, 200)
        except (Violation, AssertionError) as error:
            raise Violation(f"{error}\n{rig.story()}") from error
        refused += sum("no_space" in line for line in rig.log)
    assert refused > 0


@pytest.mark.parametrize("size_bytes", [4096, 1 << 20, 4 << 20])
def test_a_reservation_is_kept(size_bytes: int) -> None:
    """All of a volume can be written, in any order, when another has filled the pool with a node or two for each block."""
    r = random.Random(size_bytes)
    disk = SimDisk(30 << 20)
    Pool.create(disk, name="p")
    pool = Pool(disk, cache_bytes=0)
    kept = pool.call("create", name="kept", size_bytes=size_bytes, reserve_bytes=size_bytes)
    other = pool.call("create", name="other", size_bytes=1 << 40)
    refused = 0
    while refused < 3:
        try:
            pool.call("write", object_id=other, offset_bytes=r.randrange(1 << 28) * BLOCK, data=bytes(BLOCK))
        except PoolError as error:
            if error.code != "no_space":
                raise
            refused += 1
            pool.drain()
    stats = pool.stats()
    assert stats["free_bytes"] - stats["reserve_bytes"] // 2 >= size_bytes
    offsets = list(range(0, size_bytes, BLOCK))
    r.shuffle(offsets)
    for offset in offsets:
        pool.call("write", object_id=kept, offset_bytes=offset, data=b"k" * BLOCK)
    assert pool.info(kept).mapped_bytes == size_bytes
