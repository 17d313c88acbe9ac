"""A page of metadata that cannot be read, or has rotted: who needs it is refused, all else goes on (docs/durability.md)."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core import layout
from core.check import Checker, Report, check
from core.errors import PoolError
from tests.crash.rig import Config, format_disk, open_pool
from tests.crash.test_bitflips import Furnished, metadata_pages
from tests.crash.test_bitflips import furnished as everything
from tests.support.simdisk import SimDisk

BLOCK, MIB = layout.BLOCK_BYTES, 1 << 20
CONFIG = Config(size_bytes=64 * MIB, cache_bytes=0)
DAMAGE = {"io_read", "checksum"}
SECOND = 1_000_000


def pattern(what: int, length: int = MIB) -> bytes:
    return random.Random(what).randbytes(512) * (length // 512)


class Life:
    """A closed pool, a page of it that is made bad, and what can be done with the rest."""

    def __init__(self, disk: SimDisk, how: str, mutations: str = "") -> None:
        self.disk = disk
        self.how = how
        self.mutations = mutations
        self.bad: list[int] = []
        self.pool: Any = None

    def spoil(self, block: int) -> None:
        self.bad.append(block)
        if self.how == "rot":
            self.disk.flip(block * BLOCK + 1000, 3)
        else:
            self.disk.fail("read", forever=True, within=(block * BLOCK, (block + 1) * BLOCK))

    def open(self) -> Any:
        self.pool = open_pool(self.disk, Config(cache_bytes=0, mutations=self.mutations))
        return self.pool

    def again(self) -> Any:
        """Close, and open once more: what is bad stays bad."""
        self.pool.close()
        return self.open()

    def crashed(self) -> Any:
        self.pool.abandon()
        self.disk.power_cut("all")
        for block in self.bad:
            if self.how != "rot":
                self.disk.fail("read", forever=True, within=(block * BLOCK, (block + 1) * BLOCK))
        return self.open()

    def mend(self) -> None:
        for block in self.bad:
            if self.how == "rot":
                self.disk.flip(block * BLOCK + 1000, 3)
        self.disk.heal()
        self.bad = []

    def read(self, object_id: int, offset: int, length: int = MIB) -> bytes:
        return bytes(self.pool.call("read", object_id=object_id, offset_bytes=offset, length_bytes=length))

    def refused(self, op: str, **args: Any) -> None:
        with pytest.raises(PoolError) as caught:
            self.pool.call(op, **args)
        assert caught.value.code in DAMAGE, caught.value.code

    def works(self, object_id: int, offset: int) -> None:
        """The pool takes writes, keeps them and goes on with the work in the background."""
        self.pool.call("write", object_id=object_id, offset_bytes=offset, data=pattern(offset), fua=True)
        assert self.read(object_id, offset) == pattern(offset)
        self.pool.call("kv", changes={"k": b"%d" % offset})
        self.pool.call("checkpoint")
        self.pool.drain()
        assert not self.pool.stats()["failed"]


V, W, S = 1, 2, 3                # two volumes and a snapshot of the first


def furnished() -> tuple[SimDisk, dict[str, int]]:
    """v: 4 MiB, its first half in a leaf of its own, its second in another; w: 1 MiB; then closed. And where its pages lie."""
    disk = format_disk(CONFIG, 1)
    pool = open_pool(disk, Config(cache_bytes=0))
    for name in ("v", "w"):
        pool.call("create", name=name, size_bytes=16 * MIB)
    for at in (0, 2 * MIB):
        pool.call("write", object_id=V, offset_bytes=at, data=pattern(at))
    pool.call("write", object_id=W, offset_bytes=0, data=pattern(7))
    pool.call("write", object_id=W, offset_bytes=2 * MIB, data=pattern(8))
    pool.call("flush")
    pool.close()
    return disk, places(disk)


def places(disk: SimDisk) -> dict[str, int]:
    """Blocks of the metadata of a closed pool: v's root and first leaf, w's first leaf, the count page of v's first data ..."""
    report = Report()
    checker = Checker(disk, report)
    assert checker.load_superblock()
    checker.run()
    assert report.ok, report.errors
    found = {}
    for page in checker.catalog_pages.values():
        for i in range(layout.SLOTS_PER_PAGE):
            slot = page[layout.PAGE_HEADER_BYTES + i * layout.SLOT_BYTES:][:layout.SLOT_BYTES]
            if slot[0] == 1:
                name = slot[96:96 + slot[88]].decode()
                root = int.from_bytes(slot[24:32], "little")
                found[f"{name} root"] = root
                for k, (_, leaf) in enumerate(checker.nodes[root].children):
                    found[f"{name} leaf {k}"] = leaf
    return found


