"""Trim: find all free space that the medium may still keep, and give it back, at a bounded rate (docs/operations.md).

The engine marks what is free (its `trim` operation, in slices of runs) and gives what is marked back in the background, as it
does with what overwriting frees. Marks are in memory only: what a crash or a close caught unswept is found again here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from target.server.background.pool_work import PoolWork

log = logging.getLogger("lunette.trim")

RUN_BYTES = 2 << 20
SLICE_RUNS = 256
BACKLOG_RUNS = 1024                         # marked and not given back: more are not looked for meanwhile
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 10.0                     # without progress: what is left is kept for writers, or in use again


class Trim(PoolWork):
    """Beside whatever initiators do. What is marked when it is stopped goes back in the background all the same."""

    name = "trim"

    def resume(self) -> None:
        """Begin where an earlier life of the pool left free space with its medium: it ended before the sweep."""
        if self._pool.stats()["unswept"] and not self._pool.pool.read_only:
            log.info("free space that the medium may still keep is looked for, as by `pool trim`")
            self.start(0)

    def _figures(self) -> dict[str, Any]:
        """Bytes of the pool looked at, of them found free, and of those given back."""
        return {"size_bytes": self._pool.pool.size_bytes, "looked_bytes": 0, "found_bytes": 0, "trimmed_bytes": 0}

    def _done(self) -> tuple[int, int]:
        return self._state["looked_bytes"], self._state["size_bytes"]

    async def _run(self, rate_bytes: int) -> str:
        began, before = time.monotonic(), self._pool.stats()["punched_bytes"]
        cursor: int | None = 0
        slice_runs = min(SLICE_RUNS, max(1, rate_bytes // 4 // RUN_BYTES)) if rate_bytes else SLICE_RUNS
        while cursor is not None:
            cursor, found = await self._pool.call("trim", cursor=cursor, limit=slice_runs)
            self._state["found_bytes"] += found
            self._state["looked_bytes"] = self._state["size_bytes"] if cursor is None else cursor
            await self._swept(BACKLOG_RUNS, before)
            if rate_bytes:
                await asyncio.sleep(max(0.0, self._state["found_bytes"] / rate_bytes - (time.monotonic() - began)))
        await self._swept(0, before)
        return "done"

    async def _swept(self, runs: int, before: int) -> None:
        """Wait until no more than so many runs wait to be given back, or nothing has moved for a while."""
        last, moved_s = -1, time.monotonic()
        while True:
            stats = self._pool.stats()
            self._state["trimmed_bytes"] = stats["punched_bytes"] - before
            self._further()
            if stats["punch_runs"] <= runs or time.monotonic() - moved_s > PATIENCE_SECONDS:
                return
            if stats["punched_bytes"] != last:
                last, moved_s = stats["punched_bytes"], time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)
