"""Exclusive bytes of objects, as last known: what costs a walk is looked at in rounds that take a bounded time."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from target.volumes.gateway import AsyncPool, ObjectInfo

EXACT_OBJECTS = 512        # up to so many objects a round looks at all of them
ROUND_SECONDS = 0.2        # beyond, for so long; the rest shows what was last known, or null


class Accounting:
    """For one list of objects in one order; its rounds follow one another."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._exclusive: dict[int, int | None] = {}
        self._next = 0

    def round(self, objects: int) -> Round:
        """To look at a list of so many."""
        return Round(self, objects)

    def of(self, object_id: int) -> int | None:
        """None: not known yet, or a page of its map cannot be had."""
        return self._exclusive.get(object_id)

    def keep(self, alive: Collection[int]) -> None:
        """Forget all but these once they are many."""
        if len(self._exclusive) > 2 * len(alive):
            self._exclusive = {key: value for key, value in self._exclusive.items() if key in alive}

    async def look(self, infos: Sequence[ObjectInfo]) -> None:
        values = await self._pool.call("exclusive", object_ids=[info.id for info in infos])
        self._exclusive.update({info.id: values.get(info.id) for info in infos})

    def began_at(self) -> int:
        """Where the last round ran out of time."""
        return self._next

    def ended_at(self, at: int) -> None:
        self._next = at


class Round:
    """One pass over a list, piece by piece."""

    def __init__(self, accounting: Accounting, objects: int) -> None:
        self._accounting = accounting
        self._objects = objects
        self._exact = objects <= EXACT_OBJECTS
        self._first = 0 if self._exact else accounting.began_at()
        self._spent_s = 0.0

    async def look(self, infos: Sequence[ObjectInfo], at: int, pieces: int) -> None:
        """At the objects from `at` on, which are `pieces` of the list, if there is time."""
        if self._exact or (at >= self._first and self._spent_s < ROUND_SECONDS):
            started = time.monotonic()
            await self._accounting.look(infos)
            self._spent_s += time.monotonic() - started
            self._accounting.ended_at(0 if at + pieces >= self._objects else at + pieces)
