"""Wider lives: huge sparse volumes, time that passes, thin media, full pools, much sharing, groups; FUA by rule, not by luck."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.crash import knots, wide
from tests.crash.actions import Action, run_seed
from tests.crash.rig import Config, Rig
from tests.support.history import Op, Violation

GIB, TIB = 1 << 30, 1 << 40
STREAMS = Config(size_bytes=80 << 20, volume_bytes=2 << 20, sizes=(2 << 20, 2 << 20, 4 << 20), hot_bytes=2 << 20, max_objects=5,
                 checksums=0.1)
ORDERED = replace(STREAMS, size_bytes=128 << 20, sizes=(2 << 20, 4 << 20), max_objects=4, gap_bytes=32 << 10)

# "vast": every level of the map there is, all borders of nodes, resizes across them; "shared leaves":
# where all objects have sparse leaves; "slow": idle stretches, so that what is
# done by the clock (commits, seals, checkpoints) meets crashes; "thin": the medium runs out of space at any write and has some
# again later; "sparse": the same with a file, which must not mind; "full": no space most of the time, reservations and quotas,
# growth; "mixed": all kinds of writes over the same
# shared blocks; "two queues": as two reactors, of which one sleeps until it is woken; "groups": snapshots of several volumes and
# reverts while writes to them are under way; "knots": comparisons and atomic writes amid UNMAPs over hundreds of leaves, copies,
# reverts and snapshots, judged by serial order; "streams": long writes over what lies scattered, and moves of it; "thin
# streams": where the medium may have no room for that; "ordered": reads over gaps, and the engine moves regions by itself.
SETTINGS: dict[str, tuple[Config, dict[Action, int], int]] = {
    "vast": (Config(size_bytes=48 << 20, cache_bytes=0, hot_bytes=256 << 10, volume_bytes=GIB,
                    sizes=(64 << 10, 4 << 20, 8 << 20, GIB, GIB + 4096, 3 * GIB, 512 * GIB, 512 * GIB + 4096, 3 * TIB,
                           600 * TIB)),
             wide.VAST, 1),
    "vast, shared leaves": (Config(size_bytes=48 << 20, cache_bytes=0, hot_bytes=256 << 10, volume_bytes=GIB,
                                   mutations="all_wide", sizes=(4 << 20, 8 << 20, GIB, GIB + 4096, 512 * GIB + 4096)),
                            wide.VAST, 2),
    "slow": (Config(), wide.SLOW, 2),
    "slow ring": (Config(journal_blocks=96, cache_bytes=0), wide.SLOW, 2),
    "thin": (Config(thin_pages=60, hot_bytes=1 << 20), wide.THIN, 4),
    "sparse": (Config(thin_pages=30, hot_bytes=1 << 20, sparse=True), wide.THIN, 8),
    "device": (Config(thin_pages=30, hot_bytes=1 << 20, sparse=True, device=True), wide.THIN, 4),
    "full": (Config(size_bytes=26 << 20, cache_bytes=0, filler_bytes=3 << 20, volume_bytes=4 << 20, hot_bytes=2 << 20,
                    max_objects=8), wide.FULL, 1),
    "mixed": (Config(hot_bytes=24 << 10, max_inflight=8, parts=0.3, volume_bytes=256 << 10), wide.MIXED, 4),
    "two queues": (Config(journal_blocks=96, cache_bytes=0, queues=2), wide.SLOW, 4),
    "groups": (Config(hot_bytes=32 << 10, max_inflight=8, volume_bytes=1 << 20, max_objects=24, stuck=0.2), wide.GROUPS, 3),
    "streams": (STREAMS, wide.STREAMS, 1),
    "thin streams": (replace(STREAMS, thin_pages=300, sparse=True), {**wide.STREAMS, wide.thin_out: 6}, 1),
    "ordered": (ORDERED, wide.ORDERED, 1),
    "ordered, two queues": (replace(ORDERED, queues=2), wide.ORDERED, 1),
    "knots": (knots.CONFIG, knots.EVERYTHING, 4),
    "knots, shared leaves": (replace(knots.CONFIG, mutations="all_wide"), knots.EVERYTHING, 2),
    "mixed, shared leaves": (Config(hot_bytes=24 << 10, max_inflight=8, parts=0.3, volume_bytes=256 << 10, mutations="all_wide"),
                             wide.MIXED, 2),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_wider_lives(name: str, first_seed: int, seed_count: int) -> None:
    config, weights, quick = SETTINGS[name]
    crashes = 0
    for seed in range(first_seed, first_seed + (seed_count or quick)):
        crashes += run_seed(seed, config, weights=weights).crashes
    assert crashes > 0


def test_fua_is_judged_without_a_crash() -> None:
    """What FUA wrote is on stable storage, and the way to it, when it is answered: by rule. A plain write is not."""
    rig = Rig(1)
    rig.do("create", name="v", size_bytes=1 << 20)
    plain = write(rig, fua=False)
    with pytest.raises(Violation, match="answered before its data"):
        rig.judge_stable(plain)
    rig.disk.sync()                           # data and frame, but no frame that calls it hard
    with pytest.raises(Violation, match="answered before journal frame"):
        rig.judge_stable(plain)
    assert rig.do("flush").ok
    rig.judge_stable(plain)
    with pytest.raises(Violation, match="answered before its data"):
        rig.judge_stable(write(rig, fua=False))           # in place: no record
    assert write(rig, fua=True).ok


def write(rig: Rig, *, fua: bool) -> Op:
    return rig.do("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, 4096), fua=fua)


def test_a_checkpoint_comes_by_the_clock() -> None:
    """Half a minute after the first change at the latest, though nobody asks and nothing else needs it."""
    rig = Rig(1)
    rig.do("create", name="v", size_bytes=1 << 20)
    rig.do("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, 4096))
    before, started = rig.pool.stats()["checkpoints"], rig.now_us
    while rig.now_us < started + 29_000_000:
        if not rig.step():
            break
    assert rig.pool.stats()["checkpoints"] == before
    while rig.step() and rig.now_us < started + 40_000_000:
        pass
    assert rig.pool.stats()["checkpoints"] == before + 1
    assert rig.now_us < started + 40_000_000, "it ends, and then nothing is due"
    rig.crash(power=True)
    rig.reopen()


def test_a_checkpoint_hears_of_its_sync_from_the_other_queue() -> None:
    """The sync that it waits for was begun by a reactor that had just finished another: home sleeps, and is woken."""
    rig = Rig(1, Config(queues=2))
    rig.do("create", name="v", size_bytes=1 << 20)
    write(rig, fua=False)
    pool = rig.pool
    while not rig.tokens or not max(rig.tokens) & 1:
        rig.settle()
        rig.start("flush")

    def perform(kind: str) -> bool:
        found = [io_id for io_id, what, _, _ in rig._watch_syncs() if (what == "sync") == (kind == "sync")]
        for io_id in found:
            rig.perform(io_id, kind)
        return bool(found)

    pool.turn(rig.clock(), 1)                 # the flush's sync is under way there
    rig.start("checkpoint")
    while pool.turn(rig.clock(), 0) == 0 or perform("write"):
        pass
    assert perform("sync")
    pool.turn(rig.clock(), 1)
    perform("write")                          # what makes the flush's records hard
    pool.turn(rig.clock(), 1)                 # begins the checkpoint's sync
    pool.turn(rig.clock(), 0)
    assert perform("sync")
    assert pool.woken() == [1]
    pool.turn(rig.clock(), 1)
    assert 0 in pool.woken()
    rig.settle()
