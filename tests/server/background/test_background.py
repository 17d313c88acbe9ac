"""Work that nobody waits for: what fails is logged, and nothing runs on after the stop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from target.server.background import monitor
from target.server.background.detached import Background
from target.server.background.pool_work import PoolWork
from tests.support.waiting import eventually


async def nap(turns: int, done: list[str]) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    done.append("slept")


async def never() -> None:
    await asyncio.Event().wait()


def test_stop_waits_for_what_ends_in_time_and_cancels_the_rest() -> None:
    done: list[str] = []

    async def run() -> tuple[asyncio.Task[None], asyncio.Task[None]]:
        background = Background()
        tasks = background.spawn(nap(5, done), "short"), background.spawn(never(), "long")
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


def test_the_monitor_survives_what_it_looks_at(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    class Broken(monitor.SpaceMonitor):
        def __init__(self) -> None:
            self._task = None

        def look(self) -> None:
            looks.append(1)
            raise KeyError("no such thing")

    async def run() -> None:
        one = Broken()
        one.start()
        await eventually(lambda: len(looks) > 2)
        await one.stop()

    monkeypatch.setattr(monitor, "PERIOD_SECONDS", 0.001)
    asyncio.run(run())
    assert len(looks) > 2
    assert "could not be looked at" in caplog.text


class Unlucky(PoolWork):
    name = "errand"

    def _done(self) -> tuple[int, int]:
        return self._state["steps"], 1

    def _figures(self) -> dict[str, Any]:
        return {"steps": 0}

    async def _run(self, rate_bytes: int) -> str:
        self._state["steps"] += 1
        if rate_bytes:
            raise ValueError("that was not expected")
        return "done"


def test_work_on_the_pool_that_breaks_says_so_and_can_begin_again(caplog: pytest.LogCaptureFixture) -> None:
    async def run(work: Unlucky, rate_bytes: int) -> dict[str, Any]:
        work.start(rate_bytes)
        while work.status()["state"] == "running":      # noqa: ASYNC110
            await asyncio.sleep(0)
        return work.status()

    work = Unlucky(None)        # type: ignore[arg-type]
    failed = asyncio.run(run(work, 1))
    assert failed["state"] == "failed: ValueError: that was not expected"
    assert failed["finished_s"] >= failed["started_s"]
    assert "(errand) failed" in caplog.text
    assert asyncio.run(run(work, 0))["state"] == "done"