@pytest.fixture(params=["fails", "rot"])
def life(request: pytest.FixtureRequest) -> Iterator[tuple[Life, dict[str, int]]]:
    disk, where = furnished()
    made = Life(disk, request.param)
    try:
        yield made, where
    finally:
        if made.pool is not None:
            made.pool.abandon()


def known(pool: Any) -> list[tuple[int, str, int]]:
    return [(each.block, each.kind, each.object_id) for each in pool.damage()]


Scene = tuple[Life, dict[str, int]]


def test_reclaim_sets_aside(life: Scene) -> None:
    """A deleted volume's node cannot be read: the pool goes on, also after it was opened again, and the space stays pending."""
    it, where = life
    it.spoil(where["v leaf 0"])
    pool = it.open()
    pool.call("delete", object_id=V)
    pool.drain()
    it.works(W, 0)
    assert pool.stats()["set_aside_bytes"] == BLOCK
    assert known(pool) == [(where["v leaf 0"], "node", 0)]
    for reopen in (it.again, it.crashed, it.again):
        pool = reopen()
        pool.drain()
        it.works(W, MIB)
        stats = pool.stats()
        assert (stats["set_aside_bytes"], stats["pending_items"], stats["damaged_pages"]) == (BLOCK, 1, 1)
    pool.close()
    report = check(it.disk)
    assert any(f"block {where['v leaf 0']}" in error for error in report.errors), report.errors
    it.mend()
    assert check(it.disk).ok
    pool = it.open()
    pool.drain()
    pool.call("checkpoint")
    pool.drain()
    assert pool.stats()["pending_items"] == 0


def test_what_is_set_aside_is_tried_again() -> None:
    """A page that failed for a while: what waited for it goes on by itself, a minute later at the latest."""
    disk, where = furnished()
    it = Life(disk, "fails")
    it.spoil(where["v leaf 0"])
    pool = it.open()
    pool.call("delete", object_id=V)
    pool.drain()
    assert pool.stats()["set_aside_bytes"]
    it.mend()
    before = pool.stats()["free_bytes"]
    now = pool.turn(1 << 40)
    for step in range(100):
        now = pool.turn((1 << 40) + 61 * SECOND * step)
        for io in pool.pending_io():
            pool.perform(io[0])
    assert now
    stats = pool.stats()
    assert (stats["set_aside_bytes"], stats["damaged_pages"]) == (0, 0)
    assert stats["free_bytes"] >= before + 256 * BLOCK
    pool.abandon()


def test_a_bad_node_under_a_volume(life: Scene) -> None:
    """Reads and writes that need it are refused and say where; other blocks, other volumes, deletes go on."""
    it, where = life
    it.spoil(where["v leaf 0"])
    pool = it.open()
    for _ in range(2):
        with pytest.raises(PoolError) as caught:
            it.read(V, 0)
        assert caught.value.code in DAMAGE
        it.refused("write", object_id=V, offset_bytes=BLOCK, data=bytes(BLOCK))
        it.refused("unmap", object_id=V, offset_bytes=0, length_bytes=MIB)
        assert it.read(V, 2 * MIB) == pattern(2 * MIB)
        assert known(pool) == [(where["v leaf 0"], "node", V)]
        it.works(V, 4 * MIB)
        it.works(V, 2 * MIB)
        it.works(W, 2 * MIB)
        pool = it.crashed()
        pool.call("write", object_id=V, offset_bytes=2 * MIB, data=pattern(2 * MIB))
    pool.call("snapshot", pairs=[(V, "v@s")])
    snapshot = pool.lookup("v@s").id
    it.refused("extents", object_id=V, offset_bytes=0, length_bytes=MIB, limit=10)
    assert pool.call("diff", a_id=V, b_id=snapshot, offset_bytes=0, limit=10) == []
    pool.call("clone", source_id=snapshot, name="c")
    c = pool.lookup("c").id
    it.works(c, 2 * MIB)
    pool.call("revert", volume_id=V, snapshot_id=snapshot)
    it.refused("diff", a_id=W, b_id=V, offset_bytes=0, limit=10)
    it.refused("share", dst_id=W, dst_offset_bytes=0, src_id=V, src_offset_bytes=0, length_bytes=MIB)
    for each in (V, snapshot, c):
        pool.call("delete", object_id=each)
    pool.drain()
    it.works(W, 0)
    assert pool.stats()["pending_items"] == 1
    it.again()
    it.works(W, 0)


