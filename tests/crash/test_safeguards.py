"""Safeguards whose absence random lives seldom show: for each the sequence that fails without it."""

from __future__ import annotations

from typing import Any

import pytest

from core.check import check
from tests.crash.rig import BLOCK, Config, Rig, open_pool
from tests.crash.test_bounds import LEAF, scattered
from tests.crash.test_superblock import garbled
from tests.support.history import Op

CONFIG = Config(checked=False, stuck=0)


def furnished(*names: str, config: Config = CONFIG) -> Rig:
    """A quiet pool with volumes of 1 MiB, one block written in each, all of it durable, no request out of order by itself."""
    rig = Rig(1, config)
    for number, name in enumerate(names or ("v",), 1):
        rig.do("create", name=name, size_bytes=1 << 20)
        rig.settle(write(rig, 0, object_id=number))
    rig.do("flush")
    quiesce(rig)
    return rig


def write(rig: Rig, offset: int, length: int = BLOCK, *, object_id: int = 1, fua: bool = False) -> Op:
    data = rig.oracle.make_data(object_id, offset, length)
    return rig.start("write", object_id=object_id, offset_bytes=offset, data=data, fua=fua)


def quiesce(rig: Rig) -> None:
    for _ in range(200):
        if not rig.pool.pending_io() and rig.turn():
            return
        perform(rig)


def perform(rig: Rig, *kinds: str) -> None:
    """Perform what is pending of these kinds (of any, when none is named), oldest first, and take note of it."""
    rig.turn()
    for io_id, kind, *_ in rig._watch_syncs():
        if (not kinds or kind in kinds) and io_id not in rig.held:
            rig.perform(io_id, kind)
            rig._watch_syncs()
    rig.turn()
    rig._watch_syncs()


def hold_sync(rig: Rig) -> int:
    """The sync under way, which lasts until it is let go."""
    rig.turn()
    syncs = [io_id for io_id, kind, *_ in rig._watch_syncs() if kind == "sync"]
    assert len(syncs) == 1
    rig.held.add(syncs[0])
    return syncs[0]


def until(rig: Rig, op: Op) -> None:
    """Perform what comes, but not what is held, until an operation is answered."""
    for _ in range(50):
        if op not in rig.oracle.inflight:
            return
        perform(rig)
    raise AssertionError(f"{op} is not answered")


def peek(rig: Rig, object_id: int) -> bytes:
    """The first block of an object, read with nothing but reads performed."""
    token = rig.pool.start("read", object_id=object_id, offset_bytes=0, length_bytes=BLOCK)
    for _ in range(50):
        rig.pool.turn(rig.now_us)
        for io_id, kind, *_ in rig.pool.pending_io():
            if kind == "read":
                rig.perform(io_id, kind)
        for done in rig.pool.reap():
            if done.token == token:
                return bytes(done.value)
    raise AssertionError("the read is not answered")


def cut(rig: Rig) -> None:
    """The power fails and takes along all that it can. What remains must be allowed."""
    rig.disk.judge()
    rig.pool.abandon()
    rig.pool = None
    rig._lost(power=True, mode="none")
    rig.reopen()


def test_fua_in_place_waits_for_a_sync() -> None:
    """Its block is mapped already and no record is waited for: the sync is all that makes it durable."""
    rig = furnished()
    rig.settle(write(rig, 0, fua=True))
    cut(rig)


