"""Which connection goes when too many do not log in, and what the log says of them (iscsi/half_open.py, throttle.py)."""

from __future__ import annotations

import asyncio

from target.server.iscsi.half_open import HalfOpen
from target.server.iscsi.throttle import MOST_KEYS, Throttle


async def waiting() -> list[asyncio.Task[None]]:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(for_ever()) for _ in range(6)]
    await asyncio.sleep(0)
    return tasks


async def test_the_oldest_that_has_not_begun_goes_first() -> None:
    half_open, tasks = HalfOpen(most=100, most_per_peer=3), await waiting()
    for task in tasks[:3]:
        assert not half_open.make_room("a")
        half_open.enter(task, "a")
    half_open.begun(tasks[0])
    assert not half_open.make_room("b")
    assert half_open.make_room("a")
    half_open.enter(tasks[3], "a")
    await asyncio.sleep(0)
    assert [task.cancelled() for task in tasks] == [False, True, False, False, False, False]
    for task in tasks:
        half_open.begun(task)
    assert half_open.make_room("a")     # all have begun: the oldest of them
    await asyncio.sleep(0)
    assert tasks[0].cancelled()
    assert len(half_open) == 2
    half_open.leave(tasks[2])
    half_open.leave(tasks[2])
    assert len(half_open) == 1


async def test_there_is_a_bound_over_all_addresses() -> None:
    half_open, tasks = HalfOpen(most=3, most_per_peer=100), await waiting()
    for number, task in enumerate(tasks[:3]):
        half_open.enter(task, f"peer{number}")
    assert half_open.make_room("another")
    await asyncio.sleep(0)
    assert tasks[0].cancelled()


def test_the_log_says_a_burst_then_how_many_it_left_out() -> None:
    now = [0.0]
    throttle = Throttle(10, burst=2, clock=lambda: now[0])
    assert [throttle.more("a") for _ in range(5)] == ["", "", None, None, None]
    assert throttle.more("b") == ""
    now[0] = 10.0
    assert throttle.more("a") == " (3 more since the last such line)"
    assert throttle.more("b") == ""
    for number in range(2 * MOST_KEYS):
        throttle.more(number)
    assert len(throttle._said) <= MOST_KEYS