def test_the_first_bad_block_is_named() -> None:
    """A read over a good leaf and a bad one: the value of the refusal is the offset of the first byte that cannot be had."""
    disk, where = furnished()
    it = Life(disk, "fails")
    it.spoil(where["v leaf 1"])
    pool = it.open()
    for op, more in (("read", {"length_bytes": 2 * MIB}), ("write", {"data": bytes(2 * MIB)})):
        with pytest.raises(PoolError) as caught:
            pool.call(op, object_id=V, offset_bytes=MIB, **more)
        assert (caught.value.code, caught.value.value) == ("io_read", MIB if op == "read" else 0)
    pool.abandon()


def count_page_of(disk: SimDisk, leaf: int) -> int:
    """The home of the page that counts the first block that a leaf refers to."""
    at = disk.view[leaf][layout.PAGE_HEADER_BYTES:][:7]
    block = int.from_bytes(at[:5], "little")
    return layout.COUNT_START + block // layout.GROUP_BLOCKS


@pytest.mark.parametrize("action", ["overwrite", "unmap", "snapshot", "delete"])
def test_a_bad_count_page(life: Scene, action: str) -> None:
    """Nothing is taken from where counts cannot be read; what lies there is read and, where need be, written elsewhere."""
    it, where = life
    home = count_page_of(it.disk, where["v leaf 0"])
    it.spoil(home)
    pool = it.open()
    free = pool.stats()["available_bytes"]
    actions: dict[str, Callable[[], None]] = {
        "overwrite": lambda: it.works(V, 0),
        "unmap": lambda: pool.call("unmap", object_id=V, offset_bytes=0, length_bytes=MIB),
        "snapshot": lambda: pool.call("snapshot", pairs=[(V, "v@s")]) if home != count_page_of_root(it.disk, where) else None,
        "delete": lambda: pool.call("delete", object_id=V),
    }
    actions[action]()
    pool.drain()
    for at in (4 * MIB, 8 * MIB, 0):
        it.works(W, at)
    if action in ("overwrite", "snapshot"):
        it.works(V, 4 * MIB)
    assert pool.stats()["available_bytes"] < free
    pool = it.again()
    it.works(W, 0)
    pool = it.crashed()
    it.works(W, 0)
    pool.close()
    assert any(f"block {home}" in error for error in check(it.disk).errors)
    it.mend()
    assert check(it.disk).ok, check(it.disk).errors
    pool = it.open()
    it.works(W, 4 * MIB)
    pool.close()
    assert check(it.disk).ok


def count_page_of_root(disk: SimDisk, where: dict[str, int]) -> int:
    return layout.COUNT_START + where["v root"] // layout.GROUP_BLOCKS


