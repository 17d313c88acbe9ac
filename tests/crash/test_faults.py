"""Every device request of every operation failed in turn, once and for ever; media that run out of space."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource

import pytest

from core.errors import PoolError
from tests.crash.actions import run_seed
from tests.crash.rig import Config, Rig, format_disk, open_pool
from tests.support.history import Op, Violation
from tests.support.simdisk import SimDisk

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
REFUSALS = {"io_read", "io_write", "read_only", "no_space", "aborted", "checksum"}


def scene(disk: SimDisk, mutations: str = "") -> Rig:
    """A volume with data, two snapshots, a clone and a key: something for every operation to work on."""
    rig = Rig(3, dataclasses.replace(CONFIG, mutations=mutations), disk)
    rig.random.random = lambda: 0.5                      # type: ignore[method-assign]
    rig.random.choice = lambda options: options[0]       # type: ignore[method-assign]
    rig.do("create", name="v", size_bytes=4 << 20)
    write(rig, 1, 0, 64 << 10)
    rig.do("snapshot", pairs=[(1, "v@a")])
    write(rig, 1, 4096, 4096)
    write(rig, 1, 3 << 20, 8192)
    rig.do("snapshot", pairs=[(1, "v@b")])
    rig.do("clone", source_id=2, name="c")
    rig.do("kv", changes={"k": b"before"})
    rig.do("flush")
    write(rig, 1, 8192, 4096)
    return rig


def write(rig: Rig, object_id: int, offset: int, length: int, *, fua: bool = False) -> Op:
    data = rig.oracle.make_data(object_id, offset, length)
    return rig.do("write", object_id=object_id, offset_bytes=offset, data=data, fua=fua)


OPERATIONS = {
    "create": lambda rig: rig.do("create", name="w", size_bytes=1 << 20),
    "snapshot": lambda rig: rig.do("snapshot", pairs=[(1, "v@c"), (4, "c@c")]),
    "clone": lambda rig: rig.do("clone", source_id=1, name="d"),
    "delete": lambda rig: rig.do("delete", object_id=2),
    "delete_volume": lambda rig: rig.do("delete", object_id=1),
    "revert": lambda rig: rig.do("revert", volume_id=1, snapshot_id=2, safety_name="v@safe"),
    "grow": lambda rig: rig.do("resize", object_id=1, size_bytes=8 << 20),
    "shrink": lambda rig: rig.do("resize", object_id=1, size_bytes=8 << 10),
    "rename": lambda rig: rig.do("rename", object_id=4, name="e"),
    "set": lambda rig: rig.do("set", object_id=4, props=b"{}"),
    "kv": lambda rig: rig.do("kv", changes={"k": b"after" * 200, "l": b"new"}),
    "flush": lambda rig: rig.do("flush"),
    "checkpoint": lambda rig: rig.do("checkpoint"),
    "write": lambda rig: write(rig, 1, 0, 16 << 10),
    "write_part": lambda rig: write(rig, 1, 512, 1024),
    "write_fua": lambda rig: write(rig, 4, 4096, 8192, fua=True),
    "write_atomic": lambda rig: rig.do("write_atomic", object_id=1, offset_bytes=512, fua=True,
                                       data=rig.oracle.make_data(1, 512, 16 << 10)),
    "unmap": lambda rig: rig.do("unmap", object_id=1, offset_bytes=512, length_bytes=12 << 10, fua=True),
    "share": lambda rig: rig.do("share", dst_id=4, dst_offset_bytes=0, src_id=1, src_offset_bytes=8192,
                                length_bytes=4096),
}


@pytest.fixture(scope="module")
def template() -> SimDisk:
    return format_disk(CONFIG)


def attempt(template: SimDisk, name: str, kind: str, after: int, forever: bool, power: bool) -> bool:
    """One operation with one failure. False: the failure was never reached."""
    rig = scene(template.fork(after + 1))
    rig.tolerated |= REFUSALS
    fault = rig.disk.fail(kind, after, forever=forever)
    try:
        op = OPERATIONS[name](rig)
        if not fault.hits:
            return False
        if op.kind == "flush" and op.ok and fault.hits and kind == "sync":
            raise Violation("a flush was acknowledged although its sync failed")
        probe(rig)
        rig.settle()
        rig.crash(power=power)
        rig.disk.heal()
        rig.config = CONFIG
        rig.reopen()
        rig.check(rig.disk)
        write(rig, max(m.id for m in rig.volumes()), 0, 4096)
        rig.verify()
    except (Violation, PoolError, AssertionError) as error:
        raise Violation(f"{name} with {kind} {after} failing {'for ever' if forever else 'once'}, "
                        f"{'power cut' if power else 'kill'}: {error}\n{rig.story()}") from error
    finally:
        if rig.pool:
            rig.pool.abandon()
    return True


def probe(rig: Rig) -> None:
    """After a failure: what is read is right or refused, what is flushed is flushed or refused, nothing hangs."""
    for model in list(rig.oracle.objects.values()):
        if not model.deleting:
            rig.do("read", object_id=model.id, offset_bytes=0, length_bytes=16 << 10 if model.id != 1 else 8192)
    rig.do("flush")


@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_request_failed(template: SimDisk, name: str, forever: bool, crash_full: bool) -> None:
    for kind in ("write", "sync", "read", "any") if crash_full else ("write", "sync"):
        for after in range(200):
            power = (after % 2 == 0) != forever
            if not attempt(template, name, kind, after, forever, power):
                break
            if crash_full:
                attempt(template, name, kind, after, forever, not power)


def test_failed_sync_is_final(template: SimDisk) -> None:
    """After a failed sync nothing is acknowledged as durable any more, although the next sync would succeed."""
    rig = scene(template.fork(5))
    rig.tolerated |= REFUSALS
    rig.disk.fail("sync")
    assert not rig.do("flush").ok
    assert not rig.do("flush").ok
    assert not write(rig, 1, 0, 4096, fua=True).ok
    assert not rig.do("snapshot", pairs=[(1, "v@late")]).ok
    assert rig.do("read", object_id=2, offset_bytes=0, length_bytes=4096).ok
    rig.crash(power=True)
    rig.reopen()
    assert rig.do("flush").ok


def test_medium_out_of_space(template: SimDisk) -> None:
    """A thin medium that has no room: writes fail, nothing that was durable is lost, and it goes on when there is room."""
    rig = scene(template.fork(6))
    rig.tolerated |= REFUSALS
    for after in range(12):
        rig.disk.fail("write", after, error=errno.ENOSPC, forever=True)
        write(rig, 1, 1 << 20, 64 << 10)
        rig.do("flush")
        rig.crash(power=after % 2 == 0)
        rig.reopen()
    rig.check(rig.disk)


def test_close_on_a_dying_disk(template: SimDisk) -> None:
    """A close that fails says so, and what was flushed is there afterwards."""
    for after in range(40):
        rig = scene(template.fork(after))
        rig.disk.fail("write" if after % 2 else "sync", after // 2, forever=True)
        failed = False
        try:
            rig.pool.close()
        except PoolError:
            failed = True
        rig.pool = None
        if not failed and rig.disk.faults[0].hits:
            raise Violation(f"close succeeded although request {after} of it failed")
        rig._lost(power=True)
        rig.disk.heal()
        rig.reopen()
        rig.pool.abandon()


def test_failed_sync_then_kill_then_power_cut(template: SimDisk) -> None:
    """What a failed sync dropped is still seen in the page cache: the next open must not build on it."""
    for seed in range(8):
        rig = scene(template.fork(seed))
        rig.tolerated |= REFUSALS
        rig.disk.fail("sync")
        assert not write(rig, 1, 1 << 20, 64 << 10, fua=True).ok
        rig.crash(power=False, survive_sync=True)
        rig.reopen()
        rig.do("flush")
        rig.crash(power=True, mode="none")
        rig.reopen()


def killed_before_a_failed_sync_is_noted(template: SimDisk, mutations: str = "", writes: int = 1) -> None:
    """`writes` to places of their own become records of one frame."""
    for seed in range(4):
        rig = scene(template.fork(seed), mutations)
        rig.do("flush")
        ops = [rig.start("write", object_id=1, offset_bytes=(n + 1) << 19, data=rig.oracle.make_data(1, (n + 1) << 19, 64 << 10))
               for n in range(writes)]
        for io_id, kind, _, _ in rig._watch_syncs():
            rig.perform(io_id, kind)
        for op in ops:
            rig.settle(op)
        rig.start("flush")
        rig.turn()
        rig.disk.fail("sync")
        with contextlib.suppress(OSError):
            rig.disk.sync()
        rig.disk.heal()
        rig.pool.abandon()
        rig.pool = None
        rig._lost(power=False)
        rig.oracle.sync_failed = False
        rig.reopen()
        rig.do("flush")
        rig.crash(power=True, mode="none")
        rig.reopen()


def test_killed_before_a_failed_sync_is_noted(template: SimDisk) -> None:
    """As above, but nobody could note the failure: new blocks that the journal speaks of are written again by the next open."""
    killed_before_a_failed_sync_is_noted(template)
    with pytest.raises(Violation):
        killed_before_a_failed_sync_is_noted(template, "no_rewrite")


def test_all_records_of_a_frame_are_written_again(template: SimDisk) -> None:
    killed_before_a_failed_sync_is_noted(template, writes=3)
    with pytest.raises(Violation):
        killed_before_a_failed_sync_is_noted(template, "first_record", writes=3)


def test_lives_on_a_failing_disk(first_seed: int, seed_count: int) -> None:
    """Seeded lives in which the disk fails now and then, once or for ever; after a failed sync the power goes too."""
    config = Config(faults=True, journal_blocks=128)
    for seed in range(first_seed, first_seed + (seed_count or 6)):
        run_seed(seed, config, steps=400)


def test_a_write_that_meets_a_failed_pool_ends(template: SimDisk) -> None:
    """It waits for a page meanwhile; the block that it would like best is taken, and must not be tried for ever."""
    rig = scene(template.fork(1))
    rig.do("checkpoint")
    rig.pool.close()
    child = os.fork()
    if child == 0:                                       # what would go on for ever takes memory as it goes
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        os._exit(waits_for_a_page(rig.disk))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def waits_for_a_page(disk: SimDisk) -> int:
    """0 when the write was refused."""
    pool = open_pool(disk, CONFIG)
    late = pool.start("write", object_id=1, offset_bytes=4096, data=b"x" * 4096)
    pool.turn(0)
    held = {io_id for io_id, *_ in pool.pending_io()}
    assert held
    disk.fail("sync")
    failing = pool.start("kv", changes={"z": b"z"})
    codes: dict[int, str] = {}
    for now in range(1, 200):
        pool.turn(now)
        for io_id, *_ in pool.pending_io():
            if io_id not in held or failing in codes:
                pool.perform(io_id)
        codes |= {done.token: done.code for done in pool.reap()}
    return int(codes != {failing: "io_write", late: "read_only"})
