"""The superblock's two copies: never both at risk, none believed that fails its checksum, and what a failed sync leaves."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable

import pytest

from core import layout
from core.errors import PoolError
from core.pool.engine import Pool
from tests.crash import test_bitflips as bitflips
from tests.crash.rig import BLOCK, Config, Rig, open_pool
from tests.crash.test_recovery import CONFIG, interrupted, judge, killed_while_publishing, unsynced_copies
from tests.support.history import Violation
from tests.support.simdisk import SimDisk
from tests.support.watched_disk import SB, WatchedDisk, number

GARBAGE = bytes(range(256)) * 16


def life_of_superblocks(mutations: str) -> None:
    """A pool is made, lives through checkpoints, a failed sync at any point, is closed, and opened again."""
    config = dataclasses.replace(CONFIG, mutations=mutations)
    for after in range(0, 14):
        disk = WatchedDisk(CONFIG.size_bytes, after)
        Pool.create(disk, name="crash")
        rig = Rig(1, config, disk)
        rig.do("create", name="v", size_bytes=1 << 20)
        rig.do("checkpoint")
        rig.pool.close()
        assert not unsynced_copies(disk), "the pool was closed and its superblock is not durable"
        rig.pool = open_pool(disk, config)
        rig.do("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, 4096))
        rig.tolerated |= {"io_write", "read_only", "aborted"}
        disk.fail("sync", after)
        rig.do("checkpoint")
        rig.do("flush")
        rig.settle()
        rig.pool.abandon()
        disk.heal()
        open_pool(disk, config).close()


def test_both_copies_are_never_at_risk() -> None:
    life_of_superblocks("")
    with pytest.raises(Violation):
        life_of_superblocks("no_close_sync")


def garbled(rig: Rig, disk: SimDisk) -> None:
    """Power off: what was not synced of the superblock is garbage, and of the rest whatever the seed wants."""
    copies = unsynced_copies(disk)
    disk.power_cut()
    for copy in copies:
        disk.view[copy] = disk.durable[copy] = GARBAGE


def test_a_copy_that_the_power_cut_garbled() -> None:
    """A superblock under way comes out as garbage, at each point of a checkpoint, of a close and of an open."""
    for moment in ("checkpoint", "close", "open"):
        for after in range(60):
            rig = Rig(1, CONFIG)
            rig.do("create", name="v", size_bytes=8 << 20)
            for at in range(0, 8 << 20, 1 << 20):
                rig.do("write", object_id=1, offset_bytes=at, data=rig.oracle.make_data(1, at, 4096), fua=True)
            if moment == "open":
                rig.pool.close()
            rig.disk.cut_after(after)
            actions: dict[str, Callable[[], object]] = {
                "checkpoint": lambda rig=rig: rig.pool.call("checkpoint"), "close": rig.pool.close,
                "open": lambda rig=rig: open_pool(rig.disk, CONFIG)}
            try:
                actions[moment]()
            except PoolError:
                if not rig.disk.dead:
                    raise
            rig.pool.abandon()
            for seed in range(2):
                disk, oracle = rig.disk.fork(seed), pickle.loads(pickle.dumps(rig.oracle))
                oracle.crash(power=True)
                garbled(rig, disk)
                judge(disk, oracle, rig, f"{moment} cut at {after}, its superblock garbled")
            if not rig.disk.dead:
                break
        assert after > 4, moment


def rotten_copies(mutations: str) -> None:
    """A bit of each byte of one copy: the other is taken, with all it says. Of both: the pool is refused."""
    rig = bitflips.furnished()
    rig.do("flush")
    rig.pool.drain()
    rig.pool.close()
    names = {info.name for info in open_pool(rig.disk.fork(1), CONFIG).objects()}
    used = max(field.offset + field.size for field in layout.SUPERBLOCK)
    for byte in [*range(used), *range(used, BLOCK, 97)]:
        for copies in ((0,), (1,), (0, 1)):
            disk = rig.disk.fork(1)
            for copy in copies:
                disk.flip(copy * BLOCK + byte, byte % 8)
            try:
                pool = open_pool(disk, dataclasses.replace(bitflips.CONFIG, mutations=mutations))
            except PoolError:
                if len(copies) == 1:
                    raise Violation(f"refused, though one copy is whole: byte {byte} of copy {copies}") from None
                continue
            if len(copies) == 2:
                raise Violation(f"byte {byte} of both copies is rotten, and the pool opens")
            if pool.name != "crash" or {info.name for info in pool.objects()} != names:
                raise Violation(f"byte {byte} of copy {copies} is believed")
            pool.abandon()


def test_a_rotten_copy_is_not_believed() -> None:
    rotten_copies("")
    with pytest.raises(Violation):
        rotten_copies("no_super_crc")


def test_killed_after_a_failed_publication() -> None:
    """Recovery writes the superblock that it builds on once more: a sync alone would prove nothing."""
    killed_while_publishing("", sync_failed=True)
    with pytest.raises(Violation):
        killed_while_publishing("no_super_rewrite", sync_failed=True)


def snapshots(disk: SimDisk, config: Config) -> dict[str, bytes]:
    """What each snapshot holds."""
    pool = open_pool(disk, config)
    found = {info.name: pool.call("read", object_id=info.id, offset_bytes=0, length_bytes=info.size_bytes)
             for info in pool.objects() if info.kind == "snapshot"}
    pool.abandon()
    return found


def failed_sync_under_a_snapshot(mutations: str) -> None:
    """A snapshot whose frame is written when a sync fails: what it shares was overwritten in place, and that may never last."""
    config = Config(size_bytes=26 << 20, cache_bytes=0, checked=False, mutations=mutations)
    for seed in range(6):
        rig = Rig(seed, config)
        rig.tolerated |= {"io_write", "read_only"}
        rig.do("create", name="v", size_bytes=1 << 20)
        rig.do("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, 8192), fua=True)
        rig.do("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, 8192))
        rig.disk.fail("sync", forever=True)
        rig.do("snapshot", pairs=[(1, "v@s")])
        rig.settle()
        for _ in range(20):
            rig.step()                # time for the note
        rig.crash(power=False, survive_sync=True)
        rig.disk.heal()
        seen = snapshots(rig.disk, config)
        rig.disk.power_cut("none")
        if snapshots(rig.disk, config) != seen:
            raise Violation(f"seed {seed}: a snapshot that a recovery showed has changed")


def test_a_failed_sync_is_noted() -> None:
    failed_sync_under_a_snapshot("")
    with pytest.raises(Violation):
        failed_sync_under_a_snapshot("no_distrust")


class Forgetful(WatchedDisk):
    """A disk that lets one of its syncs pass without effect."""

    forgotten = -1
    syncs = 0

    def sync(self) -> None:
        self.syncs += 1
        if self.syncs - 1 == self.forgotten:
            self.sync_upto = 0
        super().sync()


def made_and_cut(forgotten: int) -> int:
    """The power goes at each request of a pool's creation, and after it: it is none, or an empty one. Returns the syncs."""
    for after in range(60):
        for mode in ("none", "all", "prefix", "suffix", "sparse", "most"):
            disk = Forgetful(CONFIG.size_bytes, after)
            disk.forgotten = forgotten
            disk.cut_after(after)
            done = False
            try:
                Pool.create(disk, name="new")
                done = True
            except OSError:
                pass
            syncs = disk.syncs
            disk.power_cut(mode)
            try:
                pool = open_pool(disk, CONFIG)
            except PoolError as error:
                if done or error.code != "foreign":
                    raise Violation(f"created and cut after {after} requests, {mode}: {error}") from None
                continue
            assert pool.objects() == []
            pool.abandon()
        if done:
            return syncs
    raise AssertionError("creation never ends")