def test_a_bad_page_of_checksums() -> None:
    """Data whose checksum cannot be read is refused; what is written goes where checksums can be kept."""
    disk = format_disk(CONFIG, 1)
    pool = open_pool(disk, Config(cache_bytes=0))
    pool.call("create", name="v", size_bytes=16 * MIB, checksum=True)
    pool.call("write", object_id=V, offset_bytes=0, data=pattern(0))
    pool.close()
    it = Life(disk, "fails")
    home = layout.CSUM_START + int.from_bytes(disk.view[places(disk)["v leaf 0"]][layout.PAGE_HEADER_BYTES:][:5],
                                              "little") // layout.CSUM_BLOCKS
    it.spoil(home)
    pool = it.open()
    it.refused("read", object_id=V, offset_bytes=0, length_bytes=BLOCK)
    assert known(pool) == [(home, "csum", V)]
    it.works(V, 0)
    it.works(V, 4 * MIB)
    pool.call("write_atomic", object_id=V, offset_bytes=8 * MIB, data=pattern(3))
    assert it.read(V, 8 * MIB) == pattern(3)
    pool.drain()
    pool.close()
    it.mend()
    assert check(disk, data=True).ok


def use(it: Life, rig: Furnished, expected: dict[int, bytearray], loose: set[tuple[int, int]]) -> int:
    """Every kind of operation on every object; what is answered is right. How many were refused."""
    refused = 0
    pool = it.pool

    def tried(op: str, **args: Any) -> bool:
        nonlocal refused
        try:
            pool.call(op, **args)
        except PoolError as error:
            if error.code not in DAMAGE:
                raise
            refused += 1
            return False
        return True

    for number, content in expected.items():
        for at in range(0, len(content), MIB):
            piece = content[at:at + MIB]
            try:
                data = it.read(number, at, len(piece))
            except PoolError as error:
                if error.code not in DAMAGE:
                    raise
                refused += 1
                continue
            for block in range(0, len(piece), BLOCK):
                if (number, at + block) not in loose:
                    assert data[block:block + BLOCK] == piece[block:block + BLOCK], f"object {number} at {at + block}"
        info = pool.info(number)
        if info.kind == "snapshot":
            continue
        for at, length in ((0, BLOCK), (8192, 20480), (len(content) - MIB, 8192)):
            if at >= 0 and at + length <= len(content):
                data = pattern(at + number + pool.stats()["journal_records"], length)
                fine = tried("write", object_id=number, offset_bytes=at, data=data, fua=True)
                content[at:at + length] = data
                for block in range(at, at + length, BLOCK):
                    (loose.discard if fine else loose.add)((number, block))
        tried("unmap", object_id=number, offset_bytes=16384, length_bytes=4096)
        loose.add((number, 16384))
        tried("exclusive", object_ids=[number])
    for name in ("t", "u"):
        if tried("snapshot", pairs=[(1, f"v@{name}")]):
            tried("diff", a_id=pool.lookup(f"v@{name}").id, b_id=1, offset_bytes=0, limit=1000)
            tried("delete", object_id=pool.lookup(f"v@{name}").id)
    pool.call("kv", changes={"key": b"new" * 300})
    tried("flush")
    pool.call("checkpoint")
    pool.drain()
    assert not pool.stats()["failed"]
    return refused


@pytest.mark.parametrize("kind", ["node", "catalog", "count", "csum"])
def test_any_page(kind: str, crash_full: bool) -> None:
    """Pages of a pool with everything in it fail from its opening on, through a close and a crash; in the end they are mended."""
    rig = everything()
    rig.do("flush")
    rig.pool.drain()
    rig.pool.close()
    rig.remember()
    pages = metadata_pages(rig.disk)[kind]
    dice = random.Random(kind)
    for block in pages if crash_full else dice.sample(pages, min(2, len(pages))):
        it = Life(rig.disk.fork(1), "fails")
        expected = {number: bytearray(content) for number, content in rig.expected.items()}
        loose: set[tuple[int, int]] = set()
        it.spoil(block)
        try:
            it.open()
        except PoolError:
            assert kind in ("node", "catalog"), f"{kind} page {block}"      # the catalog's
            continue
        refused = use(it, rig, expected, loose)
        assert refused < 40
        it.again()
        use(it, rig, expected, loose)
        it.pool.abandon()
        it.disk.power_cut("all")
        it.disk.fail("read", forever=True, within=(block * BLOCK, (block + 1) * BLOCK))
        with contextlib.suppress(PoolError):
            it.open()                     # refused where the journal cannot be replayed without the page
        it.disk.heal()
        it.open()
        for number in (3, 1):
            it.pool.call("delete", object_id=number)
        it.pool.close()
        report = check(it.disk)
        assert report.ok, f"{kind} page {block}: {report.errors}"


