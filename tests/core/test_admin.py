"""Changes of one object or key that are begun at once: none is lost, and what is refused leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno

import pytest

from core import layout
from core.check import check
from core.errors import PoolError
from core.pool.engine import Pool
from core.pool.info import ObjectInfo, object_info
from tests.support.memdevice import MemoryDevice

MIB = 1 << 20


class Moody(MemoryDevice):
    """A memory device that may stop reading or syncing."""

    reads = syncs_work = True

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        if not self.reads:
            raise OSError(errno.EIO, "no reads today")
        return super().read(offset_bytes, length_bytes)

    def sync(self) -> None:
        if not self.syncs_work:
            raise OSError(errno.EIO, "no syncs today")
        super().sync()


def new_pool() -> tuple[Moody, Pool]:
    device = Moody(96 * MIB)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
    return device, Pool(device)


def together(pool: Pool, *operations: tuple[str, dict[str, object]]) -> list[str]:
    """Begin all, then let them end; the code of each."""
    tokens = [pool.start(op, **args) for op, args in operations]
    pool.drain()
    codes = {done.token: done.code for done in pool.reap()}
    return [codes[token] for token in tokens]


def test_two_reservations_begun_at_once_are_not_both_granted() -> None:
    """Each fits when it is asked for; the second to take its turn sees what the first was promised."""
    _, pool = new_pool()
    half = pool.stats()["available_bytes"] // 2 // MIB * MIB
    wish = {"size_bytes": 96 * MIB, "reserve_bytes": half + 2 * MIB}
    assert together(pool, ("create", {"name": "a", **wish}), ("create", {"name": "b", **wish})) == ["ok", "no_space"]
    assert [info.name for info in pool.objects()] == ["a"]
    other = pool.call("create", name="b", size_bytes=96 * MIB)
    third = pool.call("create", name="c", size_bytes=96 * MIB)
    changes = [("set", {"object_id": each, "reserve_bytes": half - 6 * MIB}) for each in (other, third)]
    assert together(pool, *changes) == ["ok", "no_space"]
    pool.call("delete", object_id=pool.lookup("a").id)
    pool.drain()
    pool.call("set", object_id=third, reserve_bytes=half - 6 * MIB)


def test_changes_of_one_object_begun_at_once_all_take_place() -> None:
    device, pool = new_pool()
    v = pool.call("create", name="a", size_bytes=8 * MIB, props=b"old")
    assert together(pool, ("set", {"object_id": v, "quota_bytes": 4 * MIB}), ("rename", {"object_id": v, "name": "b"}),
                    ("set", {"object_id": v, "props": b"new"}), ("resize", {"object_id": v, "size_bytes": 16 * MIB}),
                    ("set", {"object_id": v, "reserve_bytes": MIB})) == ["ok"] * 5
    for each in (pool, Pool(device)):
        info = each.lookup("b")
        assert info is not None
        assert (info.id, info.quota_bytes, info.reserve_bytes, info.props, info.size_bytes) == (
            v, 4 * MIB, MIB, b"new", 16 * MIB)
        assert each.lookup("a") is None


def fill(pool: Pool, volume: int) -> None:
    """Write until there is no room for a single block."""
    at = 0
    for size in (MIB, 4096):
        with contextlib.suppress(PoolError):
            while True:
                pool.call("write", object_id=volume, offset_bytes=at, data=bytes([1]) * size)
                at += size


def test_a_refused_change_of_keys_leaves_nothing_behind() -> None:
    device, pool = new_pool()
    long, short = b"long" * 200, b"short"
    v = pool.call("create", name="v", size_bytes=96 * MIB)
    pool.call("kv", changes={"k": long, "gone": long})
    fill(pool, v)
    changes = {"k": short, "gone": None, **{f"new{i}": long for i in range(200)}}     # pages of the catalog for all of that
    assert together(pool, ("kv", {"changes": changes})) == ["no_space"]
    assert pool.kv() == {"k": long, "gone": long}
    pool.call("kv", changes={"k": short, "gone": None})
    assert pool.kv() == {"k": short}
    pool.close()
    assert check(device).ok
    assert Pool(device).kv() == {"k": short}


def test_the_catalog_needs_no_page_twice() -> None:
    """What was read of it at the opening stays: a change needs no page that may have become unreadable since."""
    device, pool = new_pool()
    long, short = b"long" * 200, b"short"
    pool.call("kv", changes={"k": long, "gone": long})
    pool.close()
    pool = Pool(device, cache_bytes=0)
    device.reads = False
    pool.call("kv", changes={"k": short, "gone": None})
    pool.close()
    device.reads = True
    assert check(device).ok
    assert Pool(device).kv() == {"k": short}


def test_keys_of_a_failed_pool_stay_as_they_were() -> None:
    device, pool = new_pool()
    pool.call("kv", changes={"k": b"1"})
    device.syncs_work = False
    with pytest.raises(PoolError):
        pool.call("kv", changes={"k": b"2"})
    before = pool.kv()
    with pytest.raises(PoolError, match="read only"):
        pool.call("kv", changes={"k": b"3", "other": b""})
    assert pool.kv() == before


class Overtaken(Pool):
    """A pool in which a delete comes between the look at a source and the operation on it."""

    doomed: int | None = None

    def info(self, object_id: int) -> ObjectInfo | None:
        found = super().info(object_id)
        if object_id == self.doomed:
            self.doomed = None
            self.call("delete", object_id=object_id)
        return found


@pytest.mark.parametrize(("op", "args"), [
    ("clone", {"source_id": 1, "name": "new"}), ("snapshot", {"pairs": [(2, "other"), (1, "new")]}),
    ("revert", {"volume_id": 1, "snapshot_id": 3, "safety_name": "new"})])
def test_a_name_is_free_again_when_its_source_goes_meanwhile(op: str, args: dict[str, object]) -> None:
    device, pool = new_pool()
    for name in ("a", "b"):
        pool.call("create", name=name, size_bytes=8 * MIB)
    pool.call("snapshot", pairs=[(1, "a@s")])
    pool.close()
    pool = Overtaken(device)
    pool.doomed = 1
    with pytest.raises(PoolError):
        pool.call(op, **args)
    pool.doomed = None
    for name in ("new", "other"):
        pool.call("create", name=name, size_bytes=8 * MIB)
    pool.close()
    assert check(device).ok


class NoChecksums(Moody):
    """Its pages of checksums cannot be read."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        if layout.CSUM_START <= offset_bytes // layout.BLOCK_BYTES < layout.ZONE_META_BLOCKS:
            raise OSError(errno.EIO, "no checksums today")
        return super().read(offset_bytes, length_bytes)


