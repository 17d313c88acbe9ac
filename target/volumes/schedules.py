"""Schedules: what is to be snapshotted when, and which snapshots stay. Pure: no clock, no pool, no I/O.

A schedule's times are those of cron in its zone (cron.py): a time that daylight saving leaves out runs when it ends, one that
comes twice runs once unless minutes or hours begin with `*`. Missed runs are one run. Which snapshots go is decided by
retention.py.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from target.errors import LunetteError
from target.volumes.cron import cron_times, moment
from target.volumes.retention import Keep

JUMP_SECONDS = 3600.0       # a clock that went so much further than the machine's own did not only drift
TRUST_SECONDS = 86400.0     # after so long, what the clock says is taken for right
MAX_SELECTOR = 256          # characters


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule. `id` is for ever and the mark on its snapshots; times are seconds since the epoch."""

    id: str
    name: str
    select: str
    cron: str
    zone: str
    keep: Keep
    group: bool = False
    paused: bool = False
    done_s: float = 0.0     # runs up to here are done, or were never due

    def runs(self, after_s: float) -> Iterator[float]:
        """When it runs after a time, in order."""
        for at in cron_times(self.cron, moment(after_s, self.zone)):
            yield at.timestamp()

    def due(self, now_s: float) -> float | None:
        """The run that is to be done now: the last of those since `done_s`, however many were missed. None without any."""
        latest = self._latest(now_s)
        return latest if latest is not None and latest > self.done_s else None

    def next_run(self, now_s: float) -> float | None:
        """When it runs next; None when it never does again, or is paused."""
        return None if self.paused else next(self.runs(now_s), None)

    def settled(self, now_s: float) -> Schedule:
        """The same, where the clock was set back: runs that an earlier, wrong clock did do not count for those to come."""
        return replace(self, done_s=now_s) if self.done_s > now_s + JUMP_SECONDS else self

    def _latest(self, now_s: float) -> float | None:
        """The last run up to a time. Backwards to one that lies before it for sure, then forwards: an hour may come twice."""
        found = None
        beyond = moment(now_s, self.zone) + timedelta(hours=3)
        for at in cron_times(self.cron, beyond, reverse=True):
            if at.timestamp() <= now_s - JUMP_SECONDS * 3:
                found = at.timestamp()
                break
        for at_s in self.runs(now_s - JUMP_SECONDS * 3 - 1 if found is None else found):
            if at_s > now_s:
                return found
            found = at_s
        return found


def check_selector(select: str) -> str:
    """A selector as given, or LunetteError invalid."""
    terms = [each.strip() for each in select.split(",")]
    if len(select) > MAX_SELECTOR or not all(term.removeprefix("!") for term in terms):
        raise LunetteError("invalid", f"{select!r} selects nothing: names or globs (web*), labels (tier=gold), !NAME to leave "
                                      f"out, separated by commas, at most {MAX_SELECTOR} characters")
    if all(term.startswith("!") for term in terms):
        raise LunetteError("invalid", f"{select!r} only leaves out: * selects all others")
    return select


def selects(select: str, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a volume of that name, with these labels, is selected: by one term at least, and left out by none."""
    chosen = False
    for term in (each.strip() for each in select.split(",")):
        key, equals, value = term.removeprefix("!").partition("=")
        matches = key in labels and fnmatch.fnmatchcase(labels[key], value) if equals else fnmatch.fnmatchcase(name, key)
        if matches and term.startswith("!"):
            return False
        chosen = chosen or matches
    return chosen


def snapshot_label(schedule_name: str, at_s: float) -> str:
    """What follows the @ of a snapshot that is taken at that time: the schedule, and the time in UTC."""
    return f"{schedule_name}-{datetime.fromtimestamp(at_s, UTC):%Y%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the clock may be believed. A clock that jumped is not, for a day of the machine's own time."""

    wall_s: float               # what the clock said when it was last looked at ...
    machine_s: float            # ... and the time since the machine was started, which nobody sets
    doubted_s: float | None = None      # machine time since when the clock is in doubt

    def look(self, wall_s: float, machine_s: float) -> Trust:
        """The clock was looked at again."""
        jump = (wall_s - self.wall_s) - (machine_s - self.machine_s)
        doubted = self.doubted_s
        if doubted is not None and machine_s - doubted >= TRUST_SECONDS:
            doubted = None
        if abs(jump) > JUMP_SECONDS:
            doubted = machine_s
        return Trust(wall_s, machine_s, doubted)

    def started(self, wall_s: float, machine_s: float) -> Trust:
        """The machine was started anew: its own time begins again. A clock may have gone on meanwhile, not back."""
        doubted = machine_s if self.doubted_s is not None or wall_s < self.wall_s - JUMP_SECONDS else None
        return Trust(wall_s, machine_s, doubted)

    def confirmed(self) -> Trust:
        """Somebody says that the clock is right."""
        return replace(self, doubted_s=None)
