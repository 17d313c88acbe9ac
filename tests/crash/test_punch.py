"""Blocks that overwriting frees go back to the medium: all of them, in time, none that anybody needs, and then it is quiet."""

from __future__ import annotations

import pytest

from core import layout
from core.errors import PoolError
from tests.crash.actions import PUNCHING, run_seed
from tests.crash.rig import BLOCK, Config, Rig
from tests.support.history import FOREVER, Op, Violation

CONFIG = Config(size_bytes=48 << 20, checked=True)
PIECE = 128 << 10


class Kept:
    """Which pages of a simulated disk hold something: written, and not discarded since."""

    def __init__(self, rig: Rig) -> None:
        self.pages: set[int] = set()
        disk, write, discard = rig.disk, rig.disk.write, rig.disk.discard
        disk.random.random = lambda: 0.5    # type: ignore[method-assign]  # it ignores no discard

        def written(offset_bytes: int, data: bytes) -> None:
            self.pages |= set(range(offset_bytes // BLOCK, (offset_bytes + len(data)) // BLOCK))
            write(offset_bytes, data)

        def discarded(offset_bytes: int, length_bytes: int) -> None:
            self.pages -= set(range(offset_bytes // BLOCK, (offset_bytes + length_bytes) // BLOCK))
            discard(offset_bytes, length_bytes)

        disk.write, disk.discard = written, discarded       # type: ignore[method-assign]

    def beyond(self, first: int) -> int:
        return sum(page >= first for page in self.pages)


def write(rig: Rig, object_id: int, offset: int, length: int = PIECE) -> Op:
    return rig.start("write", object_id=object_id, offset_bytes=offset, data=rig.oracle.make_data(object_id, offset, length))


def quiet(rig: Rig) -> None:
    """Until nothing is left to do and no deadline is left to wait for."""
    for _ in range(20_000):
        if not rig.step():
            return
    raise Violation("the engine never comes to rest")


def fixed_blocks(rig: Rig) -> int:
    raw = rig.disk.view[0]
    start, blocks = (int.from_bytes(raw[f.offset:f.offset + f.size], "little") for name in ("area_start", "area_blocks")
                     for f in layout.SUPERBLOCK if f.name == name)
    return start + 2 * blocks


def used_blocks(rig: Rig) -> int:
    stats = rig.pool.stats()
    return int(stats["size_bytes"] - stats["free_bytes"]) // BLOCK - fixed_blocks(rig)


def redirecting(rig: Rig, way: str) -> None:
    """A volume of 4 MiB whose overwrites go to new blocks."""
    rig.do("create", name="v", size_bytes=4 << 20, checksum=way == "checksum")
    for offset in range(0, 4 << 20, PIECE):
        rig.settle(write(rig, 1, offset))
    if way == "shared":
        rig.do("snapshot", pairs=[(1, "v@s")])


@pytest.mark.parametrize("way", ["checksum", "shared", "atomic"])
def test_overwritten_blocks_go_back(way: str) -> None:
    """At 4 KiB grain, while the rest of their runs stays in use, and whole runs at once."""
    rig = Rig(1, CONFIG)
    kept = Kept(rig)
    redirecting(rig, way)
    if way == "shared":
        rig.do("unmap", object_id=1, offset_bytes=0, length_bytes=4 << 20)      # what the snapshot shares stays
        rig.do("revert", volume_id=1, snapshot_id=2)
        rig.settle(write(rig, 1, 0, 64 << 10))
        rig.do("flush")
        rig.start("delete", object_id=2)
    for offset in [*range(0, 1 << 20, 3 * BLOCK), *range(2 << 20, 4 << 20, PIECE)]:
        length = BLOCK if offset < 1 << 20 else PIECE
        data = rig.oracle.make_data(1, offset, length)
        rig.start("write_atomic" if way == "atomic" else "write", object_id=1, offset_bytes=offset, data=data)
        rig.settle()
    rig.do("flush")
    quiet(rig)
    rig.do("checkpoint")
    quiet(rig)
    assert rig.pool.stats()["punched_bytes"] or way == "shared"
    assert kept.beyond(fixed_blocks(rig)) <= used_blocks(rig)
    rig.verify()
    rig.crash(power=True)
    rig.reopen()


def test_only_quiet_runs_are_given_back() -> None:
    """What is freed and used again all the time is left to that."""
    rig = Rig(1, Config(size_bytes=48 << 20, punch_delay_us=1 << 40))
    redirecting(rig, "checksum")
    for round_ in range(3):
        rig.settle(write(rig, 1, round_ * PIECE))
    rig.do("flush")
    rig.pool.drain()
    assert rig.pool.stats()["punched_bytes"] == 0
    wait = rig.turn()
    assert 0 < wait < 1 << 41


def held_discards(rig: Rig) -> set[int]:
    return {io_id for io_id, kind, *_ in rig.pool.pending_io() if kind == "discard"}


def late_punch(mutations: str = "") -> None:
    """Requests to the medium that take very long, while writers look for blocks."""
    rig = Rig(1, Config(size_bytes=40 << 20, checked=False, mutations=mutations))
    rig.disk.random.random = lambda: 0.5    # type: ignore[method-assign]
    redirecting(rig, "checksum")
    rig.do("create", name="w", size_bytes=16 << 20)
    for offset in range(0, 4 << 20, 2 * PIECE):
        rig.settle(write(rig, 1, offset))
    rig.do("flush")
    for _ in range(4000):
        rig.held = held_discards(rig)
        if len(rig.held) >= 8 or not rig.step():
            break
    assert rig.held, "nothing was given back"
    for offset in range(0, 16 << 20, PIECE):
        op = write(rig, 2, offset)
        for _ in range(60):
            rig.held |= held_discards(rig)
            rig.step()
        if op.end < FOREVER and not op.ok:
            break                       # every block that may be had is taken
    rig.held = set()
    rig.settle()
    quiet(rig)
    rig.verify()
    rig.crash(power=True)
    rig.reopen()


def test_nothing_is_taken_from_what_is_being_given_back() -> None:
    late_punch()


def test_a_missing_hold_is_seen() -> None:
    with pytest.raises(Violation):
        late_punch("no_punch_hold")


def test_a_full_pool_gives_nothing_back() -> None:
    """Where space is short, freed blocks are used again: no write is refused because they are on their way to the medium."""
    rig = Rig(1, Config(size_bytes=26 << 20, cache_bytes=0))
    rig.tolerated = {"no_space"}
    rig.do("create", name="v", size_bytes=16 << 20, checksum=True)
    offset = 0
    while True:
        op = write(rig, 1, offset)
        rig.settle(op)
        if not op.ok:
            break
        offset += PIECE
    rig.do("unmap", object_id=1, offset_bytes=0, length_bytes=2 * PIECE)
    rig.do("flush")
    quiet(rig)
    for round_ in range(20):
        op = write(rig, 1, (2 + round_ % 4) * PIECE)
        rig.settle(op)
        assert op.ok, round_
        rig.do("flush")
        quiet(rig)
    assert rig.pool.stats()["punched_bytes"] == 0
    rig.verify()


def test_lives_that_overwrite(first_seed: int, seed_count: int) -> None:
    punched = 0
    for seed in range(first_seed, first_seed + (seed_count or 6)):
        rig = run_seed(seed, Config(size_bytes=40 << 20, punch_delay_us=20, stuck=0.2), weights=PUNCHING)
        punched += sum("discard" in line for _, *line, _ in rig.disk.trace.lines)
    assert punched


def allocatable(rig: Rig, pages: set[int]) -> set[int]:
    return {page for page in pages if page >= fixed_blocks(rig)}


def trimmed(rig: Rig) -> None:
    """A trim from beginning to end, in the rig's time."""
    cursor: int | None = 0
    while cursor is not None:
        token = rig.pool.start("trim", cursor=cursor, limit=3)
        while (done := rig.pool.take(token)) is None:
            rig.now_us += 100
            rig.pool.turn(rig.now_us)
            for io_id, kind, _, _ in rig._watch_syncs():
                rig.perform(io_id, kind)
        cursor, _ = done.value


@pytest.mark.parametrize("end", ["close", "kill", "power"])
def test_trim_finds_what_the_marks_forgot(end: str) -> None:
    """Freed, and the pool ended before it was given back: a trim finds it again, and gives nothing back that is in use."""
    rig = Rig(7, CONFIG)
    kept = Kept(rig)
    redirecting(rig, "shared")
    for offset in range(0, 4 << 20, PIECE):
        rig.settle(write(rig, 1, offset))
    rig.do("delete", object_id=2)
    rig.do("flush")
    if end == "close":
        rig.pool.close()
        rig.after_close(power=False)
    else:
        rig.crash(power=end == "power", mode="all")
        rig.reopen()
    quiet(rig)
    left = len(allocatable(rig, kept.pages)) - used_blocks(rig)
    rig.start("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, PIECE))
    trimmed(rig)
    quiet(rig)
    assert len(allocatable(rig, kept.pages)) == used_blocks(rig)
    assert rig.pool.stats()["punch_runs"] == 0
    assert left >= 0
    rig.verify()
    rig.do("flush")
    rig.crash(power=True, mode="none")
    rig.reopen()


@pytest.mark.parametrize("end", ["close", "kill", "power"])
def test_the_superblock_says_that_something_is_unswept(end: str) -> None:
    """Until a trim has looked at all of it, through crashes and closes; a pool that was swept says nothing."""
    rig = Rig(7, Config(size_bytes=48 << 20, punch_delay_us=1 << 30))
    redirecting(rig, "checksum")
    rig.do("flush")
    rig.do("checkpoint")
    rig.settle(write(rig, 1, 0))
    rig.do("flush")
    for _ in range(2):
        if end == "close":
            rig.pool.close()
            rig.after_close(power=False)
        else:
            rig.pool.drain()
            rig.do("checkpoint")
            rig.crash(power=end == "power", mode="all")
            rig.reopen()
        assert rig.pool.stats()["unswept"] or rig.pool.stats()["punch_runs"]
        rig.do("checkpoint")
    rig.pool.call("trim", cursor=2 << 20, limit=1000)
    assert rig.pool.stats()["unswept"], "a trim that begins in the middle proves nothing"
    trimmed(rig)
    assert not rig.pool.stats()["unswept"]
    quiet_but_for_retries(rig)
    rig.pool.close()
    rig.after_close(power=False)
    assert not rig.pool.stats()["unswept"]


def test_trim_with_a_page_of_counts_that_is_bad() -> None:
    """Where counts cannot be read nothing is known to be free; the rest goes back."""
    rig = Rig(7, CONFIG)
    redirecting(rig, "shared")
    rig.pool.close()
    rig.after_close(power=False)
    bad = layout.COUNT_START + fixed_blocks(rig) // layout.GROUP_BLOCKS + 1
    rig.disk.fail("read", forever=True, within=(bad * BLOCK, (bad + 1) * BLOCK))
    trimmed(rig)
    quiet_but_for_retries(rig)
    assert rig.pool.stats()["punched_bytes"] > 0
    rig.disk.heal()
    rig.verify()
    rig.pool.abandon()


def quiet_but_for_retries(rig: Rig) -> None:
    for _ in range(20_000):
        if not rig.pool.stats()["punch_runs"]:
            return
        rig.step()
    raise Violation("the trim never comes to rest")


def test_a_medium_that_takes_nothing_back() -> None:
    """The first refused discard ends it: a trim then says so in one line."""
    rig = Rig(7, CONFIG)
    rig.do("create", name="v", size_bytes=4 << 20)
    rig.disk.fail("discard", forever=True)
    rig.pool.call("trim", cursor=0, limit=20)
    quiet(rig)
    with pytest.raises(PoolError, match="takes no space back"):
        rig.pool.call("trim", cursor=0, limit=20)
    rig.pool.abandon()


def test_homes_of_nodes_leave_no_mark() -> None:
    """They are freed in runs that stay allocated below for the next nodes: nothing is to be given back there, ever."""
    rig = Rig(7, Config(size_bytes=48 << 20, sparse=True))
    redirecting(rig, "shared")
    for offset in range(0, 4 << 20, PIECE):
        rig.settle(write(rig, 1, offset, BLOCK))
    rig.do("checkpoint")
    rig.do("delete", object_id=2)
    rig.do("flush")
    rig.do("checkpoint")
    quiet(rig)
    assert rig.pool.stats()["node_room_bytes"] > 0
    assert rig.pool.stats()["punch_runs"] == 0
    rig.pool.close()
    rig.after_close(power=False)
    assert not rig.pool.stats()["unswept"]