def test_a_sync_proves_only_records_closed_before_it() -> None:
    """A block is written and its frame closed while a sync lasts: the marker that follows this sync must not cover it."""
    rig = furnished()
    write(rig, BLOCK)
    perform(rig, "write")
    perform(rig, "write")
    flush = rig.start("flush")
    late = hold_sync(rig)
    before = rig.disk.writes
    second = write(rig, 2 * BLOCK)
    until(rig, second)
    sure = rig.disk.durable_superblock()
    data = {item.number for item in rig.disk.unsynced if item.number > before and item.offset_bytes // BLOCK not in sure.journal}
    assert len(data) == 1
    rig.held.clear()
    rig.perform(late, "sync")
    for _ in range(6):                                   # the marker, not the sync after it
        perform(rig, "write")
    assert flush in rig.oracle.inflight
    rig.disk.unsynced = [item for item in rig.disk.unsynced if item.number not in data]
    rig.pool.abandon()
    rig.pool = None
    rig._lost(power=True, mode="all")
    rig.reopen()


def test_a_marker_counts_when_it_was_written_before_the_sync() -> None:
    """A frame that carries a marker is written while a sync lasts: this sync does not make the marker durable."""
    rig = furnished()

    def soft(number: int) -> None:
        until(rig, write(rig, number * BLOCK))

    def let_go(late: int) -> None:
        rig.held.discard(late)
        rig.perform(late, "sync")
        rig.turn()
        rig._watch_syncs()

    soft(1)
    first = rig.start("flush")
    late = hold_sync(rig)                                # will prove the data of 1
    soft(2)
    let_go(late)
    perform(rig, "write")                                # the marker of 1
    late = hold_sync(rig)                                # will prove the data of 2, and make 1 hard
    second = rig.start("flush")                          # waits for 2 to be hard
    soft(3)
    rig.start("flush")                                   # waits for 3 to be hard: so the next sync comes before a marker of 2
    let_go(late)
    assert first not in rig.oracle.inflight
    late = hold_sync(rig)                                # will prove the data of 3
    soft(4)                                              # its frame is the marker of 2
    let_go(late)
    assert second in rig.oracle.inflight
    cut(rig)


def test_what_became_shared_is_not_written_in_place() -> None:
    """A block known to be its volume's own is shared with another one."""
    rig = furnished("v", "w")
    rig.settle(write(rig, 0))                            # in place: now it is known
    rig.do("share", dst_id=2, dst_offset_bytes=0, src_id=1, src_offset_bytes=0, length_bytes=BLOCK)
    quiesce(rig)
    rig.settle(write(rig, 0))
    rig.verify()


def test_a_block_waits_for_its_discard() -> None:
    """Discards that take very long, of blocks that others want."""
    rig = furnished("v", "w", config=Config(size_bytes=26 << 20, cache_bytes=0, checked=False, stuck=0))
    rig.do("resize", object_id=2, size_bytes=16 << 20)
    until(rig, write(rig, 64 << 10, 64 << 10))
    rig.do("flush")
    freeing = rig.start("unmap", object_id=1, offset_bytes=64 << 10, length_bytes=64 << 10, fua=True)
    until(rig, freeing)
    for _ in range(100):
        for io_id, kind, *_ in rig.pool.pending_io():
            if kind == "discard":
                rig.held.add(io_id)
        perform(rig)
        if rig.held:
            break
    assert rig.held
    for offset in range(64 << 10, 15 << 20, 64 << 10):
        op = write(rig, offset, 64 << 10, object_id=2)
        until(rig, op)
        if not op.ok:
            break
    for io_id in list(rig.held):
        rig.held.discard(io_id)
        rig.perform(io_id, "discard")
    rig.settle()
    rig.verify()


def test_a_snapshot_is_durable_with_what_was_under_way() -> None:
    """Its record is hard when a write in place, planned before, completes: what the snapshot then shows needs a sync more."""
    rig = furnished()
    late = write(rig, 0)
    rig.turn()
    rig.held = {io_id for io_id, kind, *_ in rig._watch_syncs() if kind == "write"}
    assert len(rig.held) == 1
    taken = rig.start("snapshot", pairs=[(1, "v@s")])
    rig.turn()
    until(rig, rig.start("flush"))
    assert {late, taken} <= set(rig.oracle.inflight)
    rig.held.clear()
    until(rig, taken)
    shown = peek(rig, 2)
    cut(rig)
    assert rig.pool.call("read", object_id=2, offset_bytes=0, length_bytes=BLOCK) == shown


def test_a_page_stays_in_memory_until_it_is_home() -> None:
    """Pages that a checkpoint is writing are clean, and not yet where a miss would read them."""
    disk, pool = scattered(Config(size_bytes=2 << 30, cache_bytes=0, area_blocks=128), 400)
    for leaf in range(20):
        pool.call("write", object_id=1, offset_bytes=leaf * LEAF + 20 * BLOCK, data=b"y" * BLOCK)
    sure = disk.durable_superblock()
    held: set[int] = set()
    pool.start("checkpoint")
    now = 10**9

    def turn() -> list[Any]:
        nonlocal now
        now += 10
        pool.turn(now)
        for io_id, kind, offset, _ in pool.pending_io():
            block = offset // BLOCK
            if kind == "write" and block > 1 and block not in sure.area and block not in sure.journal:
                held.add(io_id)
            elif io_id not in held:
                pool.perform(io_id)
        return list(pool.reap())

    def read(leaf: int, block: int) -> bytes:
        token = pool.start("read", object_id=1, offset_bytes=leaf * LEAF + block * BLOCK, length_bytes=BLOCK)
        for _ in range(100):
            for done in turn():
                if done.token == token:
                    assert done.code == "ok"
                    return bytes(done.value)
        raise AssertionError("the read is not answered")

    while not held:
        turn()
    for leaf in [*range(20, 400)] * 2:                   # more leaves than the cache holds
        assert read(leaf, 0) == b"x" * BLOCK
    for leaf in range(20):
        assert read(leaf, 20) == b"y" * BLOCK
    pool.drain()
    pool.close()


def test_a_checkpoint_ends_when_its_second_copy_is_sure() -> None:
    """The last sync of a checkpoint fails, and that is noted: not in copy 0, the only superblock that is durable then."""
    rig = furnished()
    rig.tolerated |= {"io_write", "read_only"}
    until(rig, write(rig, 2 * BLOCK))
    rig.start("checkpoint")
    while not any(item.offset_bytes == BLOCK for item in rig.disk.unsynced):
        perform(rig)
    rig.turn()
    assert [kind for _, kind, *_ in rig._watch_syncs()] == ["sync"]
    rig.disk.unsynced = [item for item in rig.disk.unsynced if item.offset_bytes != BLOCK]
    rig.disk.sync()                                      # of what the sync fails to cover all survives, but the second copy
    rig.disk.fail("sync")
    perform(rig, "sync")
    noted = [(io_id, kind) for io_id, kind, offset, _ in rig._watch_syncs() if kind == "write" and offset < 2 * BLOCK]
    assert len(noted) == 1
    rig.perform(*noted[0])
    rig.pool.abandon()
    rig.pool = None
    garbled(rig, rig.disk)                               # the power fails while it is written
    rig.tolerated = {"no_space"}
    rig._lost(power=True)
    rig.reopen()


def test_the_journal_keeps_what_recovery_needs() -> None:
    """A checkpoint is slow, and more is recorded meanwhile than the ring holds: what was there waits for its publication."""
    rig = furnished(config=Config(checked=False, stuck=0, journal_blocks=512))
    big = {f"k{number}": bytes(3000) for number in range(8)}

    def record(count: int) -> None:
        for _ in range(count):
            op = rig.start("kv", changes=big)
            for _ in range(8):
                perform(rig)
                rig.held |= {io_id for io_id, _, offset, _ in rig._watch_syncs() if offset // BLOCK in area}
            if op in rig.oracle.inflight:
                return

    area: range | tuple[()] = ()
    record(20)
    area = rig.disk.durable_superblock().area
    rig.start("checkpoint")
    record(200)
    assert rig.held
    assert rig.tokens                                    # there was no room for the last
    cut(rig)


def test_a_changed_page_stays_in_memory() -> None:
    """Nothing but memory knows of it until a checkpoint writes it, however much is read meanwhile."""
    _, pool = scattered(Config(size_bytes=2 << 30, cache_bytes=0), 400)
    for leaf in range(20):
        pool.call("write", object_id=1, offset_bytes=leaf * LEAF + 20 * BLOCK, data=b"y" * BLOCK)
    before = pool.stats()["cache_evictions"]
    for leaf in [*range(20, 400)] * 2:                   # more leaves than the cache holds
        assert pool.call("read", object_id=1, offset_bytes=leaf * LEAF, length_bytes=BLOCK) == b"x" * BLOCK
    assert pool.stats()["cache_evictions"] > before + 300
    assert pool.stats()["dirty_pages"] >= 20
    for leaf in range(20):
        assert pool.call("read", object_id=1, offset_bytes=leaf * LEAF + 20 * BLOCK, length_bytes=BLOCK) == b"y" * BLOCK
    pool.close()


def test_a_page_that_is_read_keeps_its_place() -> None:
    """Pages that take very long to come, while others come and go."""
    _, pool = scattered(Config(size_bytes=2 << 30, cache_bytes=0), 400)
    for leaf in [*range(20, 400)] * 2:
        pool.call("read", object_id=1, offset_bytes=leaf * LEAF, length_bytes=BLOCK)
    late = [pool.start("read", object_id=1, offset_bytes=leaf * LEAF, length_bytes=BLOCK) for leaf in range(20)]
    pool.turn()
    held = {io_id for io_id, *_ in pool.pending_io()}
    assert len(held) == 20
    done: dict[int, Any] = {}
    for leaf in [*range(20, 400)] * 2:
        token = pool.start("read", object_id=1, offset_bytes=leaf * LEAF, length_bytes=BLOCK)
        while token not in done:
            pool.turn()
            for io_id, *_ in pool.pending_io():
                if io_id not in held:
                    pool.perform(io_id)
            done |= {item.token: item for item in pool.reap()}
    assert not done.keys() & set(late)
    pool.drain()
    done |= {item.token: item for item in pool.reap()}
    assert all(done[token].value == b"x" * BLOCK for token in late)
    pool.close()


def test_a_page_that_goes_is_in_its_checkpoint() -> None:
    """Nodes of a deleted volume are released when a checkpoint has begun and has not come to them: its list needs them."""
    config = Config(size_bytes=2 << 30)
    disk, pool = scattered(config, 60)
    for leaf in range(60):
        pool.call("write", object_id=1, offset_bytes=leaf * LEAF + BLOCK, data=b"y" * BLOCK)
    gone = pool.start("delete", object_id=1)
    while gone not in {item.token for item in pool.reap()}:
        pool.turn(1)
        for io_id, *_ in pool.pending_io():
            pool.perform(io_id)
    pool.start("checkpoint")
    sure = disk.durable_superblock().ckpt_gen
    while disk.durable_superblock().ckpt_gen == sure:
        pool.turn(1)
        for io_id, *_ in pool.pending_io():
            pool.perform(io_id)
    pool.abandon()
    disk.power_cut("none")
    pool = open_pool(disk, config)
    pool.drain()
    pool.close()
    report = check(disk)
    assert report.ok, report.errors[:3]


def test_a_freed_block_waits_for_its_own_record() -> None:
    """Neighbours are freed in one epoch by records of two frames: that the first is hard frees one of them only."""
    rig = furnished("v", "w")
    rig.settle(write(rig, BLOCK, 2 * BLOCK))
    rig.settle(write(rig, 8 * BLOCK))
    rig.do("flush")
    quiesce(rig)
    free = rig.pool.stats()["free_bytes"]

    def freed(*, kinds: tuple[str, ...]) -> int:
        for _ in range(10):
            perform(rig, *kinds)
        return int(rig.pool.stats()["free_bytes"] - free) // BLOCK

    def unmap(block: int) -> None:
        until(rig, rig.start("unmap", object_id=1, offset_bytes=block * BLOCK, length_bytes=BLOCK))

    rig.start("read", object_id=2, offset_bytes=0, length_bytes=BLOCK)
    rig.turn()
    rig.held = {io_id for io_id, kind, *_ in rig._watch_syncs() if kind == "read"}      # lasts, and with it its epoch
    assert len(rig.held) == 1
    unmap(8)                                             # the epoch goes on once, and no further
    unmap(1)
    flush = rig.start("flush")
    late = hold_sync(rig)
    unmap(2)
    rig.held.discard(late)
    rig.perform(late, "sync")
    until(rig, flush)                                    # the first two are hard, the third is not
    assert freed(kinds=()) == 0
    rig.held.clear()
    assert freed(kinds=("read", "discard")) == 2
    rig.settle()
    rig.do("flush")
    assert freed(kinds=()) == 3


@pytest.mark.parametrize("kind", ["write", "unmap"])
@pytest.mark.parametrize("held", ["read", "write"])
def test_nothing_comes_between_a_comparison_and_its_write(kind: str, held: str) -> None:
    """While the data that is compared is read, and while what replaces it is written, others wait for that range."""
    rig = furnished()
    old = b"".join(rig.oracle.bytes_of(rig.oracle.objects[1], sector) for sector in range(8))
    first = rig.start("compare_and_write", object_id=1, offset_bytes=0, expected=old, data=rig.oracle.make_data(1, 0, BLOCK))
    for _ in range(10):
        rig.turn()
        rig.held = {io_id for io_id, of, *_ in rig._watch_syncs() if of == held}
        if rig.held:
            break
        perform(rig)
    assert len(rig.held) == 1
    second = write(rig, 0) if kind == "write" else rig.start("unmap", object_id=1, offset_bytes=0, length_bytes=BLOCK)
    for _ in range(10):
        perform(rig)
    assert {first, second} <= set(rig.oracle.inflight)
    rig.held.clear()
    rig.settle()
    rig.verify()
