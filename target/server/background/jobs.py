"""Jobs: work that takes longer than a person waits: what each is, how far it is, how it ends (docs/architecture.md, Jobs).

A job counts bytes, or whatever its `unit` says. It runs in a task; who cancels the job cancels the task. The last ones that ended
are remembered, so that who asks late learns how they did.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Literal

from target.errors import LunetteError

log = logging.getLogger("lunette.jobs")

REMEMBERED = 64         # jobs that ended
RATE_SECONDS = 10.0     # over which the present rate is taken
TOLD_SECONDS = 1.0      # between two events about one job's progress

State = Literal["running", "done", "failed", "cancelled"]
Json = dict[str, Any]


class Job:
    """One piece of long work. Whoever does it calls `advance`; `total` may be learned later."""

    def __init__(self, jobs: Jobs, number: int, kind: str, names: Sequence[str], total: int | None, unit: str) -> None:
        self.id = number
        self.kind = kind
        self.names = tuple(names)       # of objects that it concerns; none: the whole pool
        self.total = total
        self.unit = unit
        self.done = 0
        self.state: State = "running"
        self.message = ""
        self.by = jobs.caller()
        self.started_s = time.time()
        self.finished_s: float | None = None
        self._jobs = jobs
        self._seen: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._told_s = 0.0
        self.end: Callable[[], object] | None = None     # None: it cannot be cancelled
        self.asked_to_end = False
        self.over = asyncio.Event()

    def advance(self, by: int, message: str = "") -> None:
        """So much more is done."""
        self.at(self.done + by, message=message)

    def at(self, done: int, total: int | None = None, message: str = "") -> None:
        """So much is done in all."""
        self.done, self.total, self.message = done, self.total if total is None else total, message or self.message
        now = time.monotonic()
        if now - self._seen[-1][0] >= RATE_SECONDS / 10:
            self._seen.append((now, done))
            while now - self._seen[0][0] > RATE_SECONDS:
                self._seen.popleft()
        if now - self._told_s >= TOLD_SECONDS:
            self._told_s = now
            self._jobs.changed(self)

    def cancel(self) -> None:
        """End it. LunetteError busy for one that ended, or that cannot be ended."""
        if self.state != "running" or self.end is None:
            raise LunetteError("busy", f"job {self.id} ({self.kind}) " + (
                "cannot be cancelled" if self.state == "running" else f"is {self.state} already"))
        self.asked_to_end = True
        self.end()

    def as_json(self) -> Json:
        """What people see: bytes or the unit done, in all and left, percent, per second, seconds left."""
        seconds = time.monotonic() - self._seen[0][0]
        rate = (self.done - self._seen[0][1]) / seconds if self.state == "running" and seconds > 0 else 0.0
        left = None if self.total is None else max(0, self.total - self.done)
        whole = self.finished_s if self.finished_s is not None else time.time()
        return {"id": self.id, "kind": self.kind, "names": list(self.names), "state": self.state, "unit": self.unit,
                "done": self.done, "total": self.total, "left": left,
                "percent": None if not self.total else round(min(100.0, 100 * self.done / self.total), 1),
                "rate_per_second": round(rate, 1), "left_seconds": round(left / rate, 1) if left and rate > 0 else None,
                "started_s": self.started_s, "finished_s": self.finished_s, "seconds": round(max(0.0, whole - self.started_s), 3),
                "message": self.message, "by": self.by, "cancellable": self.state == "running" and self.end is not None}


class Jobs:
    """The jobs of one daemon, those that run and the last that ended."""

    def __init__(self) -> None:
        self.changed: Callable[[Job], None] = lambda job: None      # begun, further, ended
        self.caller: Callable[[], str] = lambda: "lunette"          # who asks for what begins now
        self._next = 1
        self._running: dict[int, Job] = {}
        self._ended: deque[Job] = deque(maxlen=REMEMBERED)
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def run(self, kind: str, names: Sequence[str] = (), *, total: int | None = None, unit: str = "bytes") -> Iterator[Job]:
        """A job for as long as the block lasts, in this task. Cancelled, it ends the block with LunetteError aborted."""
        task = asyncio.current_task()
        with self._lasting(self._begin(kind, names, total, unit, None if task is None else task.cancel)) as job:
            yield job

    def start(self, kind: str, work: Callable[[Job], Coroutine[Any, Any, Any]], names: Sequence[str] = (), *,
              total: int | None = None, unit: str = "bytes", cancellable: bool = True) -> Job:
        """A job that nobody waits for: `work` is given it, in a task of its own. What it raises is the job's message."""
        job = self._begin(kind, names, total, unit, None)

        async def watched() -> None:
            try:
                with self._lasting(job):
                    await work(job)
            except LunetteError:
                pass                    # the job tells
            except Exception:
                log.exception("job %d (%s) failed", job.id, kind)

        task = asyncio.create_task(watched(), name=kind)
        job.end = task.cancel if cancellable else None
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._gone(job, ended))
        return job

    def all(self) -> list[Job]:
        """Those that run, then those that ended, each the newest first."""
        return [*reversed(self._running.values()), *reversed(self._ended)]

    def find(self, number: int) -> Job:
        """LunetteError not_found."""
        found = next((job for job in self.all() if job.id == number), None)
        if found is None:
            raise LunetteError("not_found", f"there is no job {number}")
        return found

    async def stop(self) -> None:
        """End all that run in tasks of their own."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- inside --------------------------------------------------------------------------------------------------
    def _begin(self, kind: str, names: Sequence[str], total: int | None, unit: str, end: Callable[[], object] | None) -> Job:
        job = Job(self, self._next, kind, names, total, unit)
        job.end = end
        self._next += 1
        self._running[job.id] = job
        self.changed(job)
        return job

    @contextlib.contextmanager
    def _lasting(self, job: Job) -> Iterator[Job]:
        """From now on until the block ends, as whatever it ended."""
        try:
            yield job
        except asyncio.CancelledError:
            self._ended_as(job, "cancelled", job.message)
            task = asyncio.current_task()
            if job.asked_to_end and task is not None:
                task.uncancel()
                raise LunetteError("aborted", f"job {job.id} ({job.kind}) was cancelled") from None
            raise
        except BaseException as error:
            self._ended_as(job, "failed", str(error) or type(error).__name__)
            raise
        self._ended_as(job, "done", job.message)

    def _gone(self, job: Job, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if job.state == "running":      # cancelled before its first step
            self._ended_as(job, "cancelled", "")

    def _ended_as(self, job: Job, state: State, message: str) -> None:
        job.state, job.message, job.finished_s = state, message, time.time()
        del self._running[job.id]
        self._ended.append(job)
        job.over.set()
        self.changed(job)
