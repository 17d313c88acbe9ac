"""The ownership record and its protocol on a simulated medium and clock: openers that are slow, that stop anywhere, that die."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from core import layout, ownership
from core.ownership import (
    Answer,
    LostError,
    Opener,
    OwnedError,
    Ownership,
    Read,
    Record,
    Sleep,
    State,
    Steps,
    Verdict,
    Write,
    acquire,
    judge,
    observe,
)

FILE, LOOP, OTHER_FILE, DEVICE = (bytes([kind, *bytes(22), number]) for kind, number in ((1, 1), (2, 1), (1, 2), (2, 9)))
HERE, THERE = b"h" * 16, b"t" * 16


def opener(pid: int = 1, *, place: bytes = DEVICE, lease_s: float = 10, boot: bytes = HERE, namespace: int = 7,
           alive: set[int] | None = None, places: set[bytes] | None = None, known: bool = False) -> Opener:
    living = alive
    return Opener(boot=boot, pid=pid, started=pid * 100, pid_namespace=namespace, host="m", place=place,
                  places=frozenset(places or {place}), known=known, local=not lease_s, lease_s=lease_s,
                  alive=lambda each, started: living is None or (each in living and started == each * 100))


def record(owner: Opener, **changes: Any) -> Record:
    return replace(owner.claim(5), **{"state": State.OWNED, "counter": 3, **changes})


# -- the record ----------------------------------------------------------------------------------------------------------
def test_a_record_survives_its_block_and_anything_else_is_nobody() -> None:
    one = record(opener(17, lease_s=2.5), since_us=1_700_000_000_000_000, host="máquina")
    raw = one.pack()
    assert (len(raw), Record.unpack(raw)) == (layout.BLOCK_BYTES, one)
    offsets = {each.name: each for each in layout.OWNER}
    for name, value in (("state", 2), ("counter", 3), ("lease_ms", 2500), ("pid", 17), ("started", 1700), ("pid_namespace", 7),
                        ("since_us", one.since_us)):
        at = offsets[name]
        assert int.from_bytes(raw[at.offset:at.offset + at.size], "little") == value
    for name, text in (("owner", one.owner), ("boot", HERE), ("place", DEVICE)):
        at = offsets[name]
        assert raw[at.offset:at.offset + at.size] == text
    assert Record.unpack(bytes(4096)) is None
    for at in range(layout.OWNER_BYTES):
        assert Record.unpack(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1:]) is None


@pytest.mark.parametrize(("theirs", "mine", "verdict"), [
    (None, opener(), Verdict.FREE),
    (record(opener(), state=State.GIVEN_UP), opener(2), Verdict.FREE),
    # the same machine and boot
    (record(opener(place=FILE, lease_s=0)), opener(2, place=FILE, lease_s=0), Verdict.FREE),
    (record(opener(place=FILE, lease_s=0)), opener(2, place=LOOP, alive={2}), Verdict.GONE),
    (record(opener(place=FILE, lease_s=0)), opener(2, place=LOOP, places={LOOP, FILE}, known=True), Verdict.HELD),
    (record(opener(place=FILE, lease_s=0)), opener(2, place=LOOP), Verdict.HELD),
    (record(opener(place=FILE, lease_s=0)), opener(2, place=OTHER_FILE, lease_s=0, known=True), Verdict.FREE),
    (record(opener(place=LOOP)), opener(2, place=FILE, lease_s=0, known=True), Verdict.WATCH),
    (record(opener(place=FILE, lease_s=0)), opener(2, place=LOOP, namespace=8, alive={2}), Verdict.UNKNOWN),
    # a process with the same number that began at another time
    (record(opener(place=FILE, lease_s=0), started=99), opener(2, place=LOOP, alive={1, 2}), Verdict.GONE),
    # another machine, or another boot of this one
    (record(opener(boot=THERE)), opener(2), Verdict.WATCH),
    (record(opener(boot=THERE, place=FILE, lease_s=0)), opener(2, place=FILE, lease_s=0), Verdict.FREE),
    (record(opener(boot=THERE, place=FILE, lease_s=0)), opener(2), Verdict.UNKNOWN),
    (record(opener(boot=bytes(16), place=FILE)), opener(2, place=FILE, boot=bytes(16)), Verdict.WATCH),
])
def test_what_a_record_means(theirs: Record | None, mine: Opener, verdict: Verdict) -> None:
    assert judge(theirs, mine) is verdict


# -- a medium, a clock and actors ----------------------------------------------------------------------------------------
@dataclass
class World:
    """Actors take their steps when their time comes; a write lands somewhere between its begin and its end."""

    seed: int = 0
    now_s: float = 100.0
    block: bytes = bytes(4096)
    queue: list[Any] = field(default_factory=list)
    writes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.count = itertools.count()

    def clock(self) -> float:
        return self.now_s

    def at(self, delay_s: float, act: Any) -> None:
        heapq.heappush(self.queue, (self.now_s + delay_s, next(self.count), act))

    def run(self, until_s: float = 1e9) -> None:
        while self.queue and self.queue[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self.queue)
            act()

    def land(self, raw: bytes) -> None:
        self.block = raw
        self.writes.append(raw)


class Actor:
    """One process: it acquires, then renews until it is killed. `slow` seconds are what a step may take at most."""

    def __init__(self, world: World, me: Opener, *, slow: float = 0.002, pause: dict[int, float] | None = None,
                 takeover: bool = False) -> None:
        self.world, self.me, self.slow = world, me, slow
        self.pause = pause or {}                # step number -> how long the process is stopped before it
        self.steps = 0
        self.owned: Ownership | None = None
        self.error: Exception | None = None
        self.dead = False
        self.asked: list[tuple[float, bool]] = []
        self.begin(acquire(me, world.clock, takeover=takeover))

    @property
    def serving(self) -> bool:
        """Would it answer at this moment?"""
        return self.owned is not None and self.error is None and not self.dead and self.owned.valid()

    def kill(self) -> None:
        self.dead = True

    def begin(self, steps: Steps[Any]) -> None:
        self.world.at(0, lambda: self.advance(steps, None))

    def advance(self, steps: Steps[Any], answer: Answer | None) -> None:
        if self.dead:
            return
        held = self.pause.pop(self.steps, 0.0)
        if held:
            self.world.at(held, lambda: self.advance(steps, answer))
            return
        self.steps += 1
        try:
            step = next(steps) if answer is None else steps.send(answer)
        except StopIteration as end:
            self.owned = end.value
            self.world.at(self.owned.renew_every_s, lambda: self.begin(self.owned.renew()))  # type: ignore[union-attr]
        except (OwnedError, LostError) as error:
            self.error = error
        else:
            self.perform(steps, step)

    def perform(self, steps: Steps[Any], step: Any) -> None:
        begin, rest = (self.world.random.uniform(0, self.slow) for _ in range(2))
        if isinstance(step, Sleep):
            self.world.at(step.seconds, lambda: self.advance(steps, Answer()))
        elif isinstance(step, Read):
            def read() -> None:
                seen = self.world.block
                self.world.at(rest, lambda: self.advance(steps, Answer(raw=seen)))
            self.world.at(begin, read)
        else:
            assert isinstance(step, Write)

            def write() -> None:                # what is on its way lands, whatever becomes of its process
                self.world.land(step.raw)
                self.world.at(rest, lambda: self.advance(steps, Answer()))
            self.world.at(begin, write)


def outcomes(world: World, actors: list[Actor], until_s: float, step_s: float = 0.05) -> Iterator[list[bool]]:
    """Who serves, moment by moment."""
    while world.now_s < until_s:
        world.run(world.now_s + step_s)
        world.now_s += step_s
        yield [each.serving for each in actors]


@pytest.mark.parametrize("lease_s", [0.0, 10.0])
@pytest.mark.parametrize("seed", range(60))
def test_of_openers_that_come_at_once_exactly_one_wins(seed: int, lease_s: float) -> None:
    world = World(seed)
    actors: list[Actor] = []
    count = world.random.randint(2, 5)
    for number in range(count):
        me = opener(number + 1, place=bytes([number]) * 24, lease_s=lease_s)
        world.at(world.random.uniform(0, 0.3), lambda me=me: actors.append(Actor(world, me, slow=0.04)))  # type: ignore[misc]
    served: set[int] = set()
    while world.now_s < 140:
        world.run(world.now_s + 0.05)
        world.now_s += 0.05
        now = [number for number, each in enumerate(actors) if each.serving]
        assert len(now) <= 1
        served.update(now)
    assert len(served) == 1
    for number, each in enumerate(actors):
        assert (number in served) != isinstance(each.error, OwnedError)


@pytest.mark.parametrize("held_s", [0.12, 3.0, 12.0, 40.0])
@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("who", [0, 1])
def test_a_stop_at_any_step_never_leaves_two(step: int, held_s: float, who: int) -> None:
    """Two come at the same moment, one of them is stopped before one of its steps; later a third one wants the pool."""
    for seed in range(6):
        world = World(seed)
        actors = [Actor(world, opener(number + 1, place=bytes([number]) * 24), slow=0.03,
                        pause={step: held_s} if number == who else None) for number in range(2)]
        world.at(20.0, lambda w=world, a=actors: a.append(Actor(w, opener(3, place=b"3" * 24))))  # type: ignore[misc]
        ever = 0
        for serving in outcomes(world, actors, 240):
            assert sum(serving) <= 1, (seed, serving)
            ever |= sum(serving)
        assert ever
        assert sum(serving) == 1


@pytest.mark.parametrize("step", range(4, 16))
@pytest.mark.parametrize("held_s", [1.0, 9.0, 11.0, 13.0, 30.0])
def test_an_owner_that_stops_is_taken_over_and_never_serves_again(step: int, held_s: float) -> None:
    for seed in range(4):
        world = World(seed)
        first = Actor(world, opener(1, place=LOOP), pause={step: held_s})
        actors = [first]
        for number, after_s in ((2, 3.0), (3, 60.0)):       # the second may come while the first still gives signs
            me = opener(number, place=(FILE, DEVICE)[number - 2], lease_s=0)
            world.at(after_s, lambda w=world, a=actors, me=me: a.append(Actor(w, me)))  # type: ignore[misc]
        over = False
        for serving in outcomes(world, actors, 180):
            assert sum(serving) <= 1
            over |= any(serving[1:])
            assert not (over and serving[0])
        assert sum(serving) == 1
        if held_s < 7:
            assert serving[0]
            assert isinstance(actors[1].error, OwnedError)
        elif held_s > 10:
            assert not serving[0]
            assert isinstance(first.error, LostError | OwnedError)


def test_an_owner_that_is_killed_is_succeeded_at_once_by_name_and_by_process() -> None:
    for place, waits in ((LOOP, 0.3), (FILE, 1.5)):
        world = World()
        alive = {1, 2}
        first = Actor(world, opener(1, place=LOOP, alive=alive))
        world.run(110)
        assert first.serving
        first.kill()
        alive.discard(1)
        second = Actor(world, opener(2, place=place, alive=alive))
        world.run(110 + waits)
        assert second.serving
        assert second.owned is not None
        assert second.owned.predecessor == first.owned.record


def test_who_may_be_alive_elsewhere_is_left_alone_unless_it_is_said_to_be_gone() -> None:
    world = World()
    first = Actor(world, opener(1, boot=THERE, place=FILE, lease_s=0))
    world.run(101)
    first.kill()
    second = Actor(world, opener(2))
    world.run(150)
    assert isinstance(second.error, OwnedError)
    assert second.error.verdict is Verdict.UNKNOWN
    third = Actor(world, opener(3), takeover=True)
    world.run(160)
    assert third.serving


@pytest.mark.parametrize(("host", "boot", "takeover", "taken"), [
    ("elsewhere", THERE, False, False), ("elsewhere", THERE, True, True), ("m", THERE, False, True),
    ("elsewhere", HERE, False, True)])
def test_a_silent_owner_is_succeeded_by_its_own_machine_or_when_it_is_said_to_be_gone(host: str, boot: bytes, takeover: bool,
                                                                                     taken: bool) -> None:
    """What another machine had sent may still be on its way, however long its owner has been silent."""
    world = World()
    world.block = record(opener(1, boot=boot), host=host).pack()
    second = Actor(world, opener(2), takeover=takeover)
    world.run(200)
    assert second.serving == taken
    assert taken or (isinstance(second.error, OwnedError) and second.error.verdict is Verdict.UNKNOWN)


def test_a_lease_counts_from_before_the_look_by_which_it_was_renewed() -> None:
    """Others see the next count as soon as it is on the medium, however late the write is answered."""
    now_s = 100.0
    mine = Ownership(record(opener(lease_s=10)), None, lambda: now_s, 100.0)
    steps = mine.renew()
    now_s = 103.0
    assert isinstance(next(steps), Read)
    now_s = 106.0
    assert isinstance(steps.send(Answer(raw=mine.record.pack())), Write)
    now_s = 109.0
    with pytest.raises(StopIteration):
        steps.send(Answer())
    assert mine.deadline_s == 113.0


def test_one_that_was_taken_over_by_force_notices_and_stops() -> None:
    world = World()
    first = Actor(world, opener(1, boot=THERE, place=FILE, lease_s=0))
    world.run(101)
    second = Actor(world, opener(2), takeover=True)
    world.run(101 + 2 * ownership.RENEW_MAX_S)
    assert second.serving
    assert isinstance(first.error, LostError)
    assert "another owner" in str(first.error)


def test_a_claim_that_comes_too_late_gives_the_record_back() -> None:
    world = World()
    late = Actor(world, opener(1, place=LOOP), pause={2: 30.0})     # it has looked, and is stopped before it writes
    world.run(105)
    second = Actor(world, opener(2, place=FILE, lease_s=0, alive={1, 2}))
    world.run(129)
    assert second.serving
    world.run(130.1)
    assert Record.unpack(world.block).owner != second.owned.record.owner  # type: ignore[union-attr]
    for serving in outcomes(world, [late, second], 200):
        assert serving == [False, True]
    assert isinstance(late.error, OwnedError)
    assert Record.unpack(world.block) == second.owned.record  # type: ignore[union-attr]


def test_a_late_write_of_the_predecessor_is_put_right() -> None:
    world = World()
    first = Actor(world, opener(1, place=LOOP))
    world.run(103)
    assert first.owned is not None
    stale = first.owned.record.pack()
    first.kill()
    second = Actor(world, opener(2, place=DEVICE))
    world.run(120)
    assert second.serving
    world.land(stale)
    for serving in outcomes(world, [second], 140):
        assert serving == [True]
    assert Record.unpack(world.block).owner == second.owned.record.owner  # type: ignore[union-attr]


def test_looking_changes_nothing_and_says_who() -> None:
    world = World()
    first = Actor(world, opener(1, place=LOOP))
    world.run(101)
    seen: list[Exception | None] = []

    class Look(Actor):
        def begin(self, steps: Steps[Any]) -> None:
            super().begin(observe(self.me, self.world.clock))

    look = Look(world, opener(2, place=FILE, lease_s=0))
    written = len(world.writes)
    world.run(104)
    seen.append(look.error)
    assert isinstance(look.error, OwnedError)
    assert look.error.record.pid == 1
    assert all(Record.unpack(raw).owner == first.owned.record.owner for raw in world.writes[written:])  # type: ignore[union-attr]


def test_a_released_pool_is_free_at_once() -> None:
    world = World()
    first = Actor(world, opener(1, place=LOOP))
    world.run(103)
    assert first.owned is not None
    steps = first.owned.release()
    first.kill()
    assert isinstance(next(steps), Read)
    written = steps.send(Answer(raw=world.block))
    assert isinstance(written, Write)
    world.land(written.raw)
    second = Actor(world, opener(2, place=DEVICE, boot=THERE))
    world.run(103.5)
    assert second.serving


def test_the_page_on_ownership_knows_every_verdict_and_figure() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ownership.md").read_text()
    for verdict in Verdict:
        assert verdict.name in page
    for figure in (ownership.WRITE_BOUND_S, ownership.SETTLE_S, ownership.RENEW_MAX_S, ownership.YIELD_S, ownership.GONE_S):
        assert f" {figure:g} s" in page
    assert f"block {layout.OWNER_BLOCK} of the pool" in page
    assert record(opener(lease_s=10)).window_s == 1.2 * 10 + 0.5
    assert "1.2 times the lease and half a second" in page