def test_what_damage_keeps_away_is_never_more_than_there_is() -> None:
    """Two neighbouring pages of checksums speak of one run."""
    device, pool = new_pool()
    v = pool.call("create", name="v", size_bytes=96 * MIB, checksum=True)
    for at in range(0, 76 * MIB, 2 * MIB):
        pool.call("write", object_id=v, offset_bytes=at, data=b"x" * 4096)     # in a run of its own
    pool.close()
    bad = NoChecksums(device.size_bytes)
    bad.pages = device.pages
    pool = Pool(bad, cache_bytes=0)
    for at in range(0, 76 * MIB, 2 * MIB):
        with pytest.raises(PoolError):
            pool.call("read", object_id=v, offset_bytes=at, length_bytes=4096)
    stats = pool.stats()
    assert stats["damaged_pages"] > 1
    assert 0 <= stats["available_bytes"] <= stats["free_bytes"]


def test_a_volume_is_reverted_to_a_snapshot_of_its_own_only() -> None:
    _, pool = new_pool()
    first = pool.call("create", name="r", size_bytes=8 * MIB)
    old = pool.call("snapshot", pairs=[(first, "r@old")])[0]
    clone = pool.call("clone", source_id=old, name="c")
    pool.call("delete", object_id=first)
    second = pool.call("create", name="r", size_bytes=16 * MIB)
    pool.call("write", object_id=second, offset_bytes=0, data=b"x" * 4096)
    for volume in (second, clone):
        with pytest.raises(PoolError, match="of another volume") as refused:
            pool.call("revert", volume_id=volume, snapshot_id=old, safety_name="r@new")
        assert refused.value.code == "invalid"
    assert pool.info(second).size_bytes == 16 * MIB
    own = pool.call("snapshot", pairs=[(second, "r@new")])[0]      # the refused ones took no name
    pool.call("rename", object_id=second, name="s")
    pool.call("write", object_id=second, offset_bytes=0, data=b"y" * 4096)
    pool.call("revert", volume_id=second, snapshot_id=own)
    assert pool.call("read", object_id=second, offset_bytes=0, length_bytes=4096) == b"x" * 4096
    pool.close()


