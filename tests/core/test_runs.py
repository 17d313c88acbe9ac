"""Runs as readers outside get them: the same as extents and differences say, packed, without gaps."""

from __future__ import annotations

import random
import struct

from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB = 1 << 20


def new_pool() -> Pool:
    device = MemoryDevice(128 * MIB)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
    return Pool(device)


def all_runs(pool: Pool, object_id: int, since_id: int | None, start: int, end: int, limit: int) -> list[tuple[int, int]]:
    """(block, state) for each block, asked for again and again."""
    found, at = [], start
    while at < end:
        raw = pool.call("runs", object_id=object_id, since_id=since_id, offset_bytes=at, length_bytes=end - at, limit=limit)
        assert 0 < len(raw) <= 8 * limit
        for length, state in struct.iter_unpack("<II", raw):
            assert length > 0
            assert length % 4096 == 0
            found += [(block, state) for block in range(at // 4096, (at + length) // 4096)]
            at += length
    assert at == end
    return found


def test_runs_say_what_extents_and_differences_say() -> None:
    source, pool = random.Random(5), new_pool()
    size = 24 * MIB
    volume = pool.call("create", name="v", size_bytes=size)
    for _ in range(40):
        at, length = source.randrange(size // 4096) * 4096, source.choice((4096, 12288, 2 * MIB))
        pool.call("write", object_id=volume, offset_bytes=at, data=source.randbytes(min(length, size - at)))
    (first,) = pool.call("snapshot", pairs=[(volume, "v@a")])
    pool.call("resize", object_id=volume, size_bytes=size + 4 * MIB)
    for _ in range(40):
        at = source.randrange(size // 4096) * 4096
        if source.random() < 0.5:
            pool.call("write", object_id=volume, offset_bytes=at, data=source.randbytes(4096))
        else:
            pool.call("unmap", object_id=volume, offset_bytes=at, length_bytes=min(65536, size - at))
    (second,) = pool.call("snapshot", pairs=[(volume, "v@b")])
    whole = size + 4 * MIB
    mapped, changed = set(), set(range(size // 4096, whole // 4096))
    for offset, length, there in pool.call("extents", object_id=second, offset_bytes=0, length_bytes=whole, limit=10**6):
        mapped |= set(range(offset // 4096, (offset + length) // 4096)) if there else set()
    for offset, length in pool.call("diff", a_id=first, b_id=second, offset_bytes=0, limit=10**6):
        changed |= set(range(offset // 4096, (offset + length) // 4096))
    for limit in (1, 7, 65536):
        allocation = [(each, 0 if each in mapped else 3) for each in range(whole // 4096)]
        assert all_runs(pool, second, None, 0, whole, limit) == allocation
        assert all_runs(pool, second, first, 0, whole, limit) == [(each, int(each in changed)) for each in range(whole // 4096)]
    middle = 5 * MIB
    assert all_runs(pool, second, first, middle, size + MIB, 65536) == [
        (each, int(each in changed)) for each in range(middle // 4096, (size + MIB) // 4096)]
    assert len(changed) < whole // 4096 - 100
    assert len(mapped) > 100


def test_a_long_hole_is_several_runs_and_a_smaller_object_has_no_changes_behind_its_end() -> None:
    pool = new_pool()
    large = pool.call("create", name="l", size_bytes=1 << 50)
    small = pool.call("create", name="s", size_bytes=MIB)
    raw = pool.call("runs", object_id=large, offset_bytes=0, length_bytes=5 << 30, limit=100)
    assert list(struct.iter_unpack("<II", raw)) == [(2 << 30, 3), (2 << 30, 3), (1 << 30, 3)]
    raw = pool.call("runs", object_id=large, offset_bytes=0, length_bytes=1 << 50, limit=2)
    assert list(struct.iter_unpack("<II", raw)) == [(2 << 30, 3)] * 2
    raw = pool.call("runs", object_id=small, since_id=large, offset_bytes=0, length_bytes=1 << 40, limit=9)
    assert raw == struct.pack("<II", MIB, 0)
    raw = pool.call("runs", object_id=large, since_id=small, offset_bytes=3 * MIB, length_bytes=4096, limit=9)
    assert raw == struct.pack("<II", 4096, 1)
