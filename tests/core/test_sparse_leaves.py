"""Regions of a wide volume share leaves while they have few blocks: whatever is done, the volume reads as a dict of its blocks
does, and no group has what another should have."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from core import layout
from core.base.crc32c import crc32c
from core.check import check
from core.check_format import PAGE_SUMMED_FROM, PageHeader
from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB, BLOCK, RUN = 1 << 20, 4096, 512
SIZE = 1300 * MIB               # two level-1 nodes; groups of up to 256 MiB
HEADER = layout.PAGE_HEADER_BYTES


def new_pool(mutations: str = "all_wide") -> tuple[MemoryDevice, Pool]:
    device = MemoryDevice(512 * MIB)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=1024)
    return device, Pool(device, mutations=mutations)


def content(number: int) -> bytes:
    return (number + 1).to_bytes(8, "little") * (BLOCK // 8)


def pages(device: MemoryDevice, level: int) -> dict[int, bytes]:
    """Node pages of this level that lie where they say."""
    found = {}
    for block, page in device.pages.items():
        header = PageHeader.of(page)
        if (header.magic, header.kind, header.level, header.home) == (layout.PAGE_MAGIC, 1, level, block):
            found[block] = page
    return found


def sealed(page: bytearray) -> bytes:
    page[4:8] = crc32c(bytes(page[PAGE_SUMMED_FROM:])).to_bytes(4, "little")
    return bytes(page)


class Model:
    """A pool, and for each object a dict of what its blocks hold."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.device, self.pool = new_pool()
        self.number = 0
        self.objects: dict[int, dict[int, int]] = {self.pool.call("create", name="v0", size_bytes=SIZE): {}}
        self.fixed: dict[int, int] = {}                     # snapshot -> its volume
        self.named = 0

    def some(self) -> int:
        return self.random.choice([each for each in self.objects if each not in self.fixed])

    def place(self) -> int:
        """A block: crowded regions, a region's borders, a group's, anywhere."""
        region = self.random.choice((3, 3, 4, 127, 128, 511, 512, self.random.randrange(SIZE // BLOCK // RUN)))
        return region * RUN + self.random.choice((0, RUN - 1, self.random.randrange(RUN), self.random.randrange(24)))

    def name(self) -> str:
        self.named += 1
        return f"o{self.named}"

    def write(self) -> None:
        target, start = self.some(), self.place()
        n = min(self.random.choice((1, 1, 1, 2, 5, 15, 40)), SIZE // BLOCK - start)
        data = b""
        for block in range(start, start + n):
            self.number += 1
            self.objects[target][block] = self.number
            data += content(self.number)
        self.pool.call("write", object_id=target, offset_bytes=start * BLOCK, data=data)

    def unmap(self) -> None:
        target, start = self.some(), self.place()
        n = min(self.random.choice((1, 3, 30, RUN, 3 * RUN)), SIZE // BLOCK - start)
        for block in range(start, start + n):
            self.objects[target].pop(block, None)
        self.pool.call("unmap", object_id=target, offset_bytes=start * BLOCK, length_bytes=n * BLOCK)

    def share(self) -> None:
        target, source = self.some(), self.random.choice(list(self.objects))
        start, to, n = self.place(), self.place(), self.random.choice((1, 7, 600))
        n = min(n, SIZE // BLOCK - start, SIZE // BLOCK - to)
        if target == source:
            return
        moved = {block - start + to: held for block, held in self.objects[source].items() if start <= block < start + n}
        self.objects[target] = {b: h for b, h in self.objects[target].items() if not to <= b < to + n} | moved
        self.pool.call("share", dst_id=target, dst_offset_bytes=to * BLOCK, src_id=source, src_offset_bytes=start * BLOCK,
                       length_bytes=n * BLOCK)

    def derive(self) -> None:
        if len(self.objects) > 6:
            return
        source = self.random.choice(list(self.objects))
        if source in self.fixed or self.random.random() < 0.5:
            made = self.pool.call("clone", source_id=source, name=self.name())
        else:
            volume = source
            made = self.pool.call("snapshot", pairs=[(volume, f"{self.name()}@s")])[0]
            self.fixed[made] = volume
        self.objects[made] = dict(self.objects[source])

    def delete(self) -> None:
        if len(self.objects) > 3:
            gone = self.random.choice([each for each in self.objects if each not in self.fixed.values()])
            self.pool.call("delete", object_id=gone)
            del self.objects[gone]
            self.fixed.pop(gone, None)

    def revert(self) -> None:
        if self.fixed:
            snapshot, volume = self.random.choice(list(self.fixed.items()))
            self.pool.call("revert", volume_id=volume, snapshot_id=snapshot)
            self.objects[volume] = dict(self.objects[snapshot])

    def reopen(self) -> None:
        self.pool.call("checkpoint")
        self.pool.close()
        report = check(self.device)
        assert report.ok, report.errors
        assert report.mapped_blocks == {each: len(blocks) for each, blocks in self.objects.items()}
        self.pool = Pool(self.device, mutations="all_wide", cache_bytes=0)

    def mapped(self, target: int) -> set[int]:
        rows = self.pool.call("extents", object_id=target, offset_bytes=0, length_bytes=SIZE, limit=1 << 16)
        return {block for start, n, used in rows if used for block in range(start // BLOCK, (start + n) // BLOCK)}

    def judge(self) -> None:
        for target, blocks in self.objects.items():
            assert self.mapped(target) == set(blocks)
            for block in self.random.sample(sorted(blocks), min(40, len(blocks))):
                data = self.pool.call("read", object_id=target, offset_bytes=block * BLOCK, length_bytes=BLOCK)
                assert data == content(blocks[block]), (target, block)

    def live(self, steps: int) -> None:
        actions: list[Callable[[], None]] = [
            *[self.write] * 14, *[self.unmap] * 3, self.share, self.derive, self.delete, self.revert]
        for step in range(steps):
            self.random.choice(actions)()
            if step % 60 == 59:
                self.judge()
            if step % 150 == 149:
                self.reopen()


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_done_it_reads_as_it_should(seed: int) -> None:
    model = Model(seed)
    model.live(600)
    model.judge()
    model.reopen()


def scattered(pool: Pool, volume: int, count: int, *, regions: int = 256) -> dict[int, int]:
    """Blocks at random places of the first regions, each with its own number."""
    blocks = {}
    for number, block in enumerate(random.Random(5).sample(range(regions * RUN), count)):
        pool.call("write", object_id=volume, offset_bytes=block * BLOCK, data=content(number))
        blocks[block] = number
    return blocks


def test_few_blocks_take_few_pages() -> None:
    """A thousand blocks in as many regions of a volume that is wide take a page for some two hundred, not each one."""
    device = MemoryDevice(6 << 30)
    Pool.create(device, name="test", journal_blocks=512, area_blocks=2048)
    pool = Pool(device, cache_bytes=4 << 20)
    volume = pool.call("create", name="v", size_bytes=4 << 30)
    for region in range(2000):
        pool.call("write", object_id=volume, offset_bytes=(region * RUN + region * 37 % RUN) * BLOCK, data=content(region))
    pool.close()
    assert len(pages(device, 0)) == 1                       # the catalog's
    assert 0 < len(pages(device, layout.SPARSE_LEVEL)) <= 16
    assert check(device).ok


def test_the_version_tells_of_sparse_leaves() -> None:
    """What knows no sparse leaf refuses the pool, and only that; it stays so when they are gone."""
    def version(device: MemoryDevice) -> int:
        return int.from_bytes(device.pages[0][12:16], "little")

    device, pool = new_pool("")
    volume = pool.call("create", name="v", size_bytes=SIZE)
    pool.call("write", object_id=volume, offset_bytes=0, data=content(1))
    pool.close()
    assert version(device) == layout.FIRST_VERSION
    pool = Pool(device, mutations="all_wide")                # an old pool, opened by a program that makes them
    pool.call("write", object_id=volume, offset_bytes=600 * MIB, data=content(2))
    pool.close()
    assert version(device) == layout.FORMAT_VERSION
    pool = Pool(device)
    pool.call("delete", object_id=volume)
    pool.close()
    assert version(device) == layout.FORMAT_VERSION
    assert check(device).ok


def test_a_region_that_fills_has_a_leaf_of_its_own() -> None:
    device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    blocks = scattered(pool, volume, 120)
    for block in range(64 * RUN, 65 * RUN):                  # amid the others, in order and by single blocks
        pool.call("write", object_id=volume, offset_bytes=block * BLOCK, data=content(block))
    for block, number in blocks.items():
        if block // RUN != 64:
            assert pool.call("read", object_id=volume, offset_bytes=block * BLOCK, length_bytes=BLOCK) == content(number)
    pool.close()
    assert check(device).ok
    assert pages(device, layout.SPARSE_LEVEL)
    node = next(page for page in pages(device, 1).values()
                if any(page[HEADER + 7 * i + 6] & layout.NODE_FLAGS["sparse"] for i in range(RUN)))
    assert node[HEADER + 7 * 64 + 6] in (layout.NODE_FLAGS["node"], layout.NODE_FLAGS["huge"])


def test_what_goes_gives_all_its_space_back() -> None:
    """Leaves that are shared by regions and by objects go with the last of these, and nothing is taken for damage."""
    _device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    pool.call("checkpoint")
    free = pool.stats()["free_bytes"]
    scattered(pool, volume, 300)
    clone = pool.call("clone", source_id=volume, name="c")
    pool.call("write", object_id=clone, offset_bytes=3 * RUN * BLOCK, data=content(1))
    pool.call("checkpoint")
    for each in (volume, clone):
        pool.call("delete", object_id=each)
    for _ in range(3):
        pool.call("checkpoint")
        pool.drain()
    stats = pool.stats()
    assert (stats["pending_items"], stats["damage_met"], stats["free_bytes"]) == (0, 0, free)


def test_what_a_delete_would_free() -> None:
    """Blocks that nobody else refers to are counted in leaves that are shared by regions, not in those shared by objects."""
    _device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    scattered(pool, volume, 300)
    assert pool.call("exclusive", object_ids=[volume]) == {volume: 300 * BLOCK}
    snapshot = pool.call("snapshot", pairs=[(volume, "v@s")])[0]
    assert pool.call("exclusive", object_ids=[volume, snapshot]) == {volume: 0, snapshot: 0}
    pool.call("write", object_id=volume, offset_bytes=200 * MIB, data=content(1))
    pool.call("unmap", object_id=volume, offset_bytes=0, length_bytes=100 * RUN * BLOCK)
    for _ in range(3):
        pool.call("checkpoint")
        pool.drain()
    freed = pool.call("exclusive", object_ids=[volume, snapshot])
    assert freed[volume] == BLOCK
    assert freed[snapshot] > 0


def test_a_group_of_two_that_no_checkpoint_has_changed_since_is_cut() -> None:
    """Its node on the medium refers to the new leaves where they lie."""
    device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    pool.call("write_atomic", object_id=volume, offset_bytes=2 * RUN * BLOCK, data=content(2))   # beside: so it is one of two
    pool.call("write", object_id=volume, offset_bytes=RUN * BLOCK, data=content(1))
    assert pool.call("read", object_id=volume, offset_bytes=RUN * BLOCK, length_bytes=BLOCK) == content(1)
    pool.call("checkpoint")
    assert len(pages(device, layout.SPARSE_LEVEL)) == 1
    for block in range(20):
        pool.call("write", object_id=volume, offset_bytes=block * BLOCK, data=content(block))
    pool.call("checkpoint")
    pool.close()
    report = check(device)
    assert report.ok, report.errors
    pool = Pool(device)
    for block in (0, 19, RUN):
        assert pool.call("read", object_id=volume, offset_bytes=block * BLOCK, length_bytes=BLOCK) == content(
            1 if block == RUN else block)


def test_a_difference_is_what_was_written() -> None:
    """Between a snapshot and what was written after it, over shared leaves and those that were cut since."""
    _device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    scattered(pool, volume, 300)
    snapshot = pool.call("snapshot", pairs=[(volume, "v@s")])[0]
    changed = {5, 70 * RUN + 1, 70 * RUN + 2, 255 * RUN, 300 * RUN + 511}
    for block in changed:
        pool.call("write", object_id=volume, offset_bytes=block * BLOCK, data=content(block))
    rows = pool.call("diff", a_id=snapshot, b_id=volume)
    assert {block for start, n, *_ in rows for block in range(start // BLOCK, (start + n) // BLOCK)} == changed


def harmed(page: bytes, how: str) -> bytes:
    raw = bytearray(page)
    first, second = HEADER, HEADER + 7
    if how == "order":
        raw[first:first + 7], raw[second:second + 7] = raw[second:second + 7], raw[first:first + 7]
    elif how == "twice":
        raw[second + 5:second + 7] = raw[first + 5:first + 7]
    elif how == "outside":
        raw[first:first + 5] = b"\xff" * 5
    elif how == "gap":
        raw[first:first + 7] = bytes(7)
    elif how == "behind":
        raw[HEADER + 511 * 7:HEADER + 512 * 7] = raw[first:first + 7]
    return sealed(raw)


@pytest.mark.parametrize("how", ["order", "twice", "outside", "gap", "behind"])
def test_a_leaf_that_makes_no_sense_is_damage(how: str) -> None:
    """Its checksum is right. Its blocks are refused, others are not, and `check` says where."""
    device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    scattered(pool, volume, 20, regions=64)
    pool.call("write", object_id=volume, offset_bytes=1100 * MIB, data=content(7))
    pool.close()
    leaf = max(pages(device, layout.SPARSE_LEVEL), key=lambda block: len(device.pages[block].rstrip(b"\0")))
    device.pages[leaf] = harmed(device.pages[leaf], how)
    report = check(device)
    assert any(f"block {leaf} " in error for error in report.errors), report.errors
    pool = Pool(device)
    with pytest.raises(PoolError):
        pool.call("read", object_id=volume, offset_bytes=3 * RUN * BLOCK, length_bytes=BLOCK)
    assert pool.call("read", object_id=volume, offset_bytes=1100 * MIB, length_bytes=BLOCK) == content(7)
    pool.abandon()


def regrouped(page: bytes, how: str) -> bytes:
    raw = bytearray(page)
    flags = HEADER + 6
    if how == "no first":
        raw[HEADER:HEADER + 7] = bytes(7)
    elif how == "smaller":
        raw[flags] = raw[flags] & 31 | 1 << 5
    elif how == "alone":
        raw[flags] &= 31
    elif how == "stranger":
        raw[flags + 7 * 3] = layout.NODE_FLAGS["follow"] | 2 << 5
    return sealed(raw)


@pytest.mark.parametrize("how", ["no first", "smaller", "alone", "stranger"])
def test_a_group_that_makes_no_sense_is_damage(how: str) -> None:
    device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    scattered(pool, volume, 20, regions=64)
    pool.close()
    node = next(block for block, page in pages(device, 1).items() if page[HEADER + 6] & layout.NODE_FLAGS["sparse"])
    device.pages[node] = regrouped(device.pages[node], how)
    assert not check(device).ok
    pool = Pool(device)
    with pytest.raises(PoolError):
        pool.call("read", object_id=volume, offset_bytes=3 * RUN * BLOCK, length_bytes=BLOCK)
    pool.abandon()


def test_a_leaf_with_blocks_of_another_group_is_found_by_the_check() -> None:
    device, pool = new_pool()
    volume = pool.call("create", name="v", size_bytes=SIZE)
    scattered(pool, volume, 400, regions=128)               # so many that the group was cut
    pool.close()
    leaf, page = next(iter(pages(device, layout.SPARSE_LEVEL).items()))
    raw: Any = bytearray(page)
    last = max(i for i in range(RUN) if any(raw[HEADER + 7 * i:HEADER + 7 * i + 7]))
    raw[HEADER + 7 * last + 5:HEADER + 7 * last + 7] = b"\xff\xff"
    if int.from_bytes(page[HEADER + 7 * last + 5:HEADER + 7 * last + 7], "little") >= 127 * RUN:
        raw[HEADER + 5:HEADER + 7] = b"\0\0"
    device.pages[leaf] = sealed(raw)
    assert any(f"sparse leaf at block {leaf} has blocks of other regions" in error for error in check(device).errors)
