"""The engine against a plain Python model: what is read is what was written, through snapshots, kills and reopenings."""

from __future__ import annotations

import random

import pytest

from core import layout
from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice
from tests.support.model import Model

MIB = 1 << 20


def new_pool(size_bytes: int = 96 * MIB, cache_bytes: int = 4 * MIB) -> tuple[MemoryDevice, Pool]:
    device = MemoryDevice(size_bytes)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
    return device, Pool(device, cache_bytes=cache_bytes)


def volume(pool: Pool, name: str = "v", size_bytes: int = 8 * MIB, **args: object) -> int:
    made: int = pool.call("create", name=name, size_bytes=size_bytes, **args)
    return made


def fill(pool: Pool, object_id: int, step_bytes: int) -> int:
    """Write from the start until the pool is full; how many bytes went in."""
    filled = 0
    try:
        while True:
            pool.call("write", object_id=object_id, offset_bytes=filled, data=b"f" * step_bytes)
            filled += step_bytes
    except PoolError as e:
        if e.code != "no_space":
            raise
    return filled


@pytest.mark.parametrize("seed", range(8))
def test_random_life_agrees_with_a_model(seed: int) -> None:
    Model(seed).live(250)


def test_a_volume_written_in_order_needs_no_leaves() -> None:
    _, pool = new_pool()
    v = volume(pool, size_bytes=32 * MIB)
    before = pool.stats()["free_bytes"]
    for at in range(0, 32 * MIB, 128 << 10):
        pool.call("write", object_id=v, offset_bytes=at, data=b"x" * (128 << 10))
    pool.call("checkpoint")
    pool.drain()
    used = before - pool.stats()["free_bytes"] - 32 * MIB
    assert used <= 8 * 4096, "metadata of a volume written in order: its upper nodes and the catalog only"


def test_huge_entries_form_again_where_random_writes_fill_a_region() -> None:
    _, pool = new_pool()
    v = volume(pool, size_bytes=4 * MIB)
    order = list(range(1024))
    random.Random(1).shuffle(order)
    for block in order:
        pool.call("write", object_id=v, offset_bytes=block * 4096, data=bytes([block % 255 + 1]) * 4096)
    extents = pool.call("extents", object_id=v, offset_bytes=0, length_bytes=4 * MIB, limit=100)
    assert extents == [(0, 4 * MIB, True)]
    before = pool.stats()["free_bytes"]
    pool.call("checkpoint")
    pool.drain()
    assert before - pool.stats()["free_bytes"] <= 6 * 4096


def test_a_snapshot_and_the_first_write_after_it_copy_nothing() -> None:
    device, pool = new_pool()
    v = volume(pool, size_bytes=16 * MIB)
    pool.call("write", object_id=v, offset_bytes=0, data=b"a" * (16 * MIB))
    pool.call("flush")
    written = device.written_bytes
    snapshot = pool.call("snapshot", pairs=[(v, "v@s")])[0]
    assert device.written_bytes - written <= 3 * 4096, "a snapshot costs its journal frames"
    written = device.written_bytes
    pool.call("write", object_id=v, offset_bytes=4 * MIB, data=b"b" * 4096)
    assert device.written_bytes - written <= 2 * 4096, "the block itself and a journal frame"
    assert pool.call("read", object_id=snapshot, offset_bytes=4 * MIB, length_bytes=4096) == b"a" * 4096


def test_space_comes_back_whatever_the_order_of_deletes() -> None:
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        _, pool = new_pool()
        v = volume(pool)
        pool.call("checkpoint")
        pool.drain()
        free = pool.stats()["free_bytes"]
        pool.call("write", object_id=v, offset_bytes=0, data=b"a" * (3 * MIB))
        s = pool.call("snapshot", pairs=[(v, "v@s")])[0]
        pool.call("write", object_id=v, offset_bytes=MIB, data=b"b" * MIB)
        c = pool.call("clone", source_id=s, name="c")
        pool.call("write", object_id=c, offset_bytes=2 * MIB, data=b"c" * MIB)
        for which in order:
            pool.call("delete", object_id=(v, s, c)[which])
            pool.drain()
        for _ in range(3):
            pool.call("checkpoint")
            pool.drain()
        assert pool.stats()["free_bytes"] >= free
        assert pool.stats()["pending_items"] == 0


def test_a_full_pool_refuses_what_allocates_and_nothing_else() -> None:
    _, pool = new_pool(64 * MIB)
    v = volume(pool, size_bytes=256 * MIB)
    filled = fill(pool, v, 65536)
    assert pool.call("read", object_id=v, offset_bytes=filled - 65536, length_bytes=65536) == b"f" * 65536
    pool.call("write", object_id=v, offset_bytes=0, data=b"g" * 65536)
    pool.call("unmap", object_id=v, offset_bytes=0, length_bytes=8 * MIB)
    pool.call("flush")
    pool.drain()
    pool.call("write", object_id=v, offset_bytes=filled + 4096, data=b"h" * MIB)


