"""Work on the whole pool in the background: one run at a time of each kind, started, watched and stopped (docs/operations.md)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from target.errors import LunetteError
from target.server.background.jobs import Job, Jobs
from target.volumes.gateway import AsyncPool, PoolError, pool_error


class PoolWork:
    """One kind of work. What people see of the last run is `_state`: "state" says running, how it ended, or never run."""

    name = ""                   # for messages
    unit = "bytes"              # of its job's progress

    def __init__(self, pool: AsyncPool, jobs: Jobs | None = None) -> None:
        self._pool = pool
        self._jobs = jobs or Jobs()
        self._job: Job | None = None
        self._state: dict[str, Any] = {"state": "never run"}

    def status(self) -> dict[str, Any]:
        """How the run stands, or how the last one ended, and its figures."""
        if self._job is not None and self._job.state == "cancelled":
            self._ended("stopped")      # also before its first step
        return dict(self._state)

    def start(self, rate_bytes: int) -> None:
        """Begin, at most `rate_bytes` a second (0: as fast as it goes). LunetteError busy when one runs."""
        if self._job is not None and self._job.state == "running":
            raise LunetteError("busy", f"a {self.name} is running already")
        self._state = {"state": "running", "started_s": time.time(), "rate_bytes": rate_bytes, **self._figures()}
        self._job = self._jobs.start(self.name, lambda job: self._watched(job, rate_bytes), unit=self.unit)

    async def over(self) -> None:
        """Wait until it does not run."""
        if self._job is not None:
            await self._job.over.wait()

    async def stop(self) -> None:
        """Go no further."""
        if self._job is not None and self._job.state == "running":
            self._job.cancel()
            await self._job.over.wait()
            self._ended("stopped")

    async def _watched(self, job: Job, rate_bytes: int) -> None:
        self._job = job
        try:
            self._ended(await self._run(rate_bytes))
        except asyncio.CancelledError:
            self._ended("stopped")
            raise
        except PoolError as error:
            self._ended(f"failed: {error}")
            raise pool_error(error.code, self.name) from None
        except Exception as error:
            self._ended(f"failed: {type(error).__name__}: {error}")
            raise
        finally:
            self._further()

    def _ended(self, state: str) -> None:
        if self._state["state"] == "running":
            self._state.update(state=state, finished_s=time.time())

    def _further(self) -> None:
        """Tell the job how far it is."""
        if self._job is not None:
            done, total = self._done()
            self._job.at(done, total)

    def _done(self) -> tuple[int, int]:
        """How much of how much is done, in `unit`."""
        raise NotImplementedError

    def _figures(self) -> dict[str, Any]:
        """What a run counts, as it begins."""
        raise NotImplementedError

    async def _run(self, rate_bytes: int) -> str:
        """Do it, `_state` up to date; how it ended."""
        raise NotImplementedError
