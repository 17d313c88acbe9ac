"""Running schedules: the loop that takes snapshots when they are due and deletes what retention lets go, and their commands.

What is decided is decided in target/volumes (schedules.py, retention.py); here are the clock, the pool and the log. Nothing is
deleted that is held, read, open or connected, and nothing at all while the clock is in doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from target.errors import LunetteError
from target.models.pool import ScheduleConfirm, ScheduleCreate, ScheduleDelete, SchedulePause, ScheduleResume
from target.server.command import Command, Json
from target.volumes.catalog import Catalog, read_labels
from target.volumes.cron import check_cron, moment
from target.volumes.forecast import preview
from target.volumes.gateway import AsyncPool, KeysOf, ObjectInfo
from target.volumes.retention import Calendar, Keep, Taken, all_expendable
from target.volumes.schedule_store import ScheduleStore
from target.volumes.schedules import Schedule, Trust, check_selector, selects, snapshot_label

log = logging.getLogger("lunette.schedules")

LOOK_SECONDS = 60.0     # at the latest: a clock that is set anew wakes nobody
STOP_SECONDS = 5.0      # that a run under way has when the daemon stops
MAX_RUNS = 10_000       # of a preview
IN_DOUBT = "the clock jumped: nothing is deleted until a day has passed, or lunette schedule confirm says that it is right"


class Clock:
    """The system's: what it says, the time since the machine's start, suspended or not, and which start that was."""

    def wall_s(self) -> float:
        return time.time()

    def machine_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        with contextlib.suppress(OSError):
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the last run did, since the daemon's start."""

    at_s: float
    taken: Sequence[str]
    deleted: Sequence[str]
    problems: Sequence[str] = field(default_factory=list)

    def as_json(self) -> Json:
        return {"at_s": self.at_s, "taken": list(self.taken), "deleted": list(self.deleted), "problems": list(self.problems)}


class Objects(Protocol):
    """What takes snapshots, deletes, and says why not (target/server/api/commands/objects.py)."""

    async def take_snapshots(self, names: Sequence[str], keys: KeysOf | None = None) -> list[Json]: ...

    def check_delete(self, info: ObjectInfo) -> None: ...

    async def delete_unused(self, info: ObjectInfo) -> None: ...


