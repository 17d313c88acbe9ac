"""What runs short in a pool that is nearly full: blocks for the nodes that recovery makes, and for the catalog's pages."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from core.device import create_file
from core.errors import PoolError
from core.pool.engine import Pool
from tests.crash.rig import BLOCK
from tests.support.simdisk import SimDisk

PIECE = 128 << 10
LEFT = 3                          # blocks, too few for one more write that needs nodes


def crowded(size_bytes: int = 26 << 20) -> tuple[SimDisk, Pool]:
    """A pool that one volume has filled to the last block that data may have."""
    disk = SimDisk(size_bytes, 1)
    Pool.create(disk, name="p")
    pool = Pool(disk)
    pool.call("create", name="v", size_bytes=64 << 20)
    offset = 0
    for length in (PIECE, BLOCK):
        while write(pool, 1, offset, length):
            offset += length
    settle(pool)
    return disk, pool


def attempt(pool: Pool, op: str, **args: Any) -> bool:
    """Whether there was space for it; any other failure is one."""
    try:
        pool.call(op, **args)
    except PoolError as error:
        if error.code != "no_space":
            raise
        return False
    return True


def write(pool: Pool, object_id: int, offset: int, length: int = BLOCK) -> bool:
    return attempt(pool, "write", object_id=object_id, offset_bytes=offset, data=bytes([object_id]) * length)


def settle(pool: Pool) -> None:
    pool.call("flush")
    pool.drain()
    pool.call("checkpoint")
    pool.drain()


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
def test_recovery_has_blocks_for_its_nodes(power: bool) -> None:
    """What was freed since the checkpoint holds the nodes that were made since: replay must find it, too."""
    disk, pool = crowded()
    pool.call("create", name="w", size_bytes=1 << 50)
    pool.call("unmap", object_id=1, offset_bytes=0, length_bytes=4 << 20)
    pool.call("flush")
    pool.drain()
    checkpoints = pool.stats()["checkpoints"]
    made = 0
    while made < 100 and write(pool, 2, made << 31):         # each needs a leaf and the node above it
        made += 1
    pool.call("flush")
    assert pool.stats()["checkpoints"] == checkpoints, "the checkpoint came too early to prove anything"
    assert made == 100
    pool.abandon()
    if power:
        disk.power_cut("none")
    else:
        disk.process_kill()
    pool = Pool(disk)
    for i in range(made):
        assert pool.call("read", object_id=2, offset_bytes=i << 31, length_bytes=BLOCK) == b"\2" * BLOCK
    settle(pool)
    assert write(pool, 1, 0)
    pool.close()


def what_is_left(mutations: str) -> set[bytes]:
    """What lies where UNMAP was not yet hard when the process died, whenever the power goes in the recovery after it."""
    disk, pool = crowded()
    pool.call("create", name="w", size_bytes=1 << 50)
    pool.call("unmap", object_id=1, offset_bytes=0, length_bytes=1 << 20)
    pool.call("flush")
    pool.drain()
    checkpoints = pool.stats()["checkpoints"]
    made = 0
    while pool.stats()["available_bytes"] >= LEFT * BLOCK:
        assert write(pool, 2, made << 31)                   # each needs a leaf and the node above it
        made += 1
    pool.call("flush")
    assert pool.stats()["checkpoints"] == checkpoints, "the checkpoint came too early to prove anything"
    disk.cut_after(1)                                       # its frame; in a full pool a commit would follow at once
    with contextlib.suppress(PoolError):
        pool.call("unmap", object_id=1, offset_bytes=2 << 20, length_bytes=(2 << 20) - BLOCK)
    pool.abandon()
    disk.process_kill()
    found: set[bytes] = set()
    after = 0
    while True:
        cut = disk.fork(1)
        cut.cut_after(after)
        after += 1
        try:
            Pool(cut, mutations=mutations).abandon()
        except PoolError:
            if not cut.dead:
                raise
        else:
            return found
        cut.power_cut("none")
        pool = Pool(cut)
        data = pool.call("read", object_id=1, offset_bytes=2 << 20, length_bytes=(2 << 20) - BLOCK)
        found.update(data[at:at + BLOCK] for at in range(0, len(data), BLOCK))
        pool.abandon()


def test_recovery_writes_no_node_home_before_it_counts() -> None:
    """Room for its nodes was made of what the checkpoint before it refers to, and that may be what counts."""
    assert what_is_left("") <= {bytes(BLOCK), b"\1" * BLOCK}
    assert not what_is_left("straight_recovery") <= {bytes(BLOCK), b"\1" * BLOCK}


def test_objects_and_keys_in_a_full_pool() -> None:
    """Pages of the catalog need blocks as well: what needs more is refused while the pool can still finish what it has begun."""
    disk, pool = crowded()
    made = 0
    while made < 2000 and attempt(pool, "snapshot", pairs=[(1, f"v@{made}")]):
        made += 1
    assert 0 < made < 2000
    with pytest.raises(PoolError, match="no space"):
        pool.call("kv", changes={f"key{i}": b"x" * 4000 for i in range(20)})
    assert not pool.kv()                                    # a change that failed has changed nothing
    assert pool.lookup(f"v@{made}") is None
    pool.call("checkpoint")
    pool.call("rename", object_id=2, name="v@other")
    pool.call("delete", object_id=3)
    pool.call("snapshot", pairs=[(1, "v@again")])           # in the slot that is free now
    pool.call("unmap", object_id=1, offset_bytes=0, length_bytes=BLOCK)
    settle(pool)
    assert not pool.stats()["failed"]
    pool.abandon()
    disk.power_cut("none")
    pool = Pool(disk)
    assert len(pool.objects()) == made + 1
    for info in pool.objects():
        if info.kind == "snapshot":
            pool.call("delete", object_id=info.id)
    pool.call("unmap", object_id=1, offset_bytes=0, length_bytes=2 << 20)
    settle(pool)
    pool.call("kv", changes={"key": b"x" * 4000})
    assert write(pool, 1, 0)
    pool.close()


def test_a_failed_change_of_keys_is_taken_back() -> None:
    disk, pool = crowded()
    pool.call("kv", changes={"kept": b"old", "gone": b"here"})
    with pytest.raises(PoolError, match="no space"):
        pool.call("kv", changes={"kept": b"x" * 120000, "gone": None, "new": b"x" * 60000})
    assert pool.kv() == {"kept": b"old", "gone": b"here"}
    pool.call("kv", changes={"kept": b"newer"})
    pool.abandon()
    disk.power_cut("none")
    pool = Pool(disk)
    assert pool.kv() == {"kept": b"newer", "gone": b"here"}
    pool.close()


def test_a_grown_pool_on_a_device_that_is_short_again() -> None:
    """The record of the growth is durable, the device has lost its end: refused in words, not met as failing reads."""
    disk = SimDisk(32 << 20, 1)
    Pool.create(disk, name="p")
    pool = Pool(disk)
    disk.size_bytes = 64 << 20
    pool.call("grow", size_bytes=64 << 20)
    pool.abandon()
    disk.size_bytes = 32 << 20
    with pytest.raises(PoolError, match="shorter than the pool"):
        Pool(disk)
    disk.size_bytes = 64 << 20
    pool = Pool(disk)
    assert pool.size_bytes == 64 << 20
    pool.close()


def test_a_failed_sync_leaves_one_superblock_alone() -> None:
    """The note that frames are not to be trusted goes over one copy only; the other stays as the last sync left it."""
    for after in range(8):
        disk = SimDisk(32 << 20, 1)
        Pool.create(disk, name="p")
        pool = Pool(disk)
        pool.call("create", name="v", size_bytes=1 << 20)
        assert write(pool, 1, 0)
        disk.fail("sync", after=after, forever=True)
        while not pool.stats()["failed"]:
            with contextlib.suppress(PoolError):
                pool.call("checkpoint")
        failed = next(i for i, line in enumerate(disk.trace.lines) if line[1] == "sync" and line[4] == "failed")
        late = [offset for _, kind, offset, *_ in disk.trace.lines[failed:] if kind == "write" and offset <= BLOCK]
        assert len(late) == 1
        pool.abandon()
        disk.flip(late[0] + 100, 1)                         # and that one torn: the other must do
        disk.power_cut("none")
        Pool(disk).close()


def test_a_new_pools_name_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    create_file(tmp_path / "new.pool", 32 << 20)
    assert synced == [str(tmp_path / "new.pool"), str(tmp_path)]
