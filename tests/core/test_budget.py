"""What discards may take: one at a time and then a rest beside initiators, more when nobody is there, all where room is short."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB, BLOCK = 1 << 20, 4096
TURN_US, TOOK_US = 50, 200
FIXED_BLOCKS = 2560 + 512 + 2 * 1024
SCATTERED, WHOLE = "scattered", "whole"


class Desk:
    """A pool whose requests are performed by hand, a turn each 50 us: discards take 200 us, all else none."""

    def __init__(self, *, gap_bytes: int = 0) -> None:
        self.device = MemoryDevice(128 * MIB)
        Pool.create(self.device, name="test", journal_blocks=512, area_blocks=1024)
        self.now_us = 1_000_000
        self.pool = Pool(self.device, clock=lambda: self.now_us, gap_bytes=gap_bytes)
        self.volume = self.pool.call("create", name="v", size_bytes=16 * MIB)
        for at in range(0, 16 * MIB, MIB):
            self.pool.call("write", object_id=self.volume, offset_bytes=at, data=b"a" * MIB)
        self.discards: dict[int, int] = {}          # in flight: when each ends
        self.begun: list[tuple[int, int]] = []      # (when, bytes) of every one so far
        self.in_flight = 0                          # the most there were at once
        self.done: dict[int, str] = {}              # how operations ended
        self.took_us: Callable[[int], int] = lambda length_bytes: TOOK_US

    def free(self, how: str) -> None:
        """A snapshot goes: what only it had is a block in two, or all of the volume's old blocks."""
        step = 2 * BLOCK if how == SCATTERED else MIB
        snapshot = self.pool.call("snapshot", pairs=[(self.volume, "v@s")])[0]
        for at in range(0, 16 * MIB, step):
            self.pool.call("write", object_id=self.volume, offset_bytes=at, data=b"b" * (step // 2 if how == SCATTERED else step))
        self.pool.call("delete", object_id=snapshot)

    def turn(self, *, busy: bool) -> None:
        self.now_us += TURN_US
        if busy:
            self.pool.start("read", object_id=self.volume, offset_bytes=0, length_bytes=BLOCK)
        self.pool.turn(self.now_us)
        self.done |= {completion.token: completion.code for completion in self.pool.reap()}
        for io_id, kind, _, length_bytes in self.pool.pending_io():
            if kind != "discard":
                self.pool.perform(io_id)
            elif io_id not in self.discards:
                self.discards[io_id] = self.now_us + self.took_us(length_bytes)
                self.begun.append((self.now_us, length_bytes))
        self.in_flight = max(self.in_flight, len(self.discards))
        for io_id in [io_id for io_id, ends_us in self.discards.items() if ends_us <= self.now_us]:
            del self.discards[io_id]
            self.pool.perform(io_id)

    def turns(self, count: int, *, busy: bool) -> int:
        """So many turns; how many discards began in them."""
        before, self.in_flight = len(self.begun), 0
        for _ in range(count):
            self.turn(busy=busy)
        return len(self.begun) - before

    def punched(self) -> int:
        return int(self.pool.stats()["punched_bytes"])


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.pool.abandon()


def begin(desk: Desk, *, busy: bool) -> None:
    """Until the first discard begins."""
    for _ in range(20_000):
        desk.turn(busy=busy)
        if desk.begun:
            return
    raise AssertionError("nothing is given back")


def test_beside_initiators_one_at_a_time_and_a_rest_of_nine_parts(desk: Desk) -> None:
    desk.free(SCATTERED)
    begin(desk, busy=True)
    assert desk.turns(600, busy=True) > 10
    assert desk.in_flight == 1
    begun = [at for at, _ in desk.begun]
    gaps = [b - a for a, b in pairwise(begun)]
    assert min(gaps) >= 10 * TOOK_US, "a discard of 200 us and its rest"
    assert max(gaps) <= 10 * TOOK_US + 4 * TURN_US, "as much as is allowed"


def test_without_initiators_they_follow_each_other(desk: Desk) -> None:
    desk.free(SCATTERED)
    begin(desk, busy=True)
    beside = desk.turns(600, busy=True)
    desk.turns(500, busy=False)                     # the initiators fall silent, and that is noticed
    assert desk.turns(600, busy=False) > 3 * beside
    assert 1 < desk.in_flight <= 2
    assert desk.turns(600, busy=True) <= beside + 2, "and they come back"


def test_where_room_is_short_nothing_rests(desk: Desk) -> None:
    desk.free(SCATTERED)
    begin(desk, busy=True)
    beside = desk.turns(600, busy=True)
    desk.pool.hurry()
    assert desk.turns(600, busy=True) > 10 * beside
    assert desk.in_flight == 8


def test_room_that_is_short_does_not_wait_for_runs_to_come_to_rest(desk: Desk) -> None:
    """What overwriting freed a moment ago goes back as well, without the two looks it else waits for."""
    snapshot = desk.pool.call("snapshot", pairs=[(desk.volume, "v@s")])[0]
    desk.pool.call("delete", object_id=snapshot)
    desk.pool.drain()
    desk.pool.call("write_atomic", object_id=desk.volume, offset_bytes=0, data=b"c" * (64 << 10))
    desk.pool.call("flush")
    assert desk.turns(600, busy=True) == 0
    desk.pool.hurry()
    assert desk.turns(600, busy=True) > 0


def test_a_medium_without_room_for_a_write_hurries(desk: Desk) -> None:
    desk.free(SCATTERED)
    begin(desk, busy=True)
    beside = desk.turns(600, busy=True)
    refuse(desk)
    assert desk.turns(600, busy=True) > 10 * beside


def refuse(desk: Desk) -> None:
    write: Any = desk.device.write

    def full(offset_bytes: int, data: bytes) -> None:
        raise OSError(28, "no space")

    desk.device.write = full                        # type: ignore[method-assign]
    token = desk.pool.start("write", object_id=desk.volume, offset_bytes=0, data=b"d" * BLOCK)
    desk.turn(busy=False)
    desk.device.write = write                       # type: ignore[method-assign]
    desk.turn(busy=False)
    assert desk.done[token] == "no_space"


def test_what_is_whole_goes_first_and_together(desk: Desk) -> None:
    """Runs in one discard become more while it takes less than a moment; single blocks come last."""
    desk.free(SCATTERED)
    desk.free(WHOLE)
    begin(desk, busy=True)
    desk.turns(3000, busy=True)
    sizes = [length_bytes for _, length_bytes in desk.begun]
    large = [size for size in sizes if size >= 16 * BLOCK]
    assert sum(large) >= 12 * MIB
    assert sizes[:len(large)] == large, "nothing short before something long"
    assert max(large) > 2 * MIB
    assert large[0] <= 2 * MIB


def test_discards_that_take_long_become_shorter_than_a_run(desk: Desk) -> None:
    """A medium where a hole of 2 MiB takes 7 ms: what writers wait for in one go stays a moment."""
    desk.free(WHOLE)
    begin(desk, busy=True)
    desk.took_us = lambda length_bytes: length_bytes * 7_000 // (2 * MIB)
    desk.turns(20_000, busy=True)
    late = [length_bytes for _, length_bytes in desk.begun][-8:]
    assert all(64 << 10 <= length_bytes <= 768 << 10 for length_bytes in late), late
    assert desk.punched() > 4 * MIB


def test_nothing_freed_is_forgotten(desk: Desk) -> None:
    """All that a deleted snapshot had goes back, beside initiators too, and then there is nothing to do."""
    desk.free(SCATTERED)
    desk.pool.drain()
    begin(desk, busy=True)
    for _ in range(120):
        if not desk.pool.stats()["punch_runs"]:
            break
        desk.turns(1000, busy=True)
    kept = sum(page * BLOCK >= (512 + 2 * 1024) * BLOCK for page in desk.device.pages)
    used = int(desk.pool.stats()["size_bytes"] - desk.pool.stats()["free_bytes"]) // BLOCK
    assert kept <= used
    assert desk.pool.stats()["punch_runs"] == 0
    assert desk.punched() >= 8 * MIB


def all_given_back(how: str, *refusals: int) -> int:
    """What a deleted snapshot had goes back while the medium refuses the first discards; how many bytes that were."""
    desk, refuse = Desk(), list(refusals)
    take = desk.device.discard

    def discard(offset_bytes: int, length_bytes: int) -> None:
        if refuse:
            raise OSError(refuse.pop(), "not now")
        take(offset_bytes, length_bytes)

    desk.device.discard = discard  # type: ignore[method-assign]
    desk.free(how)
    desk.pool.drain()
    for _ in range(400):
        desk.turns(1000, busy=False)
        if not desk.pool.stats()["punch_runs"]:
            break
    assert not refuse
    assert desk.pool.stats()["punch_runs"] == 0
    punched = desk.punched()
    desk.pool.abandon()
    return punched


@pytest.mark.parametrize("how", [SCATTERED, WHOLE])
def test_what_the_medium_does_not_take_back_now_it_gets_again(how: str) -> None:
    """A file system without room for the extents of a hole says so; what was refused stays marked."""
    assert all_given_back(how, errno.ENOSPC, errno.EINTR, errno.ENOMEM) == all_given_back(how)


def test_where_no_run_is_free_what_the_medium_keeps_is_taken_first() -> None:
    """A sparse pool file does not grow while there is something in it that was freed."""
    desk = Desk()
    other = desk.pool.call("create", name="w", size_bytes=200 * MIB)
    for at in range(0, 200 * MIB, 2 * MIB):                 # a block here and there, until each run has some
        if desk.pool.stats()["free_runs"] == 0:
            break
        desk.pool.call("write", object_id=other, offset_bytes=at, data=b"w" * BLOCK)
    assert desk.pool.stats()["free_runs"] == 0
    desk.pool.call("flush")
    desk.pool.call("unmap", object_id=desk.volume, offset_bytes=0, length_bytes=4 * MIB)
    desk.pool.call("flush")
    desk.pool.drain()
    desk.pool.call("checkpoint")
    before = set(desk.device.pages)
    for at in range(MIB, 9 * MIB, 2 * MIB):                 # 1000 blocks, as they come
        for piece in range(0, MIB, 4 * BLOCK):
            desk.pool.call("write", object_id=other, offset_bytes=at + 100 * MIB + piece, data=b"x" * (4 * BLOCK))
    grown = {page for page in desk.device.pages if page >= FIXED_BLOCKS} - before
    assert len(grown) < 200, "nodes apart"
    desk.pool.abandon()


def test_overwrites_here_and_there_take_what_the_medium_keeps(desk: Desk) -> None:
    """While an eighth of what is in use waits to go back, a schedule of snapshots does not make a sparse file grow."""
    marked(desk)
    before = set(desk.device.pages)
    for at in range(0, 16 * MIB, 14 * BLOCK):
        desk.pool.call("write", object_id=desk.volume, offset_bytes=at, data=b"c" * BLOCK)
    grown = {page for page in desk.device.pages if page >= FIXED_BLOCKS} - before
    assert len(grown) < 20


def test_a_stream_of_overwrites_stays_together(desk: Desk) -> None:
    marked(desk)
    for at in range(0, 4 * MIB, BLOCK):
        desk.pool.call("write", object_id=desk.volume, offset_bytes=at, data=b"c" * BLOCK)
    desk.pool.call("snapshot", pairs=[(desk.volume, "v@after")])
    places = [place for place, count in extents_of(desk) if count >= 256]
    assert places, "in order, but for their first blocks"


def marked(desk: Desk) -> None:
    """Half of the old blocks are free, the medium keeps them, and the volume is shared with a snapshot."""
    desk.free(SCATTERED)
    desk.pool.call("flush")
    desk.pool.drain()
    desk.pool.call("snapshot", pairs=[(desk.volume, "v@now")])
    stats = desk.pool.stats()
    assert stats["unswept_bytes"] * 8 > stats["size_bytes"] - stats["free_bytes"]


def extents_of(desk: Desk) -> list[tuple[int, int]]:
    """(page, how many in a row) of what the writes of this test left on the medium, in its order."""
    pages = sorted(page for page, data in desk.device.pages.items() if data[:2] == b"cc")
    found: list[tuple[int, int]] = []
    for page in pages:
        if found and found[-1][0] + found[-1][1] == page:
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((page, 1))
    return found


def rewrite(desk: Desk, blocks: int) -> None:
    """So many blocks of a volume that is shared with a snapshot, one here and one there."""
    for number in range(blocks):
        at = number * 11 % 4095 * BLOCK             # each block but the last one, in an order that is no stream
        desk.pool.call("write", object_id=desk.volume, offset_bytes=at, data=b"c" * BLOCK)


def rolls(desk: Desk) -> None:
    """One round of a schedule, in a moment: a snapshot, nearly all of the volume written again, and the snapshot goes."""
    for _ in range(2):                              # what is left of the first one is freed with the second
        snapshot = desk.pool.call("snapshot", pairs=[(desk.volume, "v@s")])[0]
        rewrite(desk, 4095)
        desk.pool.call("delete", object_id=snapshot)
        desk.pool.call("flush")
        desk.pool.drain()


def test_what_writers_take_again_within_seconds_is_not_given_back(desk: Desk) -> None:
    """A schedule of snapshots frees what it needs next: holes there cost twice, and what is found is what was freed."""
    rolls(desk)
    assert desk.pool.stats()["unswept_bytes"] >= 12 * MIB
    assert desk.turns(2000, busy=True) == 0
    desk.now_us += 2_000_000                        # they only read by now
    assert desk.turns(4000, busy=True) > 0


@pytest.mark.parametrize("end", ["silence", "hurry"])
def test_what_writers_would_take_goes_back_when_they_are_silent_or_room_is_short(desk: Desk, end: str) -> None:
    rolls(desk)
    assert desk.turns(2000, busy=True) == 0
    if end == "hurry":
        desk.pool.hurry()
    assert desk.turns(2000, busy=end == "hurry") > 0


@pytest.mark.parametrize(("gap_bytes", "new"), [(0, False), (32768, True)], ids=["memory", "disk"])
def test_many_small_overwrites_take_all_that_memory_keeps(gap_bytes: int, new: bool) -> None:
    """On a disk they leave an eighth of what is in use where it is: to read what lies scattered costs more there."""
    desk = Desk(gap_bytes=gap_bytes)
    desk.pool.order(False)        # what is put in order is private, and overwritten where it lies
    rolls(desk)
    desk.pool.call("snapshot", pairs=[(desk.volume, "v@now")])
    rewrite(desk, 3900)
    before = {page for page in desk.device.pages if page >= FIXED_BLOCKS}
    rewrite(desk, 4095)
    grown = len({page for page in desk.device.pages if page >= FIXED_BLOCKS} - before)
    assert (grown > 100) == new
    desk.pool.abandon()


def test_a_block_that_is_wanted_again_is_not_given_back(desk: Desk) -> None:
    """What UNMAP frees is free at once: a full pool takes it before it goes to the medium."""
    size_bytes = 96 * MIB
    other = desk.pool.call("create", name="w", size_bytes=size_bytes)
    at = 0
    while True:
        token = desk.pool.start("write", object_id=other, offset_bytes=at, data=b"w" * MIB)
        while token not in desk.done:
            desk.turn(busy=True)
        if desk.done[token] != "ok":
            break
        at += MIB
    before = desk.punched()
    desk.pool.call("unmap", object_id=desk.volume, offset_bytes=0, length_bytes=8 * MIB)
    desk.pool.call("flush")
    desk.pool.drain()
    for piece in range(4):
        desk.pool.call("write", object_id=other, offset_bytes=at + piece * MIB, data=b"x" * MIB)
    assert desk.punched() - before <= 8 * MIB
    assert desk.pool.call("read", object_id=other, offset_bytes=at, length_bytes=4 * MIB) == b"x" * (4 * MIB)