class Schedules:
    """The schedules of one daemon."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, objects: Objects,
                 clock: Clock | None = None) -> None:
        self._pool = pool
        self._catalog = catalog
        self._objects = objects
        self.clock = clock or Clock()
        self.store = ScheduleStore(pool)
        self._outcomes: dict[str, Outcome] = {}     # by the schedule's id
        self._busy = asyncio.Lock()                 # a run, or a change of a schedule
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run what is due; what was missed is done once."""
        self._task = asyncio.create_task(self._loop(), name="schedules")

    async def stop(self) -> None:
        """No run begins any more; one under way may end."""
        if self._task is not None:
            ended = False
            with contextlib.suppress(TimeoutError):
                ended = await asyncio.wait_for(self._busy.acquire(), STOP_SECONDS)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            if ended:
                self._busy.release()

    async def look(self) -> None:
        """Do what is due now."""
        async with self._busy:
            now_s = self.clock.wall_s()
            trust = await self._look_at_clock(now_s)
            for schedule in self.store.all():
                try:
                    await self._look_at(schedule, now_s, trust)
                except Exception:       # of one schedule: the others run
                    log.exception("schedule %s could not be run", schedule.name)

    async def forget_object(self, object_id: int) -> None:
        """An object was deleted."""
        await self.store.forget_object(object_id)

    # -- commands ------------------------------------------------------------------------------------------------
    def commands(self) -> list[Command]:
        return [
            Command("schedule_create", ScheduleCreate, self._create, "admin", answer="ScheduleRow"),
            Command("schedule_delete", ScheduleDelete, self._delete, "admin", answer="ScheduleRow"),
            Command("schedule_pause", SchedulePause, self._pause, "admin", answer="ScheduleRow"),
            Command("schedule_resume", ScheduleResume, self._resume, "admin", answer="ScheduleRow"),
            Command("schedule_confirm", ScheduleConfirm, self._confirm, "admin", answer="Confirmed"),
        ]

    async def _create(self, args: ScheduleCreate) -> Json:
        check_cron(args.cron, args.zone)
        wanted = Schedule("", args.name, check_selector(args.select), args.cron, args.zone, Keep.parse(args.keep), args.group,
                          done_s=self.clock.wall_s())
        async with self.changing():
            return self.describe(await self.store.create(wanted))

    async def _pause(self, args: SchedulePause) -> Json:
        return await self._go_on(args.name, paused=True)

    async def _resume(self, args: ScheduleResume) -> Json:
        return await self._go_on(args.name, paused=False)

    async def _go_on(self, name: str, *, paused: bool) -> Json:
        """Stop or go on. Runs that a pause left out are not made up for."""
        async with self.changing():
            before = self.store.find(name)
            done_s = self.clock.wall_s() if before.paused and not paused else before.done_s
            await self.store.change(replace(before, paused=paused, done_s=done_s))
            return self.describe(self.store.find(before.name))

    async def _delete(self, args: ScheduleDelete) -> Json:
        """The snapshots that it took stay, and nothing deletes them by itself any more."""
        async with self.changing():
            schedule = self.store.find(args.name)
            described = self.describe(schedule)
            await self.store.delete(schedule)
            self._outcomes.pop(schedule.id, None)
            return described

    async def _confirm(self, args: ScheduleConfirm) -> Json:
        """The clock is right: what is due to go goes from the next run on."""
        async with self.changing():
            trust = await self._look_at_clock(self.clock.wall_s())
            await self.store.save_trust(trust.confirmed(), self.clock.boot())
            return {"clock": "confirmed", "wall_s": trust.wall_s}

    def rows(self) -> list[Json]:
        """All schedules, by name."""
        return [self.describe(each) for each in self.store.all()]

    def describe(self, schedule: Schedule) -> Json:
        outcome, trust = self._outcomes.get(schedule.id), self.store.trust
        doubted = trust is not None and trust.doubted_s is not None
        return {"name": schedule.name, "select": schedule.select, "cron": schedule.cron, "zone": schedule.zone,
                "keep": str(schedule.keep), "group": schedule.group, "paused": schedule.paused,
                "next_run_s": schedule.next_run(self.clock.wall_s()), "done_s": schedule.done_s,
                "volumes": [each.name for each in self._selected(schedule)], "snapshots": len(self._taken(schedule)),
                "deleting": not doubted, "note": IN_DOUBT if doubted else None,
                "last": None if outcome is None else outcome.as_json()}

    async def preview(self, name: str, runs: int) -> AsyncIterator[list[Json]]:
        """The next runs: when, what is taken, what goes. LunetteError not_found, invalid."""
        schedule = self.store.find(name)
        if not 0 < runs <= MAX_RUNS:
            raise LunetteError("invalid", f"a preview has 1 to {MAX_RUNS} runs")
        volumes = [(each.id, each.name) for each in self._selected(schedule)]
        foreseen = preview(schedule, volumes, self._taken(schedule), self.clock.wall_s())
        for run in itertools.islice(foreseen, runs):
            yield [{"at_s": run.at_s, "at": moment(run.at_s, schedule.zone).isoformat(),
                    "take": [each.name for each in run.taken], "delete": [each.name for each in run.gone]}]
            await asyncio.sleep(0)      # others get their turn

    # -- inside --------------------------------------------------------------------------------------------------
    async def _loop(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self.look()
            except Exception:
                log.exception("the schedules could not be looked at")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._pause_seconds())

    def _pause_seconds(self) -> float | None:
        """Until the next run, and not for long; for ever without a schedule."""
        running = [each for each in self.store.all() if not each.paused]
        now_s = self.clock.wall_s()
        nexts = [at_s for each in running if (at_s := each.next_run(now_s)) is not None]
        return max(0.0, min(LOOK_SECONDS, *(at_s - now_s for at_s in nexts))) if nexts else None

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        async with self._busy:
            yield
        self._changed.set()

    async def _look_at(self, schedule: Schedule, now_s: float, trust: Trust) -> None:
        settled = schedule.settled(now_s)
        due_s = None if schedule.paused else settled.due(now_s)
        if due_s is not None:
            await self._run(replace(settled, done_s=due_s), now_s, trust)
        elif settled is not schedule:
            await self.store.save(settled)

    async def _look_at_clock(self, now_s: float) -> Trust:
        """Compare the clock with the machine's own; what is known of it survives a restart."""
        machine_s, boot, before = self.clock.machine_s(), self.clock.boot(), self.store.trust
        if before is None:
            trust = Trust(now_s, machine_s)
        elif boot == self.store.boot:
            trust = before.look(now_s, machine_s)
        else:
            trust = before.started(now_s, machine_s)
        doubted = trust.doubted_s is not None
        if doubted and (before is None or trust.doubted_s != before.doubted_s):
            log.warning("%s", IN_DOUBT)
        if before is None or boot != self.store.boot or trust.doubted_s != before.doubted_s:
            try:
                await self.store.save_trust(trust, boot)
            except LunetteError as error:       # known in memory all the same
                log.warning("%s", error)
        self.store.trust = trust
        return trust

    def _selected(self, schedule: Schedule) -> list[ObjectInfo]:
        found = [each for each in self._pool.objects()
                 if each.kind != "snapshot" and selects(schedule.select, each.name, read_labels(each))]
        return sorted(found, key=lambda each: each.name)

    def _taken(self, schedule: Schedule) -> list[Taken]:
        """Its snapshots of volumes that there are. What a deleted volume left is nobody's to delete."""
        pool, found = self._pool, []
        for info in map(pool.info, self.store.marked(schedule)):
            if info is not None and pool.info(info.origin_id) is not None:
                found.append(Taken(info.id, info.origin_id, info.created_s, info.name, self._must_stay(info)))
        return found

    def _must_stay(self, info: ObjectInfo) -> bool:
        """Held, read, open, or a LUN of somebody."""
        try:
            self._objects.check_delete(info)
        except LunetteError:
            return True
        return bool(self._catalog.connections_of(info.id))

    async def _run(self, schedule: Schedule, now_s: float, trust: Trust) -> None:
        taken, problems = await self._take(schedule, now_s)
        try:
            await self.store.save(schedule)
        except LunetteError as error:       # the run is not done again before a restart
            problems.append(str(error))
        gone: list[Taken] = []
        if trust.doubted_s is None:
            gone = await self._prune(schedule, now_s, problems)
        else:
            problems.append(IN_DOUBT)
        self._outcomes[schedule.id] = Outcome(now_s, [each.name for each in taken], [each.name for each in gone], problems)
        log.info("schedule %s: %d snapshots taken, %d deleted", schedule.name, len(taken), len(gone))
        for problem in problems:
            log.warning("schedule %s: %s", schedule.name, problem)

    async def _take(self, schedule: Schedule, now_s: float) -> tuple[list[ObjectInfo], list[str]]:
        """Snapshot what is selected; a volume that cannot be is left out, and said, and so is a whole group."""
        names = [self._free_name(f"{each.name}@{snapshot_label(schedule.name, now_s)}") for each in self._selected(schedule)]
        if not names:
            return [], [f"no volume is selected by {schedule.select!r}"]
        pieces = [names] if schedule.group else [[each] for each in names]
        marks = self.store.marks(schedule)
        answers = await asyncio.gather(*(self._objects.take_snapshots(each, marks) for each in pieces), return_exceptions=True)
        taken: list[ObjectInfo] = []
        problems: list[str] = []
        for answer in answers:
            if isinstance(answer, LunetteError):
                problems.append(f"skipped: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                taken += [info for each in answer if (info := self._pool.info(each["id"])) is not None]
        self.store.taken(schedule, [each.id for each in taken])
        return taken, problems

    def _free_name(self, name: str) -> str:
        """A name that is free: a clock that was set back says the same time twice."""
        others = (f"{name}.{number}" for number in itertools.count(2))
        return next(each for each in itertools.chain([name], others) if self._pool.lookup(each) is None)

    async def _prune(self, schedule: Schedule, now_s: float, problems: list[str]) -> list[Taken]:
        going = all_expendable(schedule.keep, self._taken(schedule), now_s, Calendar(schedule.zone))
        infos = [(each, info) for each in going if (info := self._pool.info(each.id)) is not None]
        ends = await asyncio.gather(*(self._objects.delete_unused(info) for _, info in infos), return_exceptions=True)
        gone: list[Taken] = []
        for (each, _), end in zip(infos, ends, strict=True):
            if isinstance(end, LunetteError):
                problems.append(f"not deleted: {end}")
            elif isinstance(end, BaseException):
                raise end
            else:
                gone.append(each)
        return gone

