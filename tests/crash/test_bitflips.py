"""A flipped bit in any page of metadata is found: a clear error, never a crash and never other data."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from core import layout
from core.check import Checker, Report, check
from core.errors import PoolError
from tests.crash.rig import Config, Rig, open_pool
from tests.support.history import Violation
from tests.support.simdisk import SimDisk

BLOCK = layout.BLOCK_BYTES
CONFIG = Config(size_bytes=34 << 20, cache_bytes=0, checked=False)


def write(rig: Rig, object_id: int, offset: int, length: int) -> None:
    data = rig.oracle.make_data(object_id, offset, length)
    rig.do("write", object_id=object_id, offset_bytes=offset, data=data)


class Furnished(Rig):
    """A rig that knows, once it is quiet, every byte of every object."""

    expected: dict[int, bytes]

    def remember(self) -> None:
        oracle = self.oracle
        self.expected = {}
        for model in oracle.objects.values():
            content = bytearray(model.current_size())
            for lba in model.sectors:
                content[lba * 512:lba * 512 + 512] = oracle.bytes_of(model, lba)
            self.expected[model.id] = bytes(content)


def furnished() -> Furnished:
    """A pool with every kind of metadata page: deep maps, a huge entry, checksums, keys, snapshots, clones."""
    rig = Furnished(1, CONFIG)
    rig.do("create", name="v", size_bytes=12 << 20)
    rig.do("create", name="c", size_bytes=4 << 20, checksum=True)
    rig.do("kv", changes={"key": b"value" * 300})
    for at in range(0, 2 << 20, 256 << 10):
        write(rig, 1, at, 256 << 10)
    write(rig, 1, 9 << 20, 64 << 10)
    write(rig, 2, 0, 64 << 10)
    rig.do("snapshot", pairs=[(1, "v@s"), (2, "c@s")])
    write(rig, 1, 4096, 8192)
    write(rig, 2, 4096, 8192)
    rig.do("clone", source_id=3, name="k")
    for i in range(8):
        rig.do("create", name=f"n{i}", size_bytes=64 << 10)
    return rig


@pytest.fixture(scope="module")
def closed() -> Furnished:
    rig = furnished()
    rig.do("flush")
    rig.pool.drain()
    rig.pool.close()
    rig.remember()
    return rig


def metadata_pages(disk: SimDisk) -> dict[str, list[int]]:
    """Where the metadata of a closed pool lies, by kind."""
    report = Report()
    checker = Checker(disk, report)
    assert checker.load_superblock()
    assert checker.clean
    checker.run()
    assert report.ok, report.errors
    sb = checker.sb
    base = sb["area_start"] + (sb["ckpt_gen"] & 1) * sb["area_blocks"]
    directories = -(-sb["area_images"] // layout.DIRECTORY_ENTRIES)
    counts = [layout.COUNT_START + group for group in checker.counts.groups_in_use()]
    return {"superblock": list(layout.SUPERBLOCK_SLOTS), "node": sorted(checker.nodes),
            "catalog": sorted(checker.catalog_pages), "count": counts, "summary": [layout.SUMMARY_START],
            "csum": sorted(checker.csum_pages),
            "area": list(range(base, base + directories + sb["area_images"] + sb["area_pending"]))}


def flips(seed: int, pages: list[int], count: int) -> Iterator[tuple[int, int, int]]:
    """(block, byte, bit): the header's bytes and others, of pages in turn."""
    dice = random.Random(seed)
    for i in range(count):
        yield pages[i % len(pages)], dice.choice((dice.randrange(64), dice.randrange(BLOCK))), dice.randrange(8)


KINDS = ("superblock", "node", "catalog", "count", "summary", "csum", "area")


@pytest.mark.parametrize("kind", KINDS)
def test_flips_in_a_closed_pool(kind: str, closed: Furnished, first_seed: int, crash_full: bool) -> None:
    pages = metadata_pages(closed.disk)[kind]
    assert pages
    for block, byte, bit in flips(first_seed, pages, 400 if crash_full else 40):
        disk = closed.disk.fork(1)
        disk.flip(block * BLOCK + byte, bit)
        assert not check(disk).ok, f"check overlooks bit {bit} of byte {byte} of {kind} page {block}"
        answer_right_or_refuse(disk, closed, f"{kind} page {block}, byte {byte}, bit {bit}")


def answer_right_or_refuse(disk: SimDisk, rig: Furnished, what: str, mutations: str = "") -> int:
    """Open, read everything, write a little, delete: every answer is right or a PoolError. Returns the refusals."""
    refused = 0
    try:
        pool = open_pool(disk, Config(cache_bytes=0, mutations=mutations))
    except PoolError:
        return 1
    try:
        for object_id, expected in rig.expected.items():
            for at in range(0, len(expected), 1 << 20):
                piece = expected[at:at + (1 << 20)]
                try:
                    data = pool.call("read", object_id=object_id, offset_bytes=at, length_bytes=len(piece))
                except PoolError:
                    refused += 1
                    continue
                if data != piece:
                    raise Violation(f"object {object_id} reads other data at {at}")
        if dict(pool.kv()) != rig.oracle.kv:
            raise Violation(f"kv is {pool.kv()}")
        for name, args in (("write", {"object_id": 1, "offset_bytes": 9 << 20, "data": bytes(8192)}),
                           ("delete", {"object_id": 3}), ("checkpoint", {})):
            try:
                pool.call(name, **args)
            except PoolError:
                refused += 1
    except Violation as error:
        raise Violation(f"{what}: {error}") from error
    finally:
        pool.abandon()
    return refused


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
def test_flips_in_the_journal(power: bool, first_seed: int, crash_full: bool) -> None:
    """A damaged frame is refused, or (when it may be the last one) taken for one that was never written."""
    rig = furnished()
    rig.do("flush")
    rig.do("kv", changes={"last": b"1"})
    rig.crash(power=power, mode="all")
    report = Report()
    checker = Checker(rig.disk, report)
    checker.load_superblock()
    start = checker.sb["journal_start"]
    frames = [page for page in range(start, start + checker.sb["journal_blocks"])
              if rig.disk.view.get(page, b"")[:4] == layout.FRAME_MAGIC.to_bytes(4, "little")]
    assert len(frames) > 3
    refused = 0
    for block, byte, bit in flips(first_seed, frames[:-2], 300 if crash_full else 60):
        disk = rig.disk.fork(1)
        length = int.from_bytes(disk.view[block][48:52], "little")
        disk.flip(block * BLOCK + byte % length, bit)
        refused += opens_with_real_data(disk)
        report = check(disk)
        assert report.ok or report.errors
    assert refused > 20


def opens_with_real_data(disk: SimDisk) -> int:
    """Whatever a damaged journal leaves: refused, or every sector is one that was written."""
    from tests.support.history import unstamp
    try:
        pool = open_pool(disk, CONFIG)
    except PoolError:
        return 1
    for info in pool.objects():
        for at in range(0, info.size_bytes, 1 << 20):
            data = pool.call("read", object_id=info.id, offset_bytes=at, length_bytes=min(1 << 20, info.size_bytes - at))
            for sector in range(0, len(data), 512):
                if data[sector:sector + 8] != bytes(8):
                    unstamp(data[sector:sector + 512])
    pool.abandon()
    return 0
