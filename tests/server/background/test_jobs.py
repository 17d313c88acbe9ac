"""Jobs: progress, ends of every kind, memory of the last; space that comes back after a delete."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

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
    await asyncio.sleep(0)
    job = control.daemon.jobs.all()[0]
    await job.over.wait()
    assert (job.kind, job.names, job.state) == ("reclaim", ("v",), "done")
    assert job.done == job.total
    with pytest.raises(LunetteError, match="is done already"):
        job.cancel()


async def _row(control: Control, wanted: str) -> dict[str, Any]:
    """The last job, once it is in that state or has counted."""
    async with asyncio.timeout(30):
        while True:
            rows = await asyncio.to_thread(control.client.get, "/v1/jobs")
            if rows and (rows[-1]["state"] == wanted and (wanted != "running" or rows[-1]["done"])):
                found: dict[str, Any] = rows[-1]
                return found
            await asyncio.sleep(0.01)


async def test_what_a_command_does_outside_the_daemon_is_a_job_that_counts_and_ends(control: Control) -> None:
    def work() -> None:
        with control.client.job("backup", name="v@s", repository="attic") as told:
            told(4096, 8192, 100)
            go_on.wait(30)
            told(8192, 8192, 200)

    go_on = threading.Event()
    working = asyncio.create_task(asyncio.to_thread(work))
    row = await _row(control, "running")
    assert (row["kind"], row["names"], row["done"], row["total"], row["unit"]) == ("backup", ["v@s"], 4096, 8192, "bytes")
    go_on.set()
    await working
    row = await _row(control, "done")
    assert (row["done"], row["total"]) == (8192, 8192)
    transfers = control.daemon.transfers
    assert (transfers.moved_bytes()["backup"], transfers.ended["backup", "done"]) == (200, 1)
    assert list(transfers.last_success_s) == [("backup", "v")]
    text = b"".join(await asyncio.to_thread(lambda: list(control.client.stream("/metrics", print)))).decode()
    assert 'lunette_transfer_bytes_total{kind="backup"} 200.0' in text
    assert 'last_success_timestamp_seconds{kind="backup",volume="v"}' in text


async def test_a_job_outside_the_daemon_is_cancelled_from_inside(control: Control) -> None:
    def work() -> None:
        with control.client.job("gc", repository="attic", unit="packs") as told:
            while True:
                told(1, 2, 0)
                time.sleep(0.01)

    working = asyncio.create_task(asyncio.to_thread(work))
    row = await _row(control, "running")
    await asyncio.to_thread(control.client.delete, f"/v1/jobs/{row['id']}")
    with pytest.raises(LunetteError, match="was cancelled"):
        await working
    assert (await _row(control, "cancelled"))["unit"] == "packs"
    assert control.daemon.transfers.ended["gc", "cancelled"] == 1


async def test_a_job_whose_command_fails_or_goes_away_has_failed(control: Control) -> None:
    def fails() -> None:
        with control.client.job("check", repository="attic", unit="packs"):
            raise LunetteError("store", "the store is gone")

    with pytest.raises(LunetteError, match="the store is gone"):
        await asyncio.to_thread(fails)
    assert (await _row(control, "failed"))["message"] == "the store is gone"
    assert not control.daemon.transfers.last_success_s
    reader, writer = await asyncio.open_unix_connection(str(control.socket))
    writer.write(b"POST /v1/jobs?kind=verify&repository=attic HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await reader.readuntil(b'{"id":')
    writer.close()
    async with asyncio.timeout(30):
        await control.daemon.jobs.find(2).over.wait()
    assert (await _row(control, "failed"))["message"] == "the command that did it ended"


@pytest.mark.parametrize("line", ["no JSON", "[1]", '{"done": -1}', '{"state": "asleep"}', '{"more": 1}'])
async def test_a_report_that_makes_no_sense_ends_the_job(control: Control, line: str) -> None:
    reader, writer = await asyncio.open_unix_connection(str(control.socket))
    writer.write(b"POST /v1/jobs?kind=verify&repository=attic HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                 + b"%x\r\n%s\n\r\n" % (len(line) + 1, line.encode()))
    said = await asyncio.wait_for(reader.readuntil(b'"code":"'), 30) + await reader.read(100)
    writer.close()
    assert b"invalid" in said
    assert (await _row(control, "failed"))["message"]


async def test_thousands_of_deletes_cost_one_look_at_the_pool_a_turn(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(control.daemon.pool, "stats", lambda: looks.append(1) or {"pending_bytes": 0})
    watching = reclaiming.Reclaiming(control.daemon.pool, Jobs())
    for number in range(1000):
        watching.watch([f"v{number}"])
    await asyncio.sleep(0)
    assert len(looks) == 1
