"""Limits of counts are errors of one operation: nobody who may only use the pool makes it read-only by meeting one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from core import layout
from core.base.crc32c import crc32c
from core.device import FileDevice, create_file
from core.errors import PoolError
from core.pool.engine import Pool
from core.wire.reactor import Reactor
from tests.crash.rig import BLOCK
from tests.support.simdisk import SimDisk

LIVE = layout.COUNT_MAX // 2            # what a count may reach while the pool is open
LEAF = layout.NODE_ENTRIES


def made(size_bytes: int = 48 << 20) -> tuple[SimDisk, Pool]:
    disk = SimDisk(size_bytes, 1)
    Pool.create(disk, name="p")
    pool = Pool(disk)
    pool.call("create", name="v", size_bytes=1 << 30)
    return disk, pool


def write(pool: Pool, offset: int, data: bytes = b"w" * BLOCK, object_id: int = 1) -> None:
    pool.call("write", object_id=object_id, offset_bytes=offset, data=data)


def refused(pool: Pool, op: str, **args: object) -> PoolError:
    with pytest.raises(PoolError) as caught:
        pool.call(op, **args)
    assert not pool.stats()["failed"]
    return caught.value


def one_block_everywhere(pool: Pool, blocks: int, value: bytes = b"b" * BLOCK) -> None:
    """Let so many blocks of the volume, from its start, be one block of the pool, as EXTENDED COPY does by doubling."""
    write(pool, 0, value)
    done = 1
    while done < blocks:
        count = min(done, blocks - done)
        pool.call("share", dst_id=1, dst_offset_bytes=done * BLOCK, src_id=1, src_offset_bytes=0, length_bytes=count * BLOCK)
        done += count


def raise_count(disk: SimDisk, old: int, new: int) -> None:
    """Set the only count that is `old` on the medium of a closed pool to `new`: what would take an initiator hours."""
    found = []
    for page in range(layout.COUNT_START, layout.COUNT_START + layout.COUNT_PAGES):
        raw = bytearray(disk.read(page * BLOCK, BLOCK))
        if raw[:4] != layout.PAGE_MAGIC.to_bytes(4, "little"):
            continue
        for at in range(64, 64 + 3 * layout.GROUP_BLOCKS, 3):
            if int.from_bytes(raw[at:at + 3], "little") == old:
                found.append((page, at, raw))
    (page, at, raw), = found
    raw[at:at + 3] = new.to_bytes(3, "little")
    raw[4:8] = crc32c(bytes(raw[8:])).to_bytes(4, "little")
    disk.write(page * BLOCK, bytes(raw))
    disk.sync()


def test_copies_by_reference_stop_at_their_limit() -> None:
    """The next one is refused with what was shared until there, and a second copy of the block goes on."""
    _, pool = made()
    limit = 1 << 16
    one_block_everywhere(pool, limit)
    error = refused(pool, "share", dst_id=1, dst_offset_bytes=512 << 20, src_id=1, src_offset_bytes=0, length_bytes=8 << 20)
    assert (error.code, error.value) == ("limit", 0)
    write(pool, 300 << 20)                                       # blocks that are not at theirs go on
    pool.call("share", dst_id=1, dst_offset_bytes=512 << 20, src_id=1, src_offset_bytes=300 << 20, length_bytes=BLOCK)
    assert pool.call("read", object_id=1, offset_bytes=(limit - 1) * BLOCK, length_bytes=BLOCK) == b"b" * BLOCK
    pool.close()


@pytest.fixture
def near() -> tuple[SimDisk, Pool]:
    """A volume whose first leaf refers to one block 512 times, and that block's count lets it be copied only once more."""
    disk, pool = made()
    one_block_everywhere(pool, LEAF)
    pool.close()
    raise_count(disk, LEAF, LIVE - LEAF - 100)
    return disk, Pool(disk)


