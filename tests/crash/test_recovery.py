"""Crashes during recovery, at every device request of it, and during the recovery from that."""

from __future__ import annotations

import dataclasses
import pickle
import random

import pytest

from core import layout
from core.errors import PoolError
from core.pool.engine import Pool
from tests.crash.actions import ACTIONS, create
from tests.crash.rig import BLOCK, Config, Rig, open_pool
from tests.support.history import Violation
from tests.support.oracle import Oracle
from tests.support.simdisk import SimDisk

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)


def crashed(seed: int, *, power: bool, steps: int = 120) -> Rig:
    """A pool that has lived a little and then stopped."""
    rig = Rig(seed, CONFIG)
    rig.settle(create(rig))
    for _ in range(steps):
        if len(rig.tokens) < 4 and rig.random.random() < 0.5:
            rig.random.choices(list(ACTIONS), list(ACTIONS.values()))[0](rig)
        else:
            rig.step()
    rig.crash(power=power)
    return rig


def interrupted(disk: SimDisk, after: int, config: Config = CONFIG) -> bool:
    """Recovery on `disk`, cut at a request. False: it finished before that."""
    disk.cut_after(after)
    try:
        pool = open_pool(disk, config)
    except PoolError:
        if not disk.dead:
            raise
        return True
    pool.abandon()
    return False


def survive(disk: SimDisk, oracle: Oracle, *, power: bool) -> None:
    oracle.crash(power=power)
    if power:
        disk.power_cut()
    else:
        disk.process_kill()


def judge(disk: SimDisk, oracle: Oracle, rig: Rig, what: str) -> None:
    try:
        pool = open_pool(disk, CONFIG)
        try:
            oracle.reconcile(pool)
            pool.close()
        finally:
            pool.abandon()
        rig.check(disk)
    except (Violation, PoolError) as error:
        raise Violation(f"{what}: {error}\n{rig.story()}") from error


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
def test_recovery_interrupted_anywhere(power: bool, crash_full: bool, first_seed: int) -> None:
    """Every request of a recovery is the last one, and so is, after each of those, one of the next recovery."""
    dice = random.Random(first_seed)
    for seed in range(first_seed, first_seed + (20 if crash_full else 2)):
        rig = crashed(seed, power=power)
        frozen = pickle.dumps(rig.oracle)
        after = 0
        while True:
            disk = rig.disk.fork(dice.randrange(1 << 30))
            oracle: Oracle = pickle.loads(frozen)
            if not interrupted(disk, after):
                break
            survive(disk, oracle, power=dice.random() < 0.6)
            seconds = range(200) if crash_full else dice.sample(range(40), 2)
            for second in seconds:
                again, twice = disk.fork(dice.randrange(1 << 30)), pickle.loads(pickle.dumps(oracle))
                stopped = interrupted(again, second)
                survive(again, twice, power=dice.random() < 0.6)
                judge(again, twice, rig, f"recovery cut at {after}, then at {second}")
                if not stopped:
                    break
            judge(disk, oracle, rig, f"recovery cut at {after}")
            after += 1
        assert after > 5


