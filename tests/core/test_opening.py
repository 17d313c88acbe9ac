"""Opening a pool: what it reads, and what it does when its superblock is not the newest there was."""

from __future__ import annotations

import pytest

from core import layout
from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB = 1 << 20
JOURNAL_BLOCKS = 512


class Watched(MemoryDevice):
    """Counts what is read of the journal."""

    journal_bytes = 0

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        if 0 <= offset_bytes - layout.ZONE_META_BLOCKS * 4096 < JOURNAL_BLOCKS * 4096:
            self.journal_bytes += length_bytes
        return super().read(offset_bytes, length_bytes)


def closed_pool() -> tuple[Watched, int]:
    """A pool with one volume, closed cleanly."""
    device = Watched(96 * MIB)
    Pool.create(device, name="test", journal_blocks=JOURNAL_BLOCKS, area_blocks=1024)
    pool = Pool(device)
    v = pool.call("create", name="v", size_bytes=MIB)
    pool.call("write", object_id=v, offset_bytes=0, data=b"old" + bytes(4093))
    pool.close()
    device.journal_bytes = 0
    return device, v


def test_a_pool_that_was_closed_is_opened_without_its_journal() -> None:
    device, v = closed_pool()
    pool = Pool(device)
    assert device.journal_bytes <= 4096
    assert pool.call("read", object_id=v, offset_bytes=0, length_bytes=512)[:3] == b"old"
    pool.abandon()
    device.journal_bytes = 0
    pool = Pool(device)
    assert device.journal_bytes == JOURNAL_BLOCKS * 4096, "after a crash every frame is looked at"
    pool.close()


@pytest.mark.parametrize("checkpoints", [0, 1])
def test_a_clean_superblock_that_is_not_the_newest_hides_nothing(checkpoints: int) -> None:
    """Both copies of the superblock as they were at the close, the rest as it is later: later changes are there or missed."""
    device, v = closed_pool()
    clean = device.read(0, 2 * 4096)
    pool = Pool(device)
    for number in range(3):
        pool.call("write", object_id=v, offset_bytes=number * 4096, data=b"new" + bytes(4093), fua=True)
    for _ in range(checkpoints):
        pool.call("checkpoint")
        pool.call("write", object_id=v, offset_bytes=8192, data=b"newer" + bytes(4091), fua=True)
    pool.abandon()
    device.write(0, clean)
    try:
        pool = Pool(device)
        found = pool.call("read", object_id=v, offset_bytes=4096, length_bytes=512)[:3]
        pool.close()
    except PoolError as error:
        found = error.code.encode()
    assert found in (b"new", b"damaged", b"checksum")