def test_each_sync_of_a_creation() -> None:
    syncs = made_and_cut(-1)
    assert syncs == 3
    for forgotten in range(syncs):
        with pytest.raises(Violation):
            made_and_cut(forgotten)


def published_without_images(mutations: str) -> None:
    """Killed when a checkpoint that changed no page was published in the page cache only; then the power goes in the recovery.

    Its superblock is not durable, so the half that the next checkpoint would write is the one that the durable superblock needs.
    """
    config = dataclasses.replace(CONFIG, mutations=mutations)
    rig = Rig(1, config)
    rig.do("create", name="v", size_bytes=8 << 20)
    for at in range(0, 8 << 20, 2 << 20):
        rig.do("write", object_id=1, offset_bytes=at, data=rig.oracle.make_data(1, at, 4096), fua=True)
    rig.start("read", object_id=1, offset_bytes=2 << 20, length_bytes=4096)
    rig.turn()
    rig.held = {io_id for io_id, kind, *_ in rig._watch_syncs() if kind == "read"}      # lasts: what is unmapped stays pending
    rig.do("unmap", object_id=1, offset_bytes=0, length_bytes=4096, fua=True)
    rig.do("checkpoint")
    rig.start("checkpoint")
    while not unsynced_copies(rig.disk):
        rig.turn()
        for io_id, kind, _, _ in [io for io in rig._watch_syncs() if io[0] not in rig.held][:1]:
            rig.perform(io_id, kind)
    rig.pool.abandon()
    rig.oracle.crash(power=False)
    rig.disk.process_kill()
    for after in range(60):
        for mode in ("none", "suffix", "writes", "most"):
            disk, oracle = rig.disk.fork(after), pickle.loads(pickle.dumps(rig.oracle))
            if not interrupted(disk, after, config):
                return
            oracle.crash(power=True)
            disk.power_cut(mode)
            judge(disk, oracle, rig, f"recovery cut at {after}")


def test_published_without_images() -> None:
    published_without_images("")
    with pytest.raises(Violation):
        published_without_images("no_recovery_sync")


def test_the_note_of_a_failed_sync_comes_last() -> None:
    """A sync fails while the second copy of a checkpoint's superblock is under way: the note is not overwritten."""
    config = Config(size_bytes=26 << 20, cache_bytes=0, checked=False, stuck=0)
    rig = Rig(1, config)
    rig.tolerated |= {"io_write", "read_only"}
    rig.do("create", name="v", size_bytes=1 << 20)
    rig.do("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, 8192), fua=True)
    rig.start("checkpoint")
    while not rig.held:
        rig.turn()
        for io_id, kind, offset, _ in rig._watch_syncs():
            if kind == "write" and offset == BLOCK:
                rig.held.add(io_id)
            else:
                rig.perform(io_id, kind)
    rig.disk.fail("sync", forever=True)
    rig.start("snapshot", pairs=[(1, "v@s")])
    for _ in range(40):
        rig.step()
    second = rig.held.pop()
    rig.perform(second, "write")
    for _ in range(20):
        rig.step()
    copies = [rig.disk.view[slot] for slot in layout.SUPERBLOCK_SLOTS]
    newest = max(copies, key=lambda raw: number(raw, SB["sb_gen"]))
    assert number(newest, SB["flags"]) & layout.SUPERBLOCK_FLAGS["distrust"]