def unsynced_copies(disk: SimDisk) -> set[int]:
    """The copies of the superblock that lie in the page cache only."""
    return {item.offset_bytes // BLOCK for item in disk.unsynced if item.offset_bytes < len(layout.SUPERBLOCK_SLOTS) * BLOCK}


def killed_while_publishing(mutations: str, *, sync_failed: bool = False) -> None:
    """Killed when a checkpoint's superblock was written and not synced, or its sync had failed and the process could not say so;
    then the power goes at each request of the recovery.
    """
    config = dataclasses.replace(CONFIG, mutations=mutations)
    rig = Rig(1, config)

    def fill(object_id: int, offset: int) -> None:
        for at in range(offset, 8 << 20, 2 << 20):
            rig.do("write", object_id=object_id, offset_bytes=at, data=rig.oracle.make_data(object_id, at, 4096), fua=True)

    # The checkpoint before the last one is about other pages: it would not put right what the last one's recovery wrote.
    for object_id, name in ((1, "v"), (2, "w")):
        rig.do("create", name=name, size_bytes=8 << 20)
        fill(object_id, 0)
        rig.do("checkpoint")
    fill(1, 8192)
    rig.start("checkpoint")
    for _ in range(200):
        if unsynced_copies(rig.disk):
            break
        rig.turn()
        for io_id, kind, _, _ in rig._watch_syncs()[:1]:
            rig.perform(io_id, kind)
    else:
        pytest.fail("no superblock was written")
    if sync_failed:
        rig.disk.unsynced = []        # all is seen, nothing of it will ever be written
    rig.pool.abandon()
    rig.oracle.crash(power=False)
    rig.disk.process_kill()
    for after in range(60):
        for seed in range(5):
            disk, oracle = rig.disk.fork(100 * after + seed), pickle.loads(pickle.dumps(rig.oracle))
            if not interrupted(disk, after, config):
                return
            oracle.crash(power=True)
            disk.power_cut(("random", "writes", "suffix")[seed % 3])
            judge(disk, oracle, rig, f"recovery cut at {after}")


def test_a_superblock_that_only_the_page_cache_has() -> None:
    """Recovery makes it durable before it writes anything home."""
    killed_while_publishing("")
    with pytest.raises(Violation):
        killed_while_publishing("no_recovery_sync")


def test_two_intervals_fit_one_checkpoint() -> None:
    """Killed while a checkpoint writes its images and writers go on: recovery must publish what both have made dirty."""
    config = dataclasses.replace(CONFIG, size_bytes=64 << 20, cache_bytes=64 << 20, area_blocks=128, journal_blocks=512)
    rig = Rig(1, config)
    rig.do("create", name="v", size_bytes=1 << 40)
    area = range(2560 + 512, 2560 + 512 + 256)
    written: dict[int, bytes] = {}
    for n in range(150):
        at = n * (2 << 20)
        data = rig.oracle.make_data(1, at, 4096)
        op = rig.start("write", object_id=1, offset_bytes=at, data=data)
        for _ in range(40):
            rig.held = {io_id for io_id, kind, offset, _ in rig.pool.pending_io() if kind == "write" and offset // BLOCK in area}
            rig.step()
        if not op.ok:
            break                 # held back: as it should be, before it is too much
        written[at] = data
    assert rig.held
    rig.crash(power=False)
    pool = open_pool(rig.disk, config)
    for at, data in written.items():
        assert pool.call("read", object_id=1, offset_bytes=at, length_bytes=4096) == data
    pool.close()
    rig.check(rig.disk)


def test_recovery_is_repeatable(first_seed: int) -> None:
    """Recovering twice gives what recovering once gave."""
    for seed in range(first_seed, first_seed + 5):
        rig = crashed(seed, power=True)
        once = _contents(rig.disk.fork(1))
        disk = rig.disk.fork(1)
        open_pool(disk, CONFIG).abandon()
        assert _contents(disk) == once


def _contents(disk: SimDisk) -> dict[str, bytes]:
    pool = open_pool(disk, CONFIG)
    found = {}
    for info in pool.objects():
        found[info.name] = b"".join(
            pool.call("read", object_id=info.id, offset_bytes=at, length_bytes=min(1 << 20, info.size_bytes - at))
            for at in range(0, info.size_bytes, 1 << 20))
    pool.abandon()
    return found


def closed_and_cut(mutations: str) -> None:
    """The power goes at each request of a close, or after it, whatever of it reaches the medium."""
    for seed in range(2):
        after = 0
        while True:
            rig = Rig(seed, dataclasses.replace(CONFIG, mutations=mutations))
            rig.do("create", name="v", size_bytes=8 << 20)
            for at in range(0, 8 << 20, 1 << 20):
                rig.do("write", object_id=1, offset_bytes=at, data=rig.oracle.make_data(1, at, 4096))
            rig.do("flush")
            rig.do("kv", changes={"k": b"v" * 900})
            rig.disk.cut_after(after)
            try:
                rig.pool.close()
            except PoolError:
                if not rig.disk.dead:
                    raise
            else:
                rig.oracle.flushed = rig.oracle.tick()
            stopped = rig.disk.dead
            for mode in ("none", "random", "writes", "suffix", "all"):
                disk, oracle = rig.disk.fork(after), pickle.loads(pickle.dumps(rig.oracle))
                oracle.crash(power=True)
                disk.power_cut(mode)
                judge(disk, oracle, rig, f"close cut at {after}, {mode}")
            after += 1
            if not stopped:
                break
        assert after > 8


def test_close_interrupted_anywhere() -> None:
    closed_and_cut("")
    with pytest.raises(Violation):
        closed_and_cut("no_home_sync")


def test_create_interrupted_anywhere() -> None:
    """A pool that is being made is none, or an empty one, also where another one was before."""
    other = crashed(7, power=False).disk
    for used in (False, True):
        for after in range(60):
            for mode in ("none", "random", "suffix", "all"):
                disk = other.fork(after) if used else SimDisk(CONFIG.size_bytes, after)
                disk.cut_after(after)
                try:
                    Pool.create(disk, name="new")
                except OSError:
                    pass
                else:
                    disk.power_cut("none")
                    pool = open_pool(disk, CONFIG)
                    assert pool.objects() == []
                    pool.close()
                    break
                disk.power_cut(mode)
                try:
                    pool = open_pool(disk, CONFIG)
                except PoolError:
                    continue
                assert used or pool.objects() == []
                pool.abandon()
            else:
                continue
            break
        assert after > 3
