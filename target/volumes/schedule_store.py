"""Where schedules are kept: the pool's key store, and a copy of it in memory.

Keys, all values JSON: `schedule/ID` (a Schedule), `scheduled/OBJECT_ID` (the id of the schedule that took this snapshot: its
mark), `schedule_clock` (what the clock said last). An id of a schedule is random and never used again, so no schedule comes into
the snapshots of another.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from target.errors import LunetteError
from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool, KeysOf
from target.volumes.retention import Keep
from target.volumes.schedules import Schedule, Trust


def schedule_entry(schedule: Schedule) -> dict[str, Any]:
    """How a schedule is kept."""
    value = asdict(schedule)
    del value["id"]
    return {f"schedule/{schedule.id}": value}


class ScheduleStore:
    """The schedules of one pool and the marks of their snapshots. Changes are durable when a coroutine returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._schedules: dict[str, Schedule] = {}
        self._marks: dict[int, str] = {}        # object id -> schedule id
        self.trust: Trust | None = None
        self.boot = ""                          # which start of the machine the trust's own time counts from
        self._entries = Entries(pool, "schedules", {
            "schedule": Kind(self._load_schedule, lambda rest: self._schedules.pop(rest, None)),
            "scheduled": Kind(self._load_mark),
            "schedule_clock": Kind(self._load_clock),
        })
        self._entries.load()

    def all(self) -> list[Schedule]:
        return sorted(self._schedules.values(), key=lambda each: each.name)

    def find(self, name: str) -> Schedule:
        """LunetteError not_found."""
        found = next((each for each in self._schedules.values() if each.name == name), None)
        if found is None:
            raise LunetteError("not_found", f"there is no schedule {name!r}")
        return found

    def marked(self, schedule: Schedule) -> list[int]:
        """The ids of the objects that bear its mark; some may be gone by now."""
        return [object_id for object_id, each in self._marks.items() if each == schedule.id]

    async def create(self, schedule: Schedule) -> Schedule:
        """Keep a new schedule, which gets its id. LunetteError exists."""
        if any(each.name == schedule.name for each in self._schedules.values()):
            raise LunetteError("exists", f"there is a schedule {schedule.name!r} already")
        made = replace(schedule, id=secrets.token_hex(8))
        await self.change(made)
        return made

    async def change(self, schedule: Schedule) -> None:
        """Keep a schedule as it is to be; as it was when that cannot be kept."""
        before = self._schedules.get(schedule.id)
        try:
            await self.save(schedule)
        except LunetteError:
            self._schedules.pop(schedule.id, None)
            if before is not None:
                self._schedules[schedule.id] = before
            raise

    async def save(self, schedule: Schedule) -> None:
        """Keep a schedule as it is now; in memory even when the pool cannot."""
        self._schedules[schedule.id] = schedule
        await self._entries.store(schedule_entry(schedule))

    def marks(self, schedule: Schedule) -> KeysOf:
        """The marks of what it takes, for the frame that makes the snapshots: none is ever without its own."""
        value = json.dumps(schedule.id).encode()
        return lambda made: {f"scheduled/{each}": value for each in made}

    def adopt(self, changes: Mapping[str, bytes | None]) -> None:
        """Take over what of these changes of the store concerns schedules."""
        self._entries.adopt(changes)

    def taken(self, schedule: Schedule, object_ids: Iterable[int]) -> None:
        """These were taken, with their marks."""
        self._marks.update(dict.fromkeys(object_ids, schedule.id))

    async def delete(self, schedule: Schedule) -> None:
        """Forget a schedule. Its snapshots stay and belong to no schedule any more."""
        marked = self.marked(schedule)
        await self._entries.store({f"schedule/{schedule.id}": None, **{f"scheduled/{each}": None for each in marked}})
        self._schedules.pop(schedule.id, None)
        for each in marked:
            self._marks.pop(each, None)

    async def save_trust(self, trust: Trust, boot: str) -> None:
        """Keep what is known of the clock."""
        self.trust, self.boot = trust, boot
        await self._entries.store({"schedule_clock": {**asdict(trust), "boot": boot}})

    async def forget_object(self, object_id: int) -> None:
        """A deleted object bears no mark."""
        if self._marks.pop(object_id, None) is not None:
            await self._entries.store({f"scheduled/{object_id}": None})

    # -- inside --------------------------------------------------------------------------------------------------
    def _load_schedule(self, rest: str, value: Any) -> None:
        self._schedules[rest] = Schedule(**{**value, "id": rest, "keep": Keep(**value["keep"])})

    def _load_mark(self, rest: str, value: Any) -> None:
        if self._pool.info(int(rest)) is not None:
            self._marks[int(rest)] = str(value)

    def _load_clock(self, rest: str, value: Any) -> None:
        self.boot = str(value.pop("boot"))
        self.trust = Trust(**value)
