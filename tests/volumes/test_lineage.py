"""A snapshot belongs to the volume it was taken of, whatever both are called by now (volumes/lineage.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.lineage import Lineage
from tests.support.fake_pool import FakePool


@pytest.fixture
async def pool() -> AsyncIterator[AsyncPool]:
    made = AsyncPool(FakePool())
    made.attach()
    yield made
    made.detach()
    made.pool.close()


async def volume(pool: AsyncPool, name: str, *labels: str) -> ObjectInfo:
    object_id = await pool.call("create", name=name, size_bytes=1 << 20)
    for label in labels:
        await pool.call("snapshot", pairs=[(object_id, f"{name}@{label}")])
    return found(pool, name)


def found(pool: AsyncPool, name: str) -> ObjectInfo:
    info = pool.lookup(name)
    assert info is not None
    return info


async def test_snapshots_of_a_deleted_volume_are_not_the_next_ones(pool: AsyncPool) -> None:
    first = await volume(pool, "r", "a", "b", "c", "d")
    lineage = Lineage(pool)
    assert [each.name for each in lineage.snapshots_named("r", first.id)] == ["r@a", "r@b", "r@c", "r@d"]
    assert lineage.not_of(first) is None
    await pool.call("delete", object_id=first.id)
    old = found(pool, "r@a")
    assert (lineage.owner(old), lineage.is_orphan(old), lineage.not_its_own(old)) == (None, True, None)
    assert str(lineage.without_volume(old)) == ("r@a is of a volume that was deleted: nothing can be reverted to it, "
                                                "but clone r@a NEW makes a volume of it")
    second = await volume(pool, "r", "own")
    lineage.named([found(pool, "r@own")])
    assert [each.name for each in lineage.snapshots_named("r", second.id)] == ["r@own"]
    assert lineage.not_of(second) == "r@a, r@b, r@c and 1 more: of an earlier r that was deleted, not of this one"
    assert lineage.not_its_own(old) == "r@a is of an earlier r that was deleted, not of the r there is now"
    assert lineage.not_its_own(found(pool, "r@own")) is None
    for each in "abcd":
        await pool.call("delete", object_id=found(pool, f"r@{each}").id)
    assert lineage.not_of(second) is None


async def test_a_snapshot_is_not_renamed_into_another_volumes(pool: AsyncPool) -> None:
    r, s = await volume(pool, "r", "a"), await volume(pool, "s")
    lineage = Lineage(pool)
    snapshot = found(pool, "r@a")
    lineage.check_rename(snapshot, "r@b")
    for name in ("s@a", "t@a"):
        with pytest.raises(LunetteError, match="r@a is a snapshot of r"):
            lineage.check_rename(snapshot, name)
    await pool.call("delete", object_id=r.id)
    lineage.check_rename(snapshot, "t@a")
    with pytest.raises(LunetteError, match="not of the s there is now"):
        lineage.check_rename(snapshot, "s@a")
    await pool.call("rename", object_id=snapshot.id, name="t@a")
    lineage.named([found(pool, "t@a")])
    await pool.call("rename", object_id=s.id, name="t")
    assert lineage.not_of(found(pool, "t")) == "t@a: of an earlier t that was deleted, not of this one"


async def test_an_origin_has_its_present_name_or_the_last_that_is_known(pool: AsyncPool) -> None:
    r = await volume(pool, "r", "a")
    await pool.call("clone", source_id=found(pool, "r@a").id, name="c")
    lineage = Lineage(pool)
    await pool.call("rename", object_id=r.id, name="s")
    assert (lineage.origin(found(pool, "r@a")), lineage.origin(found(pool, "c")), lineage.origin(r)) == ("s", "r@a", "")
    await pool.call("delete", object_id=r.id)
    await pool.call("delete", object_id=found(pool, "r@a").id)
    clone = found(pool, "c")
    assert (lineage.origin(clone), lineage.origin_deleted(clone), lineage.is_orphan(clone)) == ("r@a", True, False)
