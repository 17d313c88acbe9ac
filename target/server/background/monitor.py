"""The pool's monitor: tells of damage; warns, and raises the unit attention, when the pool fills up (SBC-4 §4.7.3.8)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from target.scsi import LogicalUnit
from target.volumes.catalog import Catalog
from target.volumes.damage import describe
from target.volumes.gateway import AsyncPool

log = logging.getLogger("lunette.monitor")

PERIOD_SECONDS = 2.0
REARM_PERCENT = 2   # a threshold is crossed anew only after use fell so far below it
NAMES = {
    "deleted": "somebody has deleted the pool's file: all goes on, but it is gone when this process ends; save it first "
               "(docs/operations.md, A file that was deleted)",
    "moved": "the pool's file is not where it was: somebody has renamed it, or put another in its place; a start by the old path "
             "would serve something else",
    "": "the pool's file is where it was again",
}


class SpaceMonitor:
    """Looks at the pool's use every PERIOD_SECONDS."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, units: Callable[[], Iterable[LogicalUnit]],
                 missing_bytes: Callable[[], int] = lambda: 0, lost_name: Callable[[], str] = lambda: "") -> None:
        self._pool = pool
        self._missing_bytes = missing_bytes
        self.missing_bytes = 0              # so much was cut off the pool's file while it was served, at most
        self._lost_name = lost_name
        self.lost_name = ""                 # what became of the name that the pool's file had, as FileDevice.lost_name says it
        self._catalog = catalog
        self._units = units
        self._task: asyncio.Task[None] | None = None
        self._armed = {"soft": True, "hard": True}
        self._failed = False
        self._short = False
        self._told: dict[int, str] = {}        # bad pages that the log has named

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="space monitor")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("the pool's state could not be looked at")
            await asyncio.sleep(PERIOD_SECONDS)

    @property
    def state(self) -> str:
        """ "ok", "soft" or "hard", as the pool's use is now."""
        percent = self._pool.use_percent()
        return next((name for name, limit in reversed(self._limits().items()) if percent >= limit), "ok")

    def _limits(self) -> dict[str, int]:
        return {"soft": self._catalog.thresholds.soft_percent, "hard": self._catalog.thresholds.hard_percent}

    def look(self) -> None:
        """Compare the pool's use with the thresholds once."""
        size_bytes = self._pool.pool.size_bytes
        if not size_bytes:
            return
        stats = self._pool.stats()
        if stats.get("failed") and not self._failed:
            self._failed = True
            log.error("the pool is read-only from now on: %s; a restart recovers what was durable (docs/durability.md, Failures)",
                      self._pool.failure())
            for event in self._pool.trace():
                log.error("met %.0f s ago%s: %s", event.ago_s, f", {event.times} times" if event.times > 1 else "", event.text)
        self._damage()
        missing = self._missing_bytes()
        if missing > self.missing_bytes:
            log.error("somebody has made the pool's file %d bytes shorter: what lay there is lost, and reads of it fail or give "
                      "zeros; make it as long as it was before the next start, then scrub", missing)
            self._pool.fail_cut()
        self.missing_bytes = max(self.missing_bytes, missing)
        self._name()
        self._room_below(stats)
        percent = self._pool.use_percent()
        for name, limit in self._limits().items():
            if percent >= limit and self._armed[name]:
                self._armed[name] = False
                log.warning("the pool is %d %% full: its %s threshold is %d %%", percent, name, limit)
                for unit in self._units():
                    unit.threshold_reached()
            elif percent < limit - REARM_PERCENT:
                self._armed[name] = True
        for unit in self._units():
            unit.check_space()   # the thresholds that initiators set (mode page 1Ch/02h)

    def _room_below(self, stats: dict[str, int]) -> None:
        """Say when the file system below has no room, and when it has some again."""
        short = bool(stats.get("medium_short"))
        if short and not self._short:
            log.error("the file system under the pool has no room: what would allocate is refused (27h/07h), all else goes on; "
                      "writes go on by themselves when there is room (docs/space.md, Room below)")
        elif self._short and not short:
            log.warning("the file system under the pool has room again")
        self._short = short

    def _name(self) -> None:
        """Say that the file has been deleted or renamed under the daemon, which goes on with it."""
        lost = self._lost_name()
        if lost != self.lost_name:
            log.log(logging.ERROR if lost else logging.WARNING, NAMES[lost])
        self.lost_name = lost

    def _damage(self) -> None:
        """Name pages of metadata that turned out to be bad, and those that are sound again."""
        now = {page.block: describe(page, self._pool.info) for page in self._pool.damage()}
        for block, text in now.items():
            if self._told.get(block) != text:
                log.error("damage: %s; what needs it is refused, the rest goes on (docs/operations.md, Damage)", text)
        for block in self._told.keys() - now.keys():
            log.warning("the page at block %d can be read again", block)
        self._told = now
