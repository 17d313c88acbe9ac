"""Space that comes back after a delete: the engine takes large maps apart in the background, and a job shows how far it is.

The delete itself is done when its command says so. Nothing here can undo or hasten it: the job cannot be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from target.server.background.jobs import Job, Jobs
from target.volumes.gateway import AsyncPool

LEAST_BYTES = 64 << 20      # pending: less is gone before anybody looks
LOOK_SECONDS = 0.5


class Reclaiming:
    """At most one such job at a time: what is deleted meanwhile joins it."""

    def __init__(self, pool: AsyncPool, jobs: Jobs) -> None:
        self._pool = pool
        self._jobs = jobs
        self._job: Job | None = None
        self._names: list[str] = []     # deleted in this turn of the loop

    def watch(self, names: Sequence[str]) -> None:
        """Objects were deleted: show what of them is still to come back, if that is much. Thousands cost one look a turn."""
        if self._job is not None and self._job.state == "running":
            return
        if not self._names:
            asyncio.get_running_loop().call_soon(self._look)
        self._names += names

    def _look(self) -> None:
        names, self._names = self._names, []
        pending = self._pending()
        if pending >= LEAST_BYTES:
            self._job = self._jobs.start("reclaim", self._wait, names, total=pending, cancellable=False)

    def _pending(self) -> int:
        return self._pool.stats().get("pending_bytes", 0)

    async def _wait(self, job: Job) -> None:
        most = done = 0
        while pending := self._pending():
            most = max(most, done + pending)
            done = most - pending
            job.at(done, most)
            await asyncio.sleep(LOOK_SECONDS)
        job.at(most, most)
