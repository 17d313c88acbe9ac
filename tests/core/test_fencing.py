"""The protocol of pools on Ceph on a simulated cluster and clock: openers step by step, stopped anywhere; never do two serve."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import replace

import pytest

from core import fencing
from core.fencing import observe, take
from core.medium import image_opener
from core.ownership import Answer, LostError, Opener, OwnedError, Ownership, Read, Record, Sleep, State, Steps, Write

LEASE_S = 10.0


class Refused(OSError):
    """What a blocked client is told."""


class Cluster:
    """One image's lock and record, the blocklist, a clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.holder = ""
        self.blocked: set[str] = set()
        self.record = bytes(4096)
        self.busy: Callable[[], bool] = lambda: False       # the lock of the image looks taken

    def clock(self) -> float:
        return self.now_s


class Client:
    """A `FencingMedium` as one client sees it. Monitors tell it that it is blocked as OSDs do."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        self.cluster, self.address = cluster, address

    def _pass(self) -> None:
        if self.address in self.cluster.blocked:
            raise Refused

    def read_record(self) -> bytes:
        self._pass()
        return self.cluster.record

    def write_record(self, raw: bytes) -> None:
        self._pass()
        self.cluster.record = raw

    def lockers(self) -> list[str]:
        self._pass()
        return [self.cluster.holder] if self.cluster.holder else []

    def block(self, address: str, record: Record | None) -> None:
        self.cluster.blocked.add(address)           # of monitors, which blocked clients may still talk to

    def break_lock(self, address: str) -> bool:
        self._pass()
        if self.cluster.holder != address:
            return False
        self.cluster.holder = ""
        return True

    def lock(self) -> bool:
        self._pass()
        if self.cluster.holder not in ("", self.address) or self.cluster.busy():
            return False
        self.cluster.holder = self.address
        return True


def opener(number: int, dead: set[int], boot: int = 0, lease_s: float = LEASE_S) -> Opener:
    me = image_opener(f"10.0.0.{number}:0/1", lease_s)
    values = {name: getattr(me, name) for name in Opener.__slots__}
    return Opener(**{**values, "pid": number, "started": 1, "boot": bytes([boot or number]) * 16, "host": f"host{number}",
                     "alive": lambda pid, started: pid not in dead})


class Process:
    """One that takes the pool, and renews it until it is stopped for a while, killed, or has lost it."""

    def __init__(self, cluster: Cluster, number: int, dead: set[int], *, takeover: bool, boot: int = 0,
                 lease_s: float = LEASE_S) -> None:
        self.me = opener(number, dead, boot, lease_s)
        self.number = number
        self.cluster = cluster
        self.client = Client(cluster, self.me.client)
        self.owned: Ownership | None = None
        self.ended = False
        self.wake_s = 0.0
        self._steps = self._life(take(self.me, cluster.clock, takeover=takeover))

    def _life(self, steps: Steps[Ownership]) -> Generator[None, None, None]:
        """A step of the protocol each time it is resumed."""
        try:
            self.owned = yield from self._perform(steps)
            while True:
                yield from self._perform(self.owned.renew())
                self.wake_s = self.cluster.now_s + self.owned.renew_every_s
                yield
        except (OwnedError, LostError, Refused):
            self.ended = True

    def _perform(self, steps: Steps[Ownership]) -> Generator[None, None, Ownership]:
        answer: Answer | None = None
        while True:
            try:
                step = next(steps) if answer is None else steps.send(answer)
            except StopIteration as end:
                result: Ownership = end.value
                return result
            if isinstance(step, Sleep):
                self.wake_s, answer = self.cluster.now_s + step.seconds, Answer()
            else:
                answer = fencing.perform(step, self.client, lambda seconds: None)
            yield

    @property
    def may_answer(self) -> bool:
        return not self.ended and self.owned is not None and self.owned.valid()

    def step(self) -> None:
        if next(self._steps, "over") == "over":
            self.ended = True


@pytest.mark.parametrize("seed", range(120))
def test_never_do_two_answer(seed: int) -> None:
    dice = random.Random(seed)
    cluster, dead = Cluster(), set[int]()
    processes: list[Process] = []
    stopped: dict[int, float] = {}
    served = 0
    for _ in range(400):
        if len(processes) < 6 and dice.random() < 0.06:
            number = len(processes) + 1
            processes.append(Process(cluster, number, dead, takeover=dice.random() < 0.7, boot=dice.choice((0, 99))))
        cluster.now_s += dice.choice((0.0, 0.0, 0.01, 0.1, 1.0, 3.0))
        for process in processes:
            chance = dice.random()
            if chance < 0.01:
                stopped[process.number] = cluster.now_s + dice.choice((0.5, 6.0, 45.0, 3600.0))
            elif chance < 0.015:
                process.ended = True
                dead.add(process.number)
            if process.ended or stopped.get(process.number, 0) > cluster.now_s or process.wake_s > cluster.now_s:
                continue
            for _ in range(dice.choice((1, 1, 2, 8))):
                if not process.ended and process.wake_s <= cluster.now_s:
                    process.step()
        answering = [process.number for process in processes if process.may_answer]
        assert len(answering) <= 1, answering
        served += len(answering)
    if any(process.owned for process in processes):
        assert served


def owner(cluster: Cluster, number: int, dead: set[int], boot: int = 0, lease_s: float = LEASE_S) -> Process:
    one = Process(cluster, number, dead, takeover=False, boot=boot, lease_s=lease_s)
    while one.owned is None:
        one.step()
        assert not one.ended
    return one


def finish(process: Process) -> list[float]:
    """Step it to its end or until it owns; the sleeps it asked for, none of which is waited for by others."""
    sleeps = []
    while not process.ended and process.owned is None:
        process.step()
        if process.wake_s > process.cluster.now_s:
            sleeps.append(round(process.wake_s - process.cluster.now_s, 2))
            process.cluster.now_s = process.wake_s
    return sleeps


def test_the_lease_of_one_that_lives_is_waited_out_and_it_is_blocked_before() -> None:
    cluster = Cluster()
    first = owner(cluster, 1, set())
    assert finish(Process(cluster, 2, set(), takeover=True)) == [11.2]
    assert cluster.blocked == {first.me.client}
    first.step()
    first.step()
    assert first.ended


def test_who_is_seen_to_be_dead_is_blocked_and_not_waited_for() -> None:
    cluster, dead = Cluster(), set[int]()
    first = owner(cluster, 1, dead, boot=99)
    dead.add(1)
    assert finish(Process(cluster, 2, dead, takeover=False, boot=99)) == []
    assert cluster.blocked == {first.me.client}


def test_who_moves_is_left_alone_and_who_is_silent_is_not() -> None:
    cluster = Cluster()
    owner(cluster, 1, set())
    second = Process(cluster, 2, set(), takeover=False)
    second.step()
    second.step()
    second.step()
    record = Record.unpack(cluster.record)
    assert record is not None
    cluster.now_s += 3
    for step in Ownership(record, None, cluster.clock, cluster.now_s).renew():
        if isinstance(step, Write):
            cluster.record = step.raw
        else:
            assert isinstance(step, Read)
            break

    cluster.record = replace(record, counter=record.counter + 1).pack()
    assert sum(finish(second)) < LEASE_S
    assert second.ended
    assert not cluster.blocked
    assert sum(finish(Process(cluster, 3, set(), takeover=False))) > 2 * LEASE_S


def together(*processes: Process) -> None:
    assert sum(process.may_answer for process in processes) <= 1


def test_who_began_to_serve_between_the_look_and_the_block_is_waited_for() -> None:
    """The record that was looked at is of one that is dead; the lock is already another's."""
    cluster, dead = Cluster(), set[int]()
    owner(cluster, 1, dead, boot=99)
    dead.add(1)
    first, second = (Process(cluster, number, dead, takeover=True, boot=99) for number in (2, 3))
    while cluster.holder != first.me.client:
        first.step()
    for _ in range(2):                      # the holder, the record
        second.step()
    finish(first)
    assert first.may_answer
    while second.owned is None:
        second.step()
        together(first, second)
        cluster.now_s = max(cluster.now_s, second.wake_s)
    assert not first.may_answer