def test_a_volume_with_the_longest_name_has_snapshots_with_the_longest_labels() -> None:
    """Made, renamed to shorter and longer names, cloned, found after a kill and after a checkpoint; `check` agrees."""
    device, pool = new_pool()
    name, label, short = "v" * 128, "s" * 126, "w"
    v = pool.call("create", name=name, size_bytes=8 * MIB)
    s = pool.call("snapshot", pairs=[(v, f"{name}@{label}")])[0]
    c = pool.call("clone", source_id=s, name="c" * 128)

    def seen() -> list[tuple[str, str, int]]:
        infos = [info for info in map(pool.info, (v, s, c)) if info is not None]
        assert [pool.lookup(info.name) for info in infos] == infos
        return [(info.name, info.origin, info.origin_id) for info in infos]

    cut = f"{name}@{label}"[:125] + "..."
    assert seen() == [(name, "", 0), (f"{name}@{label}", name, v), ("c" * 128, cut, s)]
    pool.abandon()
    pool = Pool(device)
    assert seen()[1] == (f"{name}@{label}", name, v)
    for new in (f"{short}@{label[:20]}", f"{name}@{label}", f"{name}@{label[:-1]}"):
        pool.call("rename", object_id=s, name=new)
        assert seen()[1][0] == new
        pool.call("checkpoint")
        pool.abandon()
        pool = Pool(device)
        assert seen()[1][0] == new
        assert seen()[1][1] in (name, short)
    with pytest.raises(PoolError, match="name must have 1 to 255 bytes"):
        pool.call("snapshot", pairs=[(v, f"{name}@{label}x")])
    with pytest.raises(PoolError, match="name must have 1 to 128 bytes"):
        pool.call("clone", source_id=s, name="c" * 129)
    pool.close()
    assert check(device).errors == []


def test_a_slot_as_pools_had_it_before_long_names_is_read_as_it_was() -> None:
    """The fields lie where they did, and a name of 128 bytes with its origin beside it is still two texts."""
    old = bytearray(layout.SLOT_BYTES)
    name, origin = b"v@" + b"s" * 126, b"an origin" * 14
    for field in layout.OBJECT_SLOT:
        values = {"slot_kind": 1, "kind": 2, "level": 1, "block_bytes": 512, "id": 7, "size_bytes": 4096, "name_bytes": 128,
                  "origin_bytes": 126, "origin_id": 3}
        old[field.offset:field.offset + field.size] = (
            name if field.name == "name" else origin.ljust(128, b"\0") if field.name == "origin"
            else values.get(field.name, 0).to_bytes(field.size, "little"))
    assert bytes(old[96:224]) == name
    info = object_info(bytes(old))
    assert (info.name, info.origin, info.origin_id) == (name.decode(), origin.decode(), 3)
