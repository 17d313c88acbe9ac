"""Retention: which snapshots of one schedule and one volume stay. Pure: no clock, no pool, no I/O.

By creation time and the schedule's own mark, never by name. `last=N` keeps the N newest; `hourly=N` the newest of each of the N
last hours that have a snapshot, and so on, by the schedule's zone. Periods without snapshots do not count: what was not taken
lets nothing go. The newest stays in any case, and what is younger than the clock stays and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from target.errors import LunetteError
from target.volumes.cron import moment

FUTURE_SECONDS = 3600.0         # a snapshot that is younger than now by so much was made by a wrong clock
MAX_KEPT = 100_000

# The period that a time belongs to. Hours that come twice are two.
PERIODS: dict[str, Callable[[datetime], object]] = {
    "hourly": lambda at: (at.date(), at.hour, at.utcoffset()),
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}


@dataclass(frozen=True, slots=True)
class Keep:
    """How many to keep of each kind; 0 of a kind is none for its sake."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @classmethod
    def parse(cls, text: str) -> Keep:
        """`last=4,hourly=24,...`. LunetteError invalid."""
        found: dict[str, int] = {}
        for part in text.split(","):
            kind, _, number = part.strip().partition("=")
            if kind not in cls.__slots__ or kind in found or not (number.isascii() and number.isdigit()):
                raise LunetteError("invalid", f"{part.strip()!r} does not say what to keep: last=4,hourly=24,daily=14,weekly=8,"
                                              "monthly=12,yearly=3, each once")
            found[kind] = int(number)
        if not any(found.values()) or max(found.values()) > MAX_KEPT:
            raise LunetteError("invalid", f"{text!r} must keep at least one snapshot, and at most {MAX_KEPT} of a kind")
        return cls(**found)

    def __str__(self) -> str:
        return ",".join(f"{kind}={number}" for kind in self.__slots__ if (number := getattr(self, kind)))


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that bears a schedule's mark. `kept` says that it must not go: held, open, connected."""

    id: int
    volume_id: int
    created_s: float
    name: str = ""
    kept: bool = False


@dataclass(slots=True)
class Calendar:
    """The periods of times in one zone, each worked out once."""

    zone: str
    _known: dict[float, tuple[object, ...]] = field(default_factory=dict)

    def periods(self, at_s: float) -> tuple[object, ...]:
        """The hour, day, week, month and year of a time, in the order of PERIODS."""
        found = self._known.get(at_s)
        if found is None:
            at = moment(at_s, self.zone)
            found = self._known[at_s] = tuple(period(at) for period in PERIODS.values())
        return found


def expendable(keep: Keep, taken: Collection[Taken], now_s: float, calendar: Calendar) -> list[Taken]:
    """Of one volume's snapshots by one schedule, those that may go; the oldest first."""
    order = sorted((each for each in taken if each.created_s <= now_s + FUTURE_SECONDS), key=_age)
    if not order:
        return []
    stay = {each.id for each in order[-keep.last:]} if keep.last else set()
    stay |= {order[-1].id, max(each.id for each in order)}      # the newest, by the clock and in truth
    for at, kind in enumerate(PERIODS):
        wanted = getattr(keep, kind)
        seen: set[object] = set()
        for each in reversed(order):
            if len(seen) == wanted:
                break
            period = calendar.periods(each.created_s)[at]
            if period not in seen:
                seen.add(period)
                stay.add(each.id)
    return [each for each in order if each.id not in stay and not each.kept]


def all_expendable(keep: Keep, taken: Collection[Taken], now_s: float, calendar: Calendar) -> list[Taken]:
    """The same, of several volumes: each for itself."""
    volumes: dict[int, list[Taken]] = {}
    for each in taken:
        volumes.setdefault(each.volume_id, []).append(each)
    return [gone for each in volumes.values() for gone in expendable(keep, each, now_s, calendar)]


def _age(taken: Taken) -> tuple[float, int]:
    return taken.created_s, taken.id