def test_quota_and_reservation() -> None:
    _, pool = new_pool(64 * MIB)
    q = volume(pool, "q", 8 * MIB, quota_bytes=MIB)
    pool.call("write", object_id=q, offset_bytes=0, data=b"q" * MIB)
    with pytest.raises(PoolError, match="no space"):
        pool.call("write", object_id=q, offset_bytes=2 * MIB, data=b"q" * 4096)
    pool.call("write", object_id=q, offset_bytes=0, data=b"r" * MIB)
    keep = volume(pool, "keep", 8 * MIB, reserve_bytes=8 * MIB)
    hog = volume(pool, "hog", 256 * MIB)
    assert fill(pool, hog, MIB) > 0
    pool.call("write", object_id=keep, offset_bytes=0, data=b"k" * (8 * MIB))


def test_a_reservation_that_cannot_be_kept_is_refused() -> None:
    """What is promised to one volume must be there beside what all others were promised."""
    _, pool = new_pool(64 * MIB)
    room = pool.stats()["available_bytes"] // MIB * MIB
    with pytest.raises(PoolError, match="cannot hold that reservation"):
        volume(pool, "a", MIB, reserve_bytes=room + MIB)
    a = volume(pool, "a", room, reserve_bytes=room - 4 * MIB)
    with pytest.raises(PoolError, match="cannot hold that reservation"):
        volume(pool, "b", MIB, reserve_bytes=5 * MIB)
    b = volume(pool, "b", 8 * MIB, quota_bytes=8 * MIB)
    with pytest.raises(PoolError, match="cannot hold that reservation"):
        pool.call("set", object_id=b, reserve_bytes=5 * MIB)
    with pytest.raises(PoolError, match="beyond the quota"):
        pool.call("set", object_id=b, reserve_bytes=9 * MIB)
    with pytest.raises(PoolError, match="not negative"):
        volume(pool, "c", MIB, quota_bytes=-1)
    pool.call("set", object_id=b, reserve_bytes=3 * MIB)
    pool.call("write", object_id=a, offset_bytes=0, data=b"a" * (room - 4 * MIB))
    pool.call("write", object_id=b, offset_bytes=0, data=b"b" * (3 * MIB))
    assert pool.stats()["reserved_unused_bytes"] == 0


def test_checksums_find_silent_damage() -> None:
    device, pool = new_pool()
    v = volume(pool, size_bytes=MIB, checksum=True)
    pool.call("write", object_id=v, offset_bytes=0, data=b"fine" * 4096)
    pool.call("write", object_id=v, offset_bytes=512, data=b"part" * 128)
    expected = b"fine" * 128 + b"part" * 128 + b"fine" * 128
    assert pool.call("read", object_id=v, offset_bytes=0, length_bytes=1536) == expected
    pool.close()
    page = next(i for i, data in device.pages.items() if data.startswith(expected))
    device.pages[page] = b"F" + device.pages[page][1:]
    pool = Pool(device)
    with pytest.raises(PoolError) as caught:
        pool.call("read", object_id=v, offset_bytes=0, length_bytes=512)
    assert caught.value.code == "checksum"
    assert pool.call("read", object_id=v, offset_bytes=4096, length_bytes=4096) == b"fine" * 1024


def test_diff_lists_what_changed() -> None:
    _, pool = new_pool()
    v = volume(pool)
    pool.call("write", object_id=v, offset_bytes=0, data=b"a" * (4 * MIB))
    s = pool.call("snapshot", pairs=[(v, "v@s")])[0]
    assert pool.call("diff", a_id=s, b_id=v) == []
    pool.call("write", object_id=v, offset_bytes=MIB, data=b"b" * 8192)
    pool.call("unmap", object_id=v, offset_bytes=2 * MIB, length_bytes=2 * MIB)
    pool.call("write", object_id=v, offset_bytes=6 * MIB, data=b"c" * 4096)
    assert pool.call("diff", a_id=s, b_id=v) == [(MIB, 8192), (2 * MIB, 2 * MIB), (6 * MIB, 4096)]
    assert pool.call("diff", a_id=s, b_id=v, offset_bytes=MIB + 4096, limit=1) == [(MIB + 4096, 4096)]


def test_revert_is_undone_by_its_safety_snapshot() -> None:
    _, pool = new_pool()
    v = volume(pool)
    pool.call("write", object_id=v, offset_bytes=0, data=b"1" * 4096)
    s = pool.call("snapshot", pairs=[(v, "v@1")])[0]
    pool.call("write", object_id=v, offset_bytes=0, data=b"2" * 4096)
    safety = pool.call("revert", volume_id=v, snapshot_id=s, safety_name="v@undo")
    assert pool.call("read", object_id=v, offset_bytes=0, length_bytes=4096) == b"1" * 4096
    pool.call("revert", volume_id=v, snapshot_id=safety)
    assert pool.call("read", object_id=v, offset_bytes=0, length_bytes=4096) == b"2" * 4096


