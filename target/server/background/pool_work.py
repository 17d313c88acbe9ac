"""Work on the whole pool in the background: one run at a time of each kind, started, watched and stopped (docs/operations.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, PoolError

log = logging.getLogger("lunette.work")


class PoolWork:
    """One kind of work. What people see of the last run is `_state`: "state" says running, how it ended, or never run."""

    name = ""                   # for messages

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._state: dict[str, Any] = {"state": "never run"}

    def status(self) -> dict[str, Any]:
        """How the run stands, or how the last one ended, and its figures."""
        return dict(self._state)

    def start(self, rate_bytes: int) -> None:
        """Begin, at most `rate_bytes` a second (0: as fast as it goes). LunetteError busy when one runs."""
        if self._task is not None and not self._task.done():
            raise LunetteError("busy", f"a {self.name} is running already")
        self._state = {"state": "running", "started_s": time.time(), "rate_bytes": rate_bytes, **self._figures()}
        self._task = asyncio.create_task(self._watched(rate_bytes), name=self.name)

    async def stop(self) -> None:
        """Go no further."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            if self._state["state"] == "running":
                self._state["state"] = "stopped"

    async def _watched(self, rate_bytes: int) -> None:
        try:
            self._state["state"] = await self._run(rate_bytes)
        except PoolError as error:
            self._state["state"] = f"failed: {error}"
        except Exception as error:
            log.exception("the %s failed", self.name)
            self._state["state"] = f"failed: {type(error).__name__}: {error}"
        finally:
            self._state["finished_s"] = time.time()

    def _figures(self) -> dict[str, Any]:
        """What a run counts, as it begins."""
        raise NotImplementedError

    async def _run(self, rate_bytes: int) -> str:
        """Do it, `_state` up to date; how it ended."""
        raise NotImplementedError
