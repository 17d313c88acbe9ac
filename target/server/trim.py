"""Trim: find all free space that the medium may still keep, and give it back, at a bounded rate (docs/operations.md).

The engine marks what is free (its `trim` operation, in slices of runs) and gives what is marked back in the background, as it
does with what overwriting frees. Marks are in memory only: what a crash or a close caught unswept is found again here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, PoolError

RUN_BYTES = 2 << 20
SLICE_RUNS = 256
BACKLOG_RUNS = 1024                         # marked and not given back: more are not looked for meanwhile
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 10.0                     # without progress: what is left is kept for writers, or in use again


class Trim:
    """One trim at a time, beside whatever initiators do."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._state: dict[str, Any] = {"state": "never run"}

    def status(self) -> dict[str, Any]:
        """Progress: state, bytes of the pool looked at, of them found free, and of those given back."""
        return dict(self._state)

    def start(self, rate_bytes: int) -> None:
        """Begin; at most `rate_bytes` of free space a second (0: as fast as it goes). LunetteError busy when one runs."""
        if self._task is not None and not self._task.done():
            raise LunetteError("busy", "a trim is running already")
        self._state = {"state": "running", "started_s": time.time(), "size_bytes": self._pool.pool.size_bytes, "looked_bytes": 0,
                       "found_bytes": 0, "trimmed_bytes": 0, "rate_bytes": rate_bytes}
        self._task = asyncio.create_task(self._run(rate_bytes), name="trim")

    async def stop(self) -> None:
        """Look for no more; what is marked goes back in the background all the same."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._state["state"] = "stopped"

    async def _run(self, rate_bytes: int) -> None:
        began, before = time.monotonic(), self._pool.stats()["punched_bytes"]
        cursor: int | None = 0
        slice_runs = min(SLICE_RUNS, max(1, rate_bytes // 4 // RUN_BYTES)) if rate_bytes else SLICE_RUNS
        try:
            while cursor is not None:
                cursor, found = await self._pool.call("trim", cursor=cursor, limit=slice_runs)
                self._state["found_bytes"] += found
                self._state["looked_bytes"] = self._state["size_bytes"] if cursor is None else cursor
                await self._swept(BACKLOG_RUNS, before)
                if rate_bytes:
                    await asyncio.sleep(max(0.0, self._state["found_bytes"] / rate_bytes - (time.monotonic() - began)))
            await self._swept(0, before)
            self._state["state"] = "done"
        except PoolError as error:
            self._state["state"] = f"failed: {error}"
        finally:
            self._state["finished_s"] = time.time()

    async def _swept(self, runs: int, before: int) -> None:
        """Wait until no more than so many runs wait to be given back, or nothing has moved for a while."""
        last, moved_s = -1, time.monotonic()
        while True:
            stats = self._pool.stats()
            self._state["trimmed_bytes"] = stats["punched_bytes"] - before
            if stats["punch_runs"] <= runs or time.monotonic() - moved_s > PATIENCE_SECONDS:
                return
            if stats["punched_bytes"] != last:
                last, moved_s = stats["punched_bytes"], time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