def test_nobody_ends_while_queued_on_a_page() -> None:
    """An op that needs a page that is under way and another that is known to be bad ends when the first has come, not before."""
    disk = format_disk(CONFIG, 1)
    pool = open_pool(disk, Config(cache_bytes=0))
    for name in ("v", "w", "x", "filler", "y", "more"):
        pool.call("create", name=name, size_bytes=16 * MIB)
    ids = {info.name: info.id for info in pool.objects()}
    for name, length in (("x", BLOCK), ("filler", 6 * MIB), ("y", BLOCK), ("more", 6 * MIB)):
        pool.call("write", object_id=ids[name], offset_bytes=0, data=pattern(1, length))
    for lba, (target, source) in enumerate((("v", "x"), ("v", "y"), ("w", "y"))):
        pool.call("share", dst_id=ids[target], dst_offset_bytes=lba * BLOCK, src_id=ids[source], src_offset_bytes=0,
                  length_bytes=BLOCK)
    pool.call("snapshot", pairs=[(ids["v"], "v@s"), (ids["w"], "w@s")])
    pool.close()
    where = places(disk)
    slow, bad = (count_page_of(disk, where[f"{name} leaf 0"]) for name in ("x", "y"))
    assert slow != bad
    disk.fail("read", forever=True, within=(bad * BLOCK, (bad + 1) * BLOCK))
    pool = open_pool(disk, Config(cache_bytes=0))
    with pytest.raises(PoolError):                       # now it is known
        pool.call("write", object_id=ids["w"], offset_bytes=5 * BLOCK, data=bytes(BLOCK))
    token = pool.start("write", object_id=ids["v"], offset_bytes=5 * BLOCK, data=bytes(BLOCK))
    for _ in range(20):
        pool.turn()
        for io, _, offset, _ in pool.pending_io():
            if offset != slow * BLOCK:
                pool.perform(io)
    waits = [io for io, _, offset, _ in pool.pending_io() if offset == slow * BLOCK]
    assert len(waits) == 1
    assert pool.reap() == []
    pool.perform(waits[0])
    pool.drain()
    assert [(done.token, done.code) for done in pool.reap()] == [(token, "io_read")]
    pool.abandon()


@pytest.mark.parametrize("copy", layout.SUPERBLOCK_SLOTS)
def test_a_superblock_copy_that_cannot_be_read(copy: int) -> None:
    """The other one is taken; without a readable one the failure is said, not that the pool is none."""
    disk, _ = furnished()
    it = Life(disk, "fails")
    it.spoil(copy)
    it.open()
    for at in (0, 2 * MIB):
        assert it.read(V, at) == pattern(at)
    it.works(W, MIB)
    it.again()
    it.works(W, 0)
    it.pool.abandon()
    it.spoil(1 - copy)
    with pytest.raises(PoolError, match="cannot be read"):
        it.open()


def test_a_medium_without_room_is_a_full_pool() -> None:
    """Data that finds no room on a thin medium is refused as by a full pool, and the pool goes on."""
    disk, _ = furnished()
    pool = open_pool(disk, Config(cache_bytes=0))
    fault = disk.fail("write", forever=True, error=errno.ENOSPC, within=(32 * MIB, 64 * MIB))
    codes = set()
    for at in range(4 * MIB, 16 * MIB, MIB):
        try:
            pool.call("write", object_id=V, offset_bytes=at, data=pattern(at))
        except PoolError as error:
            codes.add(error.code)
    assert codes == {"no_space"}
    assert fault.hits
    pool.call("write", object_id=V, offset_bytes=0, data=pattern(1), fua=True)
    assert not pool.stats()["failed"]
    disk.heal()
    pool.call("write", object_id=W, offset_bytes=15 * MIB, data=pattern(1), fua=True)
    pool.close()
    assert check(disk).ok
