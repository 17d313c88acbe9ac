"""Changes of one object or key that are begun at once: none is lost, and what is refused leaves nothing behind."""

from __future__ import annotations

import errno

import pytest

from core._engine import Pool
from core.check import check
from core.errors import PoolError
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


def test_a_refused_change_of_keys_leaves_nothing_behind() -> None:
    device, pool = new_pool()
    long, short = b"long" * 200, b"short"
    pool.call("kv", changes={"k": long, "gone": long})
    pool.close()
    pool = Pool(device)
    device.reads = False                                     # the catalog's pages are not in memory yet
    assert together(pool, ("kv", {"changes": {"k": short, "new": long, "gone": None}})) == ["io_read"]
    assert pool.kv() == {"k": long, "gone": long}
    device.reads = True
    pool.call("kv", changes={"k": short, "gone": None})
    assert pool.kv() == {"k": short}
    pool.close()
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
