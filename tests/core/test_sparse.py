"""A volume of far more regions than there is memory for their leaves: small writes lie in order of arrival while a region is
sparse, at places of their own once it fills; a new leaf is written once."""

from __future__ import annotations

import random

from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

GIB, BLOCK = 1 << 30, 4096
RUN = 512
SIZE = 4 * GIB                  # 2048 regions; the cache below holds 1024 pages
JOURNAL, AREA = 512, 2048       # blocks
AREA_START = 2560 + JOURNAL


class Watched(MemoryDevice):
    """Counts pages that are written to the checkpoint area."""

    area_pages = 0

    def write(self, offset_bytes: int, data: bytes) -> None:
        super().write(offset_bytes, data)
        if AREA_START <= offset_bytes // BLOCK < AREA_START + 2 * AREA:
            self.area_pages += len(data) // BLOCK


class Wide:
    """A pool with a small cache, and a volume that is wide for it. Each block holds its own number."""

    def __init__(self) -> None:
        self.device = Watched(6 * GIB)
        Pool.create(self.device, name="test", journal_blocks=JOURNAL, area_blocks=AREA)
        self.pool = Pool(self.device, cache_bytes=4 << 20)
        self.volume: int = self.pool.call("create", name="v", size_bytes=SIZE)

    @staticmethod
    def content(block: int) -> bytes:
        return (block + 1).to_bytes(8, "little") * (BLOCK // 8)

    def write(self, block: int, operation: str = "write") -> None:
        self.pool.call(operation, object_id=self.volume, offset_bytes=block * BLOCK, data=self.content(block))

    def places(self, blocks: list[int]) -> list[int]:
        """Where in the pool these blocks lie; each reads as it was written."""
        at = {page: n for n, page in self.device.pages.items()}
        for block in blocks:
            data = self.pool.call("read", object_id=self.volume, offset_bytes=block * BLOCK, length_bytes=BLOCK)
            assert data == self.content(block), block
        return [at[self.content(block)] for block in blocks]


def scattered(count: int, seed: int = 1) -> list[int]:
    """One block of each of so many regions, in no order."""
    return [region * RUN + region * 37 % RUN for region in random.Random(seed).sample(range(SIZE // BLOCK // RUN), count)]


def test_scattered_writes_lie_in_order_of_arrival() -> None:
    wide = Wide()
    blocks = scattered(700)
    for block in blocks:
        wide.write(block)
    places = wide.places(blocks)
    assert places == sorted(places)
    assert len({place // RUN for place in places}) == 2


def test_a_region_that_fills_takes_places_of_its_own() -> None:
    wide = Wide()
    region = list(range(5 * RUN, 6 * RUN))
    order = random.Random(2).sample(region, RUN)
    for block in order:
        wide.write(block)
        wide.write(block + 100 * RUN + block % 7 * RUN)     # others arrive between
    places = wide.places(region)
    own = [place for place, block in zip(places, region, strict=True) if place % RUN == block % RUN]
    assert len(own) >= RUN * 7 // 8
    assert len({place // RUN for place in own}) == 1


def test_a_stream_of_small_writes_takes_places_of_its_own() -> None:
    wide = Wide()
    region = list(range(4 * RUN))
    for block in region:
        wide.write(block)
    places = wide.places(region)
    for n in range(1, 4):       # only the first block of all could not be known for a stream
        assert places[n * RUN:(n + 1) * RUN] == list(range(places[n * RUN], places[n * RUN] + RUN))


def test_new_leaves_are_written_to_their_homes_alone() -> None:
    """Ordinary leaves: an atomic write gives its region one, so that nothing can stop it half-way."""
    wide = Wide()
    wide.pool.call("checkpoint")
    for block in scattered(300):
        wide.write(block, "write_atomic")
    before = wide.device.area_pages
    wide.pool.call("checkpoint")
    assert wide.device.area_pages - before < 50     # 300 leaves, and what is above them
    before = wide.device.area_pages
    for block in scattered(300):
        wide.write(block ^ 1)                       # another block of the same leaves
    wide.pool.call("checkpoint")
    assert wide.device.area_pages - before >= 300   # leaves that have been home go by way of the area


def test_what_was_scattered_is_there_after_a_restart() -> None:
    wide = Wide()
    blocks = scattered(400, 3)
    for block in blocks:
        wide.write(block)
    wide.pool.close()
    wide.pool = Pool(wide.device, cache_bytes=4 << 20)
    wide.volume = next(o.id for o in wide.pool.objects())
    wide.places(blocks)
