"""Work that nobody waits for: what fails is logged, and nothing runs on after the stop."""

from __future__ import annotations

import asyncio
import logging

import pytest

from target.server.background import Background


async def nap(seconds: float, done: list[str]) -> None:
    await asyncio.sleep(seconds)
    done.append("slept")


def test_stop_waits_for_what_ends_in_time_and_cancels_the_rest() -> None:
    done: list[str] = []

    async def run() -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        background = Background()
        tasks = background.spawn(nap(0.01, done), "short"), background.spawn(nap(3600, done), "long")
        await background.stop(0.2)
        await background.stop(0.2)      # nothing is left to wait for
        return tasks

    short, long = asyncio.run(run())
    assert done == ["slept"]
    assert not short.cancelled()
    assert long.cancelled()


def test_a_failure_is_logged_once_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("that was not expected")

    async def run() -> None:
        background = Background()
        background.spawn(fail(), "erasing the medium")
        await asyncio.sleep(0.01)
        await background.stop(1)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert [each.getMessage() for each in caplog.records] == ["erasing the medium failed: that was not expected"]
    assert caplog.records[0].exc_info is not None
