"""Crashes during recovery, at every device request of it, and during the recovery from that."""

from __future__ import annotations

import pickle
import random

import pytest

from core.errors import PoolError
from tests.crash.actions import ACTIONS, create
from tests.crash.rig import Config, Rig, open_pool
from tests.support.oracle import Oracle, Violation
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


def interrupted(disk: SimDisk, after: int) -> bool:
    """Recovery on `disk`, cut at a request. False: it finished before that."""
    disk.cut_after(after)
    try:
        pool = open_pool(disk, CONFIG)
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
