"""Becoming a pool's owner where the medium itself can refuse a client for good: a Ceph cluster (docs/ceph.md, Taking over).

Sans-I/O, as `core/ownership.py`, whose record, lease and renewals count here as well. What differs is how an owner that lives is
made to end: it is blocked first, so that nothing it has sent or will send reaches the medium after this opener touches it; its
lock is broken and taken; and what it may still say from memory is over when its lease is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

from core import ownership
from core.ownership import (
    POLL_S,
    ROUNDS,
    Answer,
    Clock,
    LostError,
    Medium,
    Opener,
    OwnedError,
    Ownership,
    Pause,
    Record,
    Sleep,
    State,
    Steps,
    Verdict,
    Write,
    boot_clock,
    recorded,
    run_by,
    same_sign,
)

RATE = 1.1                  # by how much two machines' clocks may differ in their rate, and more
SLACK_S = 0.2
LETTING_GO_S = 3.0          # an owner has given the pool up, and has its lock for this long at most


class Holders(NamedTuple):
    """Answered with the addresses that have the medium's lock."""


class Block(NamedTuple):
    """Answered when the medium refuses that client for good, and this one's next request is sure to be behind that.

    `record` is what is known of the client's process.
    """

    address: str
    record: Record | None


class Break(NamedTuple):
    """Take the lock from that client, which is blocked; nothing happens when it has it no more."""

    address: str


class Lock(NamedTuple):
    """Answered with whether the lock is ours (`granted`); else somebody has it, or had it while we tried."""


T = TypeVar("T")


class FencingMedium(Medium, Protocol):
    """A medium with a lock that names its holder, and which can refuse a client for good. OSError."""

    def lockers(self) -> list[str]: ...
    def block(self, address: str, record: Record | None) -> None: ...
    def break_lock(self, address: str) -> bool: ...
    def lock(self) -> bool: ...


def run(steps: Steps[T], medium: FencingMedium, sleep: Pause = time.sleep) -> T:
    """Perform a protocol to its end. OSError of the medium, OwnedError, LostError."""
    return run_by(perform, steps, medium, sleep)


def perform(step: object, medium: FencingMedium, sleep: Pause) -> Answer:
    """One step; what it is answered with."""
    if isinstance(step, Holders):
        return Answer(addresses=tuple(medium.lockers()))
    if isinstance(step, Lock):
        return Answer(granted=medium.lock())
    if isinstance(step, Block):
        medium.block(step.address, step.record)
    elif isinstance(step, Break):
        medium.break_lock(step.address)
    return ownership.perform(step, medium, sleep)


