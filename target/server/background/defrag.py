"""Defrag: volumes whose blocks snapshots have scattered lie in order again, without anyone asking (docs/operations.md).

The engine moves one region of 2 MiB at a time (its `move` operation), where that is worth its space and there is a place. What
is overwritten or read in order it finds by itself (core/ops/order.pyx). A pass looks at everything: deletes, which make regions a
volume's alone, are what it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from target.errors import LunetteError
from target.server.background.pool_work import PoolWork
from target.volumes.gateway import ObjectInfo, PoolError

log = logging.getLogger("lunette.defrag")

RUN_BYTES = 2 << 20
ROOM_PART = 16                  # of the pool's size the file system below has left at least
EXTENTS = 1000                  # asked for at a time
LOOK_SECONDS = 1.0              # between two looks for something to do
IDLE_SECONDS = 5.0              # initiators that have sent nothing for so long are not there
SILENT_SECONDS = 0.25           # ... and a pass that has begun goes on after so long


class Defrag(PoolWork):
    """By itself (`watch`) a pass begins when space was freed and initiators are silent, and waits while they are not."""

    name = "defrag"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._watching: asyncio.Task[None] | None = None
        self._polite = False        # this pass waits for initiators
        self._seen = -1             # their requests so far, when they were silent last
        self._only = 0              # this pass is for one volume: its id
        self._unswept = -1          # free bytes that were still to go back to the medium, at the last look
        self._orders = True         # the engine puts in order what is overwritten or read

    def start(self, rate_bytes: int, name: str = "") -> None:
        """As every work on the pool; with `name` for that volume or clone alone. LunetteError: not_found, invalid, busy."""
        info = self._pool.lookup(name) if name else None
        if name and info is None:
            raise LunetteError("not_found", f"no such object: {name}")
        if info is not None and info.kind == "snapshot":
            raise LunetteError("invalid", f"{name} is a snapshot: what it has stays where it is")
        if self._job is None or self._job.state != "running":
            self._only = 0 if info is None else info.id
        super().start(rate_bytes)

    def watch(self) -> None:
        """From now on passes begin by themselves, unless the engine is told not to put anything in order (serve --no-defrag)."""
        if not self._pool.stats().get("orders", 1):
            return
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def quit(self) -> None:
        """None begins any more, and none goes on."""
        self._pool.pool.order(False)
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self.stop()

    def _figures(self) -> dict[str, Any]:
        """Bytes that volumes have mapped, of them looked at, of those moved, and of those that found no place."""
        return {"mapped_bytes": sum(info.mapped_bytes for info in self._volumes()), "looked_bytes": 0, "moved_bytes": 0,
                "left_bytes": 0}

    def _done(self) -> tuple[int, int]:
        return self._state.get("looked_bytes", 0), self._state.get("mapped_bytes", 0)

    def _volumes(self) -> list[ObjectInfo]:
        return [info for info in self._pool.objects() if info.kind != "snapshot" and self._only in (0, info.id)]

    def _requests(self) -> int:
        return self._pool.stats().get("requests", 0)

    async def _watch(self) -> None:
        freed = self._freed()
        requests, quiet_s = self._requests(), time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._mind_room()
            if requests != self._requests():
                requests, quiet_s = self._requests(), time.monotonic()
            elif freed != self._freed() and time.monotonic() - quiet_s >= IDLE_SECONDS and self._is_ripe():
                freed = self._freed()
                with contextlib.suppress(LunetteError):      # one runs already
                    self.start(0)
                    self._polite = True
                    await self.over()
                    log.info("%d MiB of volumes lay scattered and were moved", self._state.get("moved_bytes", 0) >> 20)

    def _mind_room(self) -> None:
        """The engine copies nothing where the file system below is nearly full: copies would take what writers need."""
        stats = self._pool.stats()
        room = stats.get("medium_free_bytes")
        has_room = room is None or room >= stats["size_bytes"] // ROOM_PART
        if has_room != self._orders:
            self._orders = has_room
            self._pool.pool.order(has_room)

    def _is_ripe(self) -> bool:
        """What was deleted has come off the counts: before that regions still look shared, and a pass would leave them.

        Homes of nodes, which wait for a checkpoint that may be far off, are items that are pending, too, but no bytes. What goes
        back to the medium has gone, or does not: the pass wants runs of which the medium keeps nothing.
        """
        stats = self._pool.stats()
        unswept, self._unswept = self._unswept, stats.get("unswept_bytes", 0)
        return (not self._pool.pool.read_only and not stats.get("pending_bytes", 0)
                and self._unswept in (0, unswept))

    def _freed(self) -> int:
        return self._pool.stats().get("reclaimed_bytes", 0)

    async def _run(self, rate_bytes: int) -> str:
        try:
            began, before = time.monotonic(), self._pool.stats()["moved_bytes"]
            for info in self._volumes():
                with contextlib.suppress(PoolError):         # deleted meanwhile, or a page of it cannot be read
                    async for offset, length in self._regions(info):
                        await self._silence()
                        done = await self._pool.call("move", object_id=info.id, offset_bytes=offset, length_bytes=length)
                        self._state["looked_bytes"] += length
                        self._state["left_bytes"] += length if done == "nowhere" else 0
                        self._state["moved_bytes"] = moved = self._pool.stats()["moved_bytes"] - before
                        self._further()
                        if rate_bytes:
                            await asyncio.sleep(max(0.0, moved / rate_bytes - (time.monotonic() - began)))
            return "done"
        finally:
            self._polite = False

    async def _silence(self) -> None:
        """Let initiators go first."""
        while self._polite:
            before = self._requests()
            if before == self._seen:
                return
            await asyncio.sleep(SILENT_SECONDS)
            self._seen = self._requests()
            if self._seen == before:
                return

    async def _regions(self, info: ObjectInfo) -> AsyncIterator[tuple[int, int]]:
        """(offset, length) of each region of an object of which something is mapped."""
        at = following = 0
        while at < info.size_bytes:
            for offset, length, mapped in await self._pool.call("extents", object_id=info.id, offset_bytes=at,
                                                                length_bytes=info.size_bytes - at, limit=EXTENTS):
                for region in range(offset // RUN_BYTES * RUN_BYTES, offset + length if mapped else 0, RUN_BYTES):
                    if region >= following:
                        yield region, min(RUN_BYTES, info.size_bytes - region)
                        following = region + RUN_BYTES
                at = offset + length