def test_who_served_between_the_look_and_the_lock_is_blocked_too() -> None:
    """It came, served, and its lock was taken from it, all while this one was on its way to the lock."""
    cluster = Cluster()
    owner(cluster, 1, set())
    between = replace(opener(2, set()).claim(7), state=State.OWNED, counter=9, lease_ms=30_000)

    def served() -> bool:
        cluster.record, cluster.busy = between.pack(), lambda: False
        return False

    cluster.busy = served
    third = Process(cluster, 3, set(), takeover=True)
    assert sum(finish(third)) > 30
    assert third.owned is not None
    assert between.client in cluster.blocked
    cluster.busy = served
    refused = Process(cluster, 4, set(), takeover=False)
    finish(refused)
    assert refused.ended, "who does not say that it is gone leaves it alone"


def test_a_claim_that_another_has_replaced_is_no_owners() -> None:
    cluster = Cluster()
    owner(cluster, 1, set())
    second = Process(cluster, 2, set(), takeover=True)
    while not second.wake_s:
        second.step()
    other = opener(3, set()).claim(7)
    cluster.record = other.pack()
    finish(second)
    assert second.ended
    found = Record.unpack(cluster.record)
    assert found is not None
    assert found.owner == other.owner, "the other one's claim stands"


def test_whoever_a_claim_was_waiting_for_is_waited_for_when_the_claimant_is_dead() -> None:
    cluster, dead = Cluster(), set[int]()
    first = owner(cluster, 1, dead)
    second = Process(cluster, 2, dead, takeover=True, boot=99)
    while not second.wake_s:
        second.step()
    dead.add(2)
    third = Process(cluster, 3, dead, takeover=True, boot=99)
    while third.owned is None:
        third.step()
        together(first, third)
        cluster.now_s = max(cluster.now_s, third.wake_s)