def take(me: Opener, clock: Clock = boot_clock, *, takeover: bool = False) -> Steps[Ownership]:
    """Own a pool whose medium fences. An owner that lives, or may, is left alone unless `takeover`. OwnedError, held."""
    claim = me.claim(time.time_ns() // 1000)
    suspects, last = yield from observe(me, clock, takeover=takeover)
    blocked: list[str] = []
    while True:
        for address in suspects:
            yield Block(address, last if last is not None and last.client == address else None)
        blocked += suspects
        yield from _lock(blocked, claim, me)
        last = yield from recorded()    # all that could still change it are blocked ...
        suspects = [each for each in _suspects([], last, me) if each not in blocked]
        if not suspects:
            break                               # ... unless it had the lock between the look and now
        if last is not None and not takeover:
            raise OwnedError(last, Verdict.HELD)
    silent_s = _silent_after_s(blocked, last, me)
    # Who takes the pool from this claim waits as long: it does not know whom this one waits for.
    yield Write(replace(claim, lease_ms=max(claim.lease_ms, round(silent_s * 1000))).pack())
    if silent_s:
        # Only now is it sure that no request of the old owner's can succeed any more, and so extend its lease.
        yield Sleep(silent_s * RATE + SLACK_S)
    predecessor = last if last is not None and last.state is not State.GIVEN_UP else None
    return (yield from _begin(claim, predecessor, clock))


def _silent_after_s(blocked: list[str], last: Record | None, me: Opener) -> float:
    """How long somebody that is blocked may still answer from memory, by its own lease.

    An owner that is seen to be dead answers nothing, nor does one that gave the pool up, and both had waited for whoever came
    before. One that had only claimed it, dead or not, may have been waiting for somebody that lives.
    """
    if not blocked:
        return 0.0
    if last is None:
        return me.lease_s
    silent = last.state is State.GIVEN_UP or (last.state is State.OWNED and _dead(last, me))
    return 0.0 if silent else max(me.lease_s, last.lease_s)


def _lock(blocked: list[str], claim: Record, me: Opener) -> Steps[None]:
    """Break the lock of those that are blocked, and have it. OwnedError: somebody else was granted the pool, and was first.

    Of several that are at it some are refused by a lock that nobody has in the end: they look again.
    """
    for _ in range(ROUNDS):
        for address in blocked:
            yield Break(address)
        if (yield Lock()).granted:
            return
        holders, record = yield from _look()
        if set(_suspects(holders, record, me)) - set(blocked):
            break
        yield Sleep(POLL_S)
    raise OwnedError((yield from recorded()) or claim, Verdict.HELD)


def _begin(claim: Record, predecessor: Record | None, clock: Clock) -> Steps[Ownership]:
    """The lease of who has the lock and has claimed the pool. Nothing is answered yet: what takes too long is done again."""
    for left in reversed(range(ROUNDS)):
        began_s = clock()
        found = yield from recorded()
        if found is None or found.owner != claim.owner:
            raise OwnedError(found or claim, Verdict.HELD)
        mine = Ownership(replace(claim, state=State.OWNED, counter=found.counter), predecessor, clock, began_s)
        try:
            return (yield from mine.renew())
        except LostError:
            if mine.valid() or not left:
                raise
    raise AssertionError


def observe(me: Opener, clock: Clock = boot_clock, *, takeover: bool = False) -> Steps[tuple[list[str], Record | None]]:
    """Wait until nobody that lives owns the pool: the clients that must be blocked first, and the last record. OwnedError."""
    holders, before = yield from _look()
    first, since_s = before, clock()
    while True:
        suspects = _suspects(holders, before, me)
        if not suspects or takeover or _dead(before, me):
            return suspects, before
        letting_go = before is not None and before.state is State.GIVEN_UP and clock() - since_s < LETTING_GO_S
        if not letting_go:
            if before is None or before.client not in suspects or _alive(before, me):
                raise OwnedError(before if before is not None and _alive(before, me) else _stranger(suspects[0]), Verdict.HELD)
            if not same_sign(before, first):
                raise OwnedError(before, Verdict.HELD)
            if clock() - since_s > before.window_s:
                return suspects, before
        yield Sleep(POLL_S)
        holders, before = yield from _look()


def _look() -> Steps[tuple[list[str], Record | None]]:
    holders = list((yield Holders()).addresses)
    return holders, (yield from recorded())


def _suspects(holders: list[str], record: Record | None, me: Opener) -> list[str]:
    """Whoever may write or answer: those that have the lock, and the owner of record, whose lock may have been taken away."""
    known = [record.client] if record is not None and record.client and record.state is not State.GIVEN_UP else []
    return [each for each in dict.fromkeys([*holders, *known]) if each != me.client]


def _stranger(address: str) -> Record:
    """Who has the lock and has not said who it is: its start is not over, or it is no gateway."""
    return Record(state=State.CLAIMED, owner=bytes(16), client=address)


def _seen(record: Record | None, me: Opener) -> bool:
    """Can the process that wrote a record be looked at from here?"""
    return record is not None and record.boot == me.boot != bytes(16) and record.pid_namespace == me.pid_namespace != 0


def _dead(record: Record | None, me: Opener) -> bool:
    return record is not None and _seen(record, me) and not me.alive(record.pid, record.started)


def _alive(record: Record | None, me: Opener) -> bool:
    return (record is not None and _seen(record, me) and record.state is not State.GIVEN_UP
            and me.alive(record.pid, record.started))