def test_a_copy_of_a_leaf_at_its_limit_is_refused_whole(near: tuple[SimDisk, Pool]) -> None:
    disk, pool = near
    pool.call("snapshot", pairs=[(1, "v@1")])
    write(pool, 0)                                               # a copy of the leaf: 512 references more
    pool.call("snapshot", pairs=[(1, "v@2")])
    free = pool.stats()["free_bytes"]
    for _ in range(3):
        assert refused(pool, "write", object_id=1, offset_bytes=BLOCK, data=b"n" * BLOCK).code == "limit"
        pool.drain()
    assert pool.stats()["free_bytes"] == free
    assert any("as many references" in event.text for event in pool.trace())
    write(pool, 64 << 20)                                        # others do not notice
    assert pool.call("read", object_id=1, offset_bytes=0, length_bytes=2 * BLOCK) == b"w" * BLOCK + b"b" * BLOCK
    pool.call("delete", object_id=3)
    pool.call("flush")
    pool.drain()
    write(pool, BLOCK, b"n" * BLOCK)                             # its own again
    pool.call("checkpoint")
    assert not pool.stats()["failed"]
    pool.close()
    pool = Pool(disk)
    assert pool.call("read", object_id=1, offset_bytes=BLOCK, length_bytes=BLOCK) == b"n" * BLOCK
    pool.close()


def test_replay_may_count_what_was_dropped_since(near: tuple[SimDisk, Pool]) -> None:
    """References that were off the counts when a change was made are on them when it is replayed."""
    disk, pool = near
    checkpoints = pool.stats()["checkpoints"]
    for i in range(4):
        (snapshot,) = pool.call("snapshot", pairs=[(1, f"v@{i}")])
        write(pool, i * BLOCK)
        pool.call("delete", object_id=snapshot)
        pool.call("flush")
        pool.drain()
    assert pool.stats()["checkpoints"] == checkpoints
    pool.abandon()
    disk.power_cut("none")
    pool = Pool(disk)
    assert pool.call("read", object_id=1, offset_bytes=0, length_bytes=5 * BLOCK) == b"w" * 4 * BLOCK + b"b" * BLOCK
    write(pool, 5 * BLOCK)
    pool.close()


def test_a_root_at_its_limit_is_derived_from_no_more() -> None:
    disk, pool = made()
    for i in range(16):
        write(pool, i << 21)
    pool.call("snapshot", pairs=[(1, f"v@{i}") for i in range(6)])
    pool.close()
    raise_count(disk, 7, LIVE - 1)
    pool = Pool(disk)
    assert refused(pool, "snapshot", pairs=[(1, "a"), (1, "b")]).code == "limit"      # all or none
    assert pool.lookup("a") is None
    pool.call("snapshot", pairs=[(1, "c")])
    assert refused(pool, "clone", source_id=2, name="d").code == "limit"
    assert refused(pool, "revert", volume_id=1, snapshot_id=2, safety_name="e").code == "limit"
    pool.call("delete", object_id=3)
    pool.drain()
    pool.call("flush")
    pool.drain()
    pool.call("clone", source_id=2, name="d")
    pool.close()


def test_a_failure_says_why() -> None:
    disk, pool = made()
    assert pool.failure() == ""
    write(pool, 0)
    disk.fail("sync", error=errno.ENXIO)
    with pytest.raises(PoolError):
        pool.call("flush")
    assert pool.failure() == "a sync of its medium failed (No such device or address)"
    assert [event.text for event in pool.trace()] == [f"the pool became read-only: {pool.failure()}"]
    pool.abandon()


def test_a_call_that_is_refused_has_not_begun(tmp_path: Path) -> None:
    create_file(tmp_path / "p", 48 << 20)
    device = FileDevice(tmp_path / "p")
    Pool.create(device, name="p")
    pool = Pool(device)
    reactor = Reactor(pool)
    reactor.start()
    try:
        with pytest.raises(PoolError, match="driven by reactors"):
            pool.call("create", name="v", size_bytes=1 << 20)
        pool.start("create", name="v", size_bytes=1 << 20)       # else: the name is taken
    finally:
        reactor.stop()
    pool.close()
    device.close()
