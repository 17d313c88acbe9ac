"""A flipped bit in any page of metadata is found: a clear error, never a crash and never other data."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from core import layout
from core.base.crc32c import crc32c
from core.check import Checker, Report, check
from core.errors import PoolError
from tests.crash.rig import Config, Rig, open_pool
from tests.support.history import Violation
from tests.support.simdisk import SimDisk

BLOCK = layout.BLOCK_BYTES
MIB = 1 << 20
CONFIG = Config(size_bytes=34 << 20, cache_bytes=0, checked=False)


def write(rig: Rig, object_id: int, offset: int, length: int) -> None:
    data = rig.oracle.make_data(object_id, offset, length)
    rig.do("write", object_id=object_id, offset_bytes=offset, data=data)


class Furnished(Rig):
    """A rig that knows, once it is quiet, every byte of every object."""

    expected: dict[int, bytes]
    written: dict[int, set[int]]      # MiB of each object that hold something

    def remember(self) -> None:
        oracle = self.oracle
        self.expected, self.written = {}, {}
        for model in oracle.objects.values():
            content = bytearray(model.current_size())
            for lba in model.sectors:
                content[lba * 512:lba * 512 + 512] = oracle.bytes_of(model, lba)
            self.expected[model.id] = bytes(content)
            self.written[model.id] = {lba * 512 >> 20 for lba in model.sectors}


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
            refused += read_all(pool, object_id, expected, rig.written[object_id])
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


def read_all(pool: Any, object_id: int, expected: bytes, written: set[int]) -> int:
    """Read what was written of an object, and whatever its map says beyond that. Violation: other data. Returns the refusals."""
    refused = 0
    places = set(written)
    try:
        for start, length, _ in pool.call("extents", object_id=object_id, offset_bytes=0, length_bytes=len(expected),
                                          limit=1000):
            places |= set(range(start >> 20, start + length - 1 >> 20)) | {start + length - 1 >> 20}
    except PoolError:
        places, refused = set(range(0, (len(expected) + MIB - 1) // MIB)), 1
    for place in sorted(places):
        piece = expected[place * MIB:(place + 1) * MIB]
        try:
            data = pool.call("read", object_id=object_id, offset_bytes=place * MIB, length_bytes=len(piece))
        except PoolError:
            refused += 1
            continue
        if data != piece:
            raise Violation(f"object {object_id} reads other data in MiB {place}")
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


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte(kind: str, closed: Furnished, first_seed: int, crash_full: bool) -> None:
    """One bit of each byte that means something of its own (--crash-full: of every page; else every 251st byte of one)."""
    pages = metadata_pages(closed.disk)[kind]
    dice = random.Random(first_seed)
    for block in pages if crash_full else pages[-1:]:
        page = closed.disk.view[block]
        for byte in telling_bytes(page, dice) if crash_full else range(0, BLOCK, 251):
            disk = closed.disk.fork(1)
            disk.flip(block * BLOCK + byte, dice.randrange(8))
            assert byte % 16 or not check(disk).ok, f"check overlooks byte {byte} of {kind} page {block}"
            answer_right_or_refuse(disk, closed, f"{kind} page {block}, byte {byte}")


ENTRY_BYTES = {1: layout.NODE_ENTRY_BYTES, 2: layout.COUNT_BYTES, 3: layout.CSUM_BYTES, 4: layout.SLOT_BYTES,
               5: layout.SUMMARY_BYTES, 6: 16, 7: 16}


def telling_bytes(page: bytes, dice: random.Random) -> list[int]:
    """Every byte of the header, of the first three entries of each sort and of the last; one of every eighth of the others."""
    if page[:8] == layout.SUPERBLOCK_MAGIC:
        used = max(field.offset + field.size for field in layout.SUPERBLOCK)
        return [*range(used), *dice.sample(range(used, BLOCK), 100)]
    found = list(range(layout.PAGE_HEADER_BYTES))
    size = ENTRY_BYTES[page[8]]
    seen: dict[tuple[bool, int], int] = {}
    starts = range(layout.PAGE_HEADER_BYTES, BLOCK - size + 1, size)
    for number, at in enumerate(starts):
        entry = page[at:at + size]
        sort = (any(entry), entry[-1] if size == layout.NODE_ENTRY_BYTES else entry[0] if size == layout.SLOT_BYTES else 0)
        seen[sort] = seen.get(sort, 0) + 1
        if seen[sort] <= 3 or at == starts[-1]:
            found += range(at, at + size)
        elif number % 8 == 0:
            found.append(at + dice.randrange(size))
    return sorted(set(found))


def put(disk: SimDisk, block: int, page: bytes) -> None:
    disk.view[block] = disk.durable[block] = page


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "superblock"])
def test_pages_in_each_others_place(kind: str, closed: Furnished) -> None:
    """Two pages swapped; a page of another pool, which says that it belongs where it is."""
    pages = metadata_pages(closed.disk)[kind]
    for a, b in itertools.combinations(pages[:4], 2):
        disk = closed.disk.fork(1)
        put(disk, a, closed.disk.view[b])
        put(disk, b, closed.disk.view[a])
        assert not check(disk).ok
        answer_right_or_refuse(disk, closed, f"{kind} pages {a} and {b} swapped")
    other = furnished()
    other.do("flush")
    other.pool.drain()
    other.pool.close()
    for block in pages:
        page = other.disk.view.get(block, b"")
        if page[:4] == layout.PAGE_MAGIC.to_bytes(4, "little"):
            disk = closed.disk.fork(1)
            put(disk, block, page)
            assert not check(disk).ok
            answer_right_or_refuse(disk, closed, f"{kind} page {block} of another pool")


def test_pages_of_an_earlier_time() -> None:
    """A page as an earlier checkpoint left it, with all its checksums in order: `check` finds it, whatever it is, and no count or
    summary is believed that does not fit the rest; an old node alone is not told by reading through it (docs/durability.md)."""
    refused = old_pages("")
    assert all(refused[kind] for kind in ("count", "summary", "csum")), refused
    assert not old_pages("no_space_sum")["summary"]


def old_pages(mutations: str) -> dict[str, int]:
    """How much was refused when pages of each kind were old; AssertionError when more is believed than may be."""
    rig = furnished()
    rig.do("flush")
    rig.pool.drain()
    rig.pool.close()
    old = rig.disk.fork(1)
    rig.pool = open_pool(rig.disk, CONFIG)
    write(rig, 1, 0, 16384)
    write(rig, 1, 3 << 20, 128 << 10)
    write(rig, 2, 4096, 16384)
    rig.do("unmap", object_id=1, offset_bytes=9 << 20, length_bytes=32 << 10)
    rig.do("snapshot", pairs=[(1, "v@later")])
    write(rig, 1, 8192, 4096)
    rig.do("kv", changes={"key": b"other" * 300})
    rig.do("flush")
    rig.pool.drain()
    rig.pool.close()
    rig.remember()
    refused = dict.fromkeys(KINDS, 0)
    for kind, pages in metadata_pages(rig.disk).items():
        for block in pages:
            page = old.view.get(block, old.fill)
            if page == rig.disk.view[block]:
                continue
            disk = rig.disk.fork(1)
            put(disk, block, page)
            assert not check(disk, data=True).ok, f"check overlooks an old {kind} page at block {block}"
            try:
                refused[kind] += answer_right_or_refuse(disk, rig, f"old {kind} page {block}", mutations)
            except Violation:
                assert mutations or kind in ("node", "catalog"), f"an old {kind} page at block {block} is believed"
    return refused


def test_rot_in_the_newest_superblock(first_seed: int, crash_full: bool) -> None:
    """Stopped anywhere in a checkpoint, with one copy of the superblock rotten: right data or a clear error, at each point."""
    for after in range(0, 40, 1 if crash_full else 3):
        rig = furnished()
        rig.do("flush")
        rig.do("checkpoint")
        rig.pool.drain()
        for at in range(0, 10 << 20, 1 << 20):
            write(rig, 1, at, 8192)
        rig.do("unmap", object_id=1, offset_bytes=0, length_bytes=1 << 20)
        rig.do("flush")
        rig.remember()
        rig.start("checkpoint")
        done = 0
        for _ in range(400):
            if done == after:
                break
            rig.turn()
            for io_id, kind, _, _ in rig._watch_syncs()[:1]:
                rig.perform(io_id, kind)
                done += 1
        rig.pool.abandon()
        rig.pool = None
        for copy in layout.SUPERBLOCK_SLOTS:
            for power in (True, False):
                disk = rig.disk.fork(first_seed)
                disk.power_cut("all") if power else disk.process_kill()
                disk.flip(copy * BLOCK + 200, 1)
                refused_or_right(disk, rig, "", f"stopped after {after} requests, copy {copy} rotten")
        if done < after:
            break


def pages_newer_than_the_superblock(mutations: str) -> None:
    """The newest superblock rots when its pages are home, and the one before it is taken: what it builds on is gone.

    The checkpoint in between was about other pages, so that recovery does not put these right, and in each run as many blocks
    were freed as taken, so that no sum tells. The journal speaks of what was: a block that was shared, and overwritten then,
    would be shared again, as it is now.
    """
    rig = Furnished(1, dataclasses.replace(CONFIG, cache_bytes=8 << 20))
    for number, name in ((1, "source"), (2, "target"), (3, "other")):
        rig.do("create", name=name, size_bytes=4 << 20)
        write(rig, number, 0, 16384)
    rig.do("flush")
    rig.do("checkpoint")
    write(rig, 3, 8 << 12, 4096)
    rig.do("flush")
    rig.do("checkpoint")
    rig.do("share", dst_id=2, dst_offset_bytes=0, src_id=1, src_offset_bytes=0, length_bytes=4096)
    write(rig, 1, 0, 4096)
    write(rig, 2, 8 << 12, 4096)
    rig.do("flush")
    while rig.pool.stats()["pending_items"]:
        rig.step()                    # not to where time makes a checkpoint
    rig.remember()
    rig.start("checkpoint")
    while True:
        rig.turn()
        pending = [item for item in rig._watch_syncs() if item[1:3] != ("write", BLOCK)]
        if not pending and rig._watch_syncs():
            break                     # the second copy comes last, and not at all
        for io_id, kind, _, _ in pending[:1]:
            rig.perform(io_id, kind)
    rig.pool.abandon()
    rig.disk.power_cut("all")
    rig.disk.flip(200, 1)
    refused_or_right(rig.disk, rig, mutations, "an older superblock")


def test_pages_newer_than_the_superblock() -> None:
    pages_newer_than_the_superblock("")
    with pytest.raises(Violation):
        pages_newer_than_the_superblock("no_gen")


def published_and_cut() -> tuple[SimDisk, list[int], list[int], list[int]]:
    """The power went when a checkpoint was published and none of its pages home: disk, directory, images, pending list."""
    rig = furnished()
    rig.do("flush")
    rig.do("checkpoint")
    for at in range(0, 10 << 20, 1 << 20):
        write(rig, 1, at, 8192)
    rig.start("checkpoint")
    while len([line for line in rig.disk.trace.lines if line[1] == "write" and line[2] == 0]) < 4:
        rig.turn()
        for io_id, kind, _, _ in rig._watch_syncs()[:1]:
            rig.perform(io_id, kind)
    rig.pool.abandon()
    rig.disk.sync()
    checker = Checker(rig.disk, Report())
    checker.load_superblock()
    sb = checker.sb
    assert not checker.clean
    base = sb["area_start"] + (sb["ckpt_gen"] & 1) * sb["area_blocks"]
    directories = -(-sb["area_images"] // layout.DIRECTORY_ENTRIES)
    images, pending = base + directories, base + directories + sb["area_images"]
    return rig.disk, [base], list(range(images, pending)), list(range(pending, pending + sb["area_pending"]))


def aged(page: bytes) -> bytes:
    """The page as the checkpoint before would have written it."""
    at = next(field for field in layout.PAGE_HEADER if field.name == "gen")
    gen = int.from_bytes(page[at.offset:at.offset + at.size], "little") - 1
    rest = page[8:at.offset] + gen.to_bytes(at.size, "little") + page[at.offset + at.size:]
    return page[:4] + crc32c(rest).to_bytes(4, "little") + rest


def believed(disk: SimDisk, block: int, bytes_: range, mutations: str) -> int:
    """At how many of these bytes a flipped bit does not keep recovery from beginning."""
    found = 0
    for byte in bytes_:
        other = disk.fork(1)
        other.flip(block * BLOCK + byte, byte % 8)
        with contextlib.suppress(PoolError):
            open_pool(other, dataclasses.replace(CONFIG, mutations=mutations)).abandon()
            found += 1
    return found


def test_a_rotten_area_goes_nowhere() -> None:
    """A bit of the directory, of an image that is about to go home or of what is to be freed: recovery stops before it."""
    disk, directory, images, pending = published_and_cut()
    places = range(70, BLOCK, 167)
    assert not believed(disk, directory[0], places, "")
    assert believed(disk, directory[0], places, "no_directory_crc")
    for block in images[:6]:
        assert not believed(disk, block, places, "")
    assert sum(believed(disk, block, places, "no_image_crc") for block in images[:6])
    assert pending
    for block in pending:
        assert not believed(disk, block, range(70, 500, 17), "")
        put(disk, block, aged(disk.view[block]))
        with pytest.raises(PoolError, match="pending list"):
            open_pool(disk, CONFIG)


def refused_or_right(disk: SimDisk, rig: Furnished, mutations: str, what: str) -> None:
    try:
        pool = open_pool(disk, dataclasses.replace(CONFIG, mutations=mutations))
    except PoolError:
        return
    try:
        for object_id, expected in rig.expected.items():
            for at in range(0, len(expected), 1 << 20):
                piece = expected[at:at + (1 << 20)]
                with contextlib.suppress(PoolError):
                    if pool.call("read", object_id=object_id, offset_bytes=at, length_bytes=len(piece)) != piece:
                        raise Violation(f"{what}: object {object_id} reads other data at {at}")
    finally:
        pool.abandon()
