"""Whether it pays to stay awake for the next command (core/wire/trial.pyx), by a clock of the test's."""

import random
from collections.abc import Callable

from core.wire.trial import Trial

ROUND = 17 * 256    # turns from trial to trial


def waits(trial: Trial, us_to_next: Callable[[bool], float], turns: int, *, now_us: int = 0) -> tuple[int, int]:
    """So many turns, of which each comes after what the way of waiting makes of it. How many were awake; the clock."""
    awake = 0
    for _ in range(turns):
        now_us += int(us_to_next(trial.awake))
        awake += trial.awake
        trial.heard(now_us, 1)
    return awake, now_us


def test_what_brings_commands_sooner_is_kept() -> None:
    for asleep_us, awake_us, most in ((60, 40, True), (40, 60, False), (100, 92, True), (50, 50, False)):
        chance = random.Random(1)
        awake, _ = waits(Trial(), lambda awake, a=awake_us, b=asleep_us, c=chance: c.gauss(a if awake else b, 8), 4 * ROUND)
        assert (awake > 3.8 * ROUND) if most else (awake < 0.2 * ROUND), (asleep_us, awake_us)


def test_a_command_is_what_counts_not_a_turn() -> None:
    """Awake, turns come in half the time but bring less than half of the commands."""
    trial, now_us, awake = Trial(), 0, 0
    for _ in range(2 * ROUND):
        now_us += 20 if trial.awake else 40
        awake += trial.awake
        trial.heard(now_us, 3 if trial.awake else 8)
    assert awake < 0.2 * ROUND


def test_commands_at_times_of_their_own_are_waited_for_asleep() -> None:
    """They come at the same rate either way, and by chance sooner or later."""
    awake = 0
    for seed in range(20):
        chance = random.Random(seed)
        awake += waits(Trial(), lambda _, c=chance: c.expovariate(1 / 35), 4 * ROUND)[0]
    assert awake < 20 * 4 * ROUND * 0.2


def test_it_follows_where_things_change() -> None:
    trial, chance = Trial(), random.Random(2)
    _, now_us = waits(trial, lambda awake: chance.gauss(40 if awake else 60, 8), 8 * ROUND)
    _, now_us = waits(trial, lambda awake: chance.gauss(60 if awake else 40, 8), 4 * ROUND, now_us=now_us)
    awake, now_us = waits(trial, lambda awake: chance.gauss(60 if awake else 40, 8), 4 * ROUND, now_us=now_us)
    assert awake < 0.3 * ROUND
    waits(trial, lambda awake: chance.gauss(40 if awake else 60, 8), 4 * ROUND, now_us=now_us)
    assert waits(trial, lambda awake: chance.gauss(40 if awake else 60, 8), 4 * ROUND, now_us=now_us)[0] > 3.8 * ROUND


def test_an_initiator_that_pauses_is_no_evidence() -> None:
    """A gap of seconds counts as what a wake-up could take at most, and may lie in either half."""
    trial, chance, now_us, awake = Trial(), random.Random(3), 0, 0
    for _ in range(6 * ROUND):
        now_us += 3_000_000 if chance.random() < 0.001 else int(chance.gauss(50, 8))
        awake += trial.awake
        trial.heard(now_us, 1)
    assert awake < 0.2 * 6 * ROUND
