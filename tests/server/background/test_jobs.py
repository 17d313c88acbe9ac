"""Jobs: progress, ends of every kind, memory of the last; space that comes back after a delete."""

from __future__ import annotations

import asyncio

import pytest

from target.errors import LunetteError
from target.server.background import reclaiming
from target.server.background.jobs import REMEMBERED, Job, Jobs
from tests.server.conftest import Control


async def test_a_job_counts_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, told = Jobs(), []
    jobs.changed = lambda job: told.append((job.state, job.done))
    with jobs.run("send", ["v@s"], total=100) as job:
        job.advance(25)
        row = job.as_json()
        assert (row["percent"], row["left"], row["state"], row["cancellable"]) == (25.0, 75, "running", True)
        job.advance(75)
    row = job.as_json()
    assert (row["state"], row["percent"], row["cancellable"], row["left"]) == ("done", 100.0, False, 0)
    assert told[0] == ("running", 0)
    assert told[-1] == ("done", 100)


async def test_a_job_that_breaks_says_why() -> None:
    jobs = Jobs()
    with pytest.raises(LunetteError), jobs.run("send") as job:
        raise LunetteError("no_space", "the pool is full")
    assert (job.state, job.message) == ("failed", "the pool is full")


async def test_who_cancels_a_job_ends_its_block_and_not_its_task() -> None:
    jobs = Jobs()

    async def work() -> str:
        try:
            with jobs.run("send"):
                await asyncio.Event().wait()
        except LunetteError as error:
            return error.code
        return "never"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    job = jobs.all()[0]
    job.cancel()
    assert await task == "aborted"
    assert job.state == "cancelled"
    with pytest.raises(LunetteError, match="is cancelled already"):
        job.cancel()


async def test_a_task_that_somebody_else_cancels_is_cancelled() -> None:
    jobs = Jobs()

    async def work() -> None:
        with jobs.run("send"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert jobs.all()[0].state == "cancelled"


async def test_a_job_is_cancelled_before_its_first_step() -> None:
    jobs, steps = Jobs(), []

    async def work(job: Job) -> None:
        steps.append(job)

    job = jobs.start("send", work)
    job.cancel()
    await job.over.wait()
    assert (job.state, steps) == ("cancelled", [])


async def test_only_the_last_that_ended_are_remembered() -> None:
    jobs = Jobs()
    for _ in range(REMEMBERED + 10):
        with jobs.run("send"):
            pass
    assert [job.id for job in jobs.all()] == list(range(REMEMBERED + 10, 10, -1))
    with pytest.raises(LunetteError, match="there is no job 1"):
        jobs.find(1)


async def test_space_that_comes_back_slowly_is_a_job(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [256 << 20, 256 << 20, 128 << 20, 64 << 20]
    stats = control.pool.stats
    monkeypatch.setattr(reclaiming, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(control.pool, "stats", lambda: {**stats(), "pending_bytes": left.pop(0) if left else 0})
    await control.daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 30})
    await control.daemon.commands.run("delete", {"names": ["v"]})
    job = control.daemon.jobs.all()[0]
    await job.over.wait()
    assert (job.kind, job.names, job.state) == ("reclaim", ("v",), "done")
    assert job.done == job.total
    with pytest.raises(LunetteError, match="is done already"):
        job.cancel()