def test_the_longest_lease_of_those_before_a_claim_is_waited_out() -> None:
    cluster = Cluster()
    first = owner(cluster, 1, set(), lease_s=60.0)
    for number in (2, 3):
        last = Process(cluster, number, set(), takeover=True)
        while not last.wake_s:
            last.step()
    finish(last)
    assert last.owned is not None
    assert last.owned.record.lease_s == LEASE_S
    together(first, last)


@pytest.mark.parametrize("seed", range(100))
def test_of_those_that_are_told_at_once_one_serves(seed: int) -> None:
    """Whatever the order of their steps, and though some are refused by a lock that nobody has."""
    dice = random.Random(seed)
    cluster, dead = Cluster(), set[int]()
    owner(cluster, 1, dead, boot=99)
    if dice.random() < 0.7:
        dead.add(1)
    cluster.busy = lambda: dice.random() < 0.3
    processes = [Process(cluster, number, dead, takeover=True, boot=99) for number in range(2, 2 + dice.choice((2, 2, 3, 5)))]
    while any(not process.ended and process.owned is None for process in processes):
        ready = [process for process in processes if not process.ended and process.wake_s <= cluster.now_s]
        if not ready:
            cluster.now_s = min(process.wake_s for process in processes if not process.ended)
            continue
        for _ in range(dice.choice((1, 1, 2, 5))):
            process = dice.choice(ready)
            if not process.ended and process.wake_s <= cluster.now_s:
                process.step()
        together(*processes)
    assert sum(process.may_answer for process in processes) == 1


def test_a_medium_that_is_slow_at_the_start_costs_time_and_not_the_pool() -> None:
    cluster = Cluster()
    one = Process(cluster, 1, set(), takeover=False)
    slow = iter((0, 0, 0, 0, 12, 12, 12, 1))
    while one.owned is None:
        one.step()
        assert not one.ended
        cluster.now_s += next(slow, 0)
    assert one.may_answer
    cluster = Cluster()
    one = Process(cluster, 1, set(), takeover=False)
    while not one.ended:
        one.step()
        assert one.owned is None
        cluster.now_s += 12                 # always: it says so
    assert cluster.now_s < 1000


def test_an_owner_whose_lock_was_taken_away_is_blocked_by_its_record() -> None:
    cluster = Cluster()
    first = owner(cluster, 1, set())
    cluster.holder = ""
    finish(Process(cluster, 2, set(), takeover=True))
    assert cluster.blocked == {first.me.client}


def test_a_stranger_with_the_lock_is_named_and_left_alone() -> None:
    cluster = Cluster()
    cluster.holder = "10.9.9.9:0/7"
    with pytest.raises(OwnedError, match=r"client of the cluster at 10\.9\.9\.9:0/7"):
        fencing.run(observe(opener(2, set()), cluster.clock), Client(cluster, "10.0.0.2:0/1"))


def test_a_pool_that_was_given_up_is_nobodys() -> None:
    cluster = Cluster()
    first = owner(cluster, 1, set())
    assert first.owned is not None
    fencing.run(first.owned.release(), first.client)
    cluster.holder = ""
    record = Record.unpack(cluster.record)
    assert record is not None
    assert record.state is State.GIVEN_UP
    assert finish(Process(cluster, 2, set(), takeover=False)) == []
    assert not cluster.blocked