def test_exclusive_is_what_a_delete_frees() -> None:
    _, pool = new_pool()
    v = volume(pool)
    pool.call("write", object_id=v, offset_bytes=0, data=b"a" * (4 * MIB))
    s = pool.call("snapshot", pairs=[(v, "v@s")])[0]
    gone = volume(pool, "gone")
    pool.call("delete", object_id=gone)
    assert pool.call("exclusive", object_ids=[s, gone, v]) == {s: 0, v: 0}
    pool.call("write", object_id=v, offset_bytes=0, data=b"b" * MIB)
    pool.call("flush")
    pool.drain()
    assert pool.call("exclusive", object_ids=[v, s]) == {v: MIB, s: MIB}


def test_exclusive_of_many_counts_each_for_itself() -> None:
    _, pool = new_pool(192 * MIB, cache_bytes=1 * MIB)
    sizes = {}
    for number in range(40):                    # leaves of their own, more steps in all than one turn takes
        made = volume(pool, f"v{number}")
        for block in range(number):
            pool.call("write", object_id=made, offset_bytes=block * 50 * 4096, data=b"e" * 4096)
        sizes[made] = number * 4096
    pool.call("flush")
    pool.drain()
    assert pool.call("exclusive", object_ids=list(sizes)) == sizes


def test_totals_leave_snapshots_and_hidden_names_aside() -> None:
    _, pool = new_pool()
    v = volume(pool, size_bytes=8 * MIB)
    pool.call("snapshot", pairs=[(v, "v@s")])
    pool.call("snapshot", pairs=[(v, ".frozen")])
    pool.call("clone", source_id=v, name="c")
    assert pool.provisioned(ord(".")) == (3, 16 * MIB)
    assert pool.names() == {info.name: info.id for info in pool.objects()}


def test_objects_are_unique_by_name_and_serials_differ() -> None:
    _, pool = new_pool()
    v = volume(pool)
    with pytest.raises(PoolError) as caught:
        volume(pool)
    assert caught.value.code == "exists"
    s = pool.call("snapshot", pairs=[(v, "v@s")])[0]
    infos = [pool.info(v), pool.info(s)]
    assert infos[0] is not None
    assert infos[1] is not None
    assert infos[0].serial != infos[1].serial
    pool.call("rename", object_id=v, name="w")
    assert pool.lookup("v") is None
    found = pool.lookup("w")
    assert found is not None
    assert found.id == v


@pytest.mark.parametrize("harm", ["blank", "foreign", "newer", "torn"])
def test_a_pool_that_is_none_is_refused(harm: str) -> None:
    device, pool = new_pool()
    pool.close()
    if harm == "blank":
        device.pages.clear()
    for slot in (0, 1):
        raw = bytearray(device.pages.get(slot, bytes(4096)))
        if harm == "foreign":
            raw[0:8] = b"EXT4EXT4"
        elif harm == "newer":
            raw[12] = layout.FORMAT_VERSION + 1
        elif harm == "torn":
            raw[100] ^= 1
        device.pages[slot] = bytes(raw)
    with pytest.raises(PoolError) as caught:
        Pool(device)
    expected = {"blank": "foreign", "foreign": "foreign", "newer": "newer", "torn": "damaged"}
    assert caught.value.code == expected[harm]
    assert "\n" not in str(caught.value)


def test_changes_of_one_object_at_a_time_are_all_made() -> None:
    """A change names its fields: one that was begun before another was over does not take that back."""
    device, pool = new_pool()
    number = volume(pool)
    tokens = [pool.start("set", object_id=number, props=b"first"), pool.start("rename", object_id=number, name="w"),
              pool.start("set", object_id=number, quota_bytes=1 << 30), pool.start("set", object_id=number, reserve_bytes=MIB)]
    for kind, args in (("rename", {"name": "x"}), ("delete", {})):
        with pytest.raises(PoolError) as refused:
            pool.start(kind, object_id=number, **args)
        assert refused.value.code == "busy"
    pool.drain()
    assert {done.token: done.code for done in pool.reap()} == dict.fromkeys(tokens, "ok")
    for _ in range(2):
        info = pool.info(number)
        assert (info.props, info.name, info.quota_bytes, info.reserve_bytes) == (b"first", "w", 1 << 30, MIB)
        assert pool.lookup("v") is None
        pool.abandon()
        pool = Pool(device)                              # and so are they after a crash
    pool.call("rename", object_id=number, name="v")
    pool.call("delete", object_id=number)
    assert pool.lookup("v") is None


def test_growing_takes_new_blocks_into_use() -> None:
    device, pool = new_pool(64 * MIB)
    v = volume(pool, size_bytes=256 * MIB)
    free = pool.stats()["free_bytes"]
    device.size_bytes = 160 * MIB
    pool.call("grow", size_bytes=160 * MIB)
    assert pool.stats()["free_bytes"] == free + 96 * MIB
    pool.call("write", object_id=v, offset_bytes=0, data=b"n" * (64 * MIB))
    pool.abandon()
    pool = Pool(device)
    assert pool.call("read", object_id=v, offset_bytes=63 * MIB, length_bytes=4096) == b"n" * 4096
