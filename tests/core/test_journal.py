"""Frames of the journal share blocks in a pool of format 2: what was written is replayed from them, whole or up to a torn one."""

from __future__ import annotations

import pytest

from core import layout
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB, BLOCK = 1 << 20, 4096
SIZE = 1300 * MIB
WRITES = 30
MAGIC = layout.FRAME_MAGIC.to_bytes(4, "little")


def content(number: int) -> bytes:
    return (number + 1).to_bytes(8, "little") * (BLOCK // 8)


def frames(device: MemoryDevice) -> list[int]:
    """Blocks that hold a frame, and not at their start alone."""
    return [block for block, page in sorted(device.pages.items())
            if page[:4] == MAGIC and MAGIC in page[layout.FRAME_HEADER_BYTES:]]


def written(first_mutations: str) -> tuple[MemoryDevice, Pool, int, int]:
    """A pool that was opened anew and has made WRITES writes, each acknowledged before the next; its volume; blocks they took."""
    device = MemoryDevice(512 * MIB)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
    pool = Pool(device, mutations=first_mutations)
    volume = pool.call("create", name="v", size_bytes=SIZE)
    pool.call("write", object_id=volume, offset_bytes=0, data=content(99))
    pool.close()
    pool = Pool(device, mutations=first_mutations)
    before = pool.stats()
    for number in range(WRITES):
        pool.call("write", object_id=volume, offset_bytes=number * 40 * MIB, data=content(number))
    after = pool.stats()
    assert after["journal_frames"] - before["journal_frames"] == WRITES - 1      # the first one overwrites
    return device, pool, volume, before["journal_room_blocks"] - after["journal_room_blocks"]


def read(pool: Pool, volume: int, number: int) -> bytes:
    return bytes(pool.call("read", object_id=volume, offset_bytes=number * 40 * MIB, length_bytes=BLOCK))


def test_frames_share_blocks_and_are_replayed() -> None:
    device, pool, volume, blocks = written("all_wide")
    assert blocks <= WRITES // 3
    assert frames(device)
    pool.abandon()
    pool = Pool(device, mutations="all_wide")
    assert [read(pool, volume, number) for number in range(WRITES)] == [content(number) for number in range(WRITES)]
    pool.close()


def test_frames_of_a_pool_of_format_1_have_blocks_of_their_own() -> None:
    """What knows format 1 alone looks for the next frame at the next block."""
    device, pool, volume, blocks = written("")
    assert blocks == WRITES - 1
    assert not frames(device)
    pool.abandon()
    pool = Pool(device)
    assert [read(pool, volume, number) for number in range(WRITES)] == [content(number) for number in range(WRITES)]
    pool.close()


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_of_a_torn_block_the_whole_frames_count(kept: int) -> None:
    device, pool, volume, _ = written("all_wide")
    pool.abandon()
    block = frames(device)[-1]
    page = bytearray(device.pages[block])
    at = 0
    numbers = []
    while page[at:at + 4] == MAGIC:
        numbers.append(at)
        at += int.from_bytes(page[at + 48:at + 52], "little")
    assert len(numbers) > kept
    page[numbers[kept] + layout.FRAME_HEADER_BYTES - 1] ^= 1
    device.pages[block] = bytes(page)
    lost = len(numbers) - kept
    pool = Pool(device, mutations="all_wide")
    assert [read(pool, volume, number) for number in range(WRITES)] == [
        content(number) if number < WRITES - lost else bytes(BLOCK) for number in range(WRITES)]
    pool.close()
