"""Leaves of a wide volume leave their homes when they change: at a checkpoint each is written once, without an image."""

from __future__ import annotations

import random

import pytest

from core.check import check
from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB, BLOCK, RUN = 1 << 20, 4096, 512
REGIONS = 600
IMAGES = slice(92, 96)          # of a superblock: area_images


class CountedDevice(MemoryDevice):
    """Counts writes, and the pages that they write."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.writes = self.written_pages = 0

    def write(self, offset_bytes: int, data: bytes) -> None:
        self.writes += 1
        self.written_pages += len(data) // BLOCK
        super().write(offset_bytes, data)


class Wide:
    """A pool, and a volume with dozens of sparse leaves below two nodes of level 1, or more of both."""

    def __init__(self, size_bytes: int = 512 * MIB, regions: int = REGIONS) -> None:
        self.device = CountedDevice(size_bytes)
        self.regions = regions
        Pool.create(self.device, name="test", journal_blocks=512, area_blocks=1024)
        self.pool = Pool(self.device, mutations="all_wide")
        self.volume = self.pool.call("create", name="v", size_bytes=regions * RUN * BLOCK)
        self.written: dict[int, bytes] = {}
        self.random = random.Random(7)
        for _ in range(3):                                   # the third has homes at hand that the second has asked for
            self.write_everywhere()
            self.pool.call("checkpoint")

    def write(self, block: int) -> None:
        self.written[block] = self.random.randbytes(16) * (BLOCK // 16)
        self.pool.call("write", object_id=self.volume, offset_bytes=block * BLOCK, data=self.written[block])

    def write_everywhere(self) -> None:
        """Each third region has two blocks more: each leaf changes."""
        for region in range(0, self.regions, 3):
            for block in self.random.sample(range(RUN), 2):
                self.write(region * RUN + block)

    def fill(self, other: int, size_bytes: int) -> None:
        for at in range(0, size_bytes, 64 << 10):
            self.pool.call("write", object_id=other, offset_bytes=at, data=bytes(64 << 10))
            self.pool.drain()

    def images(self) -> int:
        """Pages that went by way of the area with the last checkpoint."""
        return int.from_bytes(Pool.superblock(self.device)[IMAGES], "little")

    def judge(self) -> None:
        for block, data in self.written.items():
            assert self.pool.call("read", object_id=self.volume, offset_bytes=block * BLOCK, length_bytes=BLOCK) == data

    def rest(self) -> None:
        for _ in range(4):
            self.pool.call("checkpoint")
            self.pool.drain()


def test_a_leaf_that_changes_has_no_image() -> None:
    wide = Wide()
    wide.write_everywhere()
    wide.pool.call("checkpoint")
    wide.write_everywhere()
    wide.pool.call("checkpoint")
    assert wide.images() <= 10                               # the root, the catalog, counts and summaries
    wide.judge()
    wide.pool.close()
    report = check(wide.device)
    assert report.ok
    wide.pool = Pool(wide.device, mutations="all_wide")
    wide.judge()


def test_leaves_that_move_are_written_together() -> None:
    """Some of many leaves change, anywhere: homes are taken in a sweep, which comes by where most have left."""
    wide = Wide(regions=20 * REGIONS)
    for _ in range(10):
        for _ in range(200):
            wide.write(wide.random.randrange(wide.regions * RUN))
        writes, pages = wide.device.writes, wide.device.written_pages
        wide.pool.call("checkpoint")
    assert wide.images() <= 40
    assert wide.device.written_pages - pages > 150
    assert wide.device.writes - writes < (wide.device.written_pages - pages) // 2


def test_moved_and_then_shared() -> None:
    """What a snapshot takes along had moved a moment ago: no checkpoint has had it there, and its count is its own."""
    wide = Wide()
    wide.write_everywhere()
    wide.pool.call("snapshot", pairs=[(wide.volume, "v@s")])
    wide.write_everywhere()
    wide.pool.call("checkpoint")
    wide.write_everywhere()
    wide.judge()
    wide.rest()
    wide.pool.close()
    assert check(wide.device).ok


def test_a_scrub_looks_at_no_home_where_nothing_is_yet() -> None:
    wide = Wide()
    wide.write_everywhere()
    found = wide.pool.call("scrub", object_id=wide.volume)
    assert wide.pool.stats()["damage_met"] == 0
    assert found


def test_homes_at_hand_go_when_nobody_asks() -> None:
    wide = Wide()
    wide.write_everywhere()
    assert wide.pool.stats()["pending_items"] > 20
    wide.rest()
    assert wide.pool.stats()["pending_items"] == 0
    wide.pool.close()
    assert check(wide.device).ok


def test_homes_at_hand_go_when_space_is_scarce() -> None:
    """Nothing was ever deleted, so what comes off the counts are homes that were kept."""
    wide = Wide(64 * MIB)
    wide.write_everywhere()
    assert wide.pool.stats()["pending_items"] > 20
    other = wide.pool.call("create", name="w", size_bytes=64 * MIB)
    with pytest.raises(PoolError, match="no space"):
        wide.fill(other, 64 * MIB)
    assert wide.pool.stats()["reclaimed_bytes"] > 0
    wide.judge()
