"""Arguments of the commands on the pool: its size, its thresholds, work on the whole of it, schedules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from target.models.forms import Arguments, Bytes, Form, Percent, Says
from target.models.hosts import Address

ScheduleName = Annotated[str, Form("the name of a schedule", "a name: letters, digits and . _ : + - only, at most 48, beginning "
                                   "with a letter or digit", "^[A-Za-z0-9][A-Za-z0-9._:+-]*$", 1, 48)]
Selector = Annotated[str, Form("a selector", "a selector", None, 1, 256)]
Cron = Annotated[str, Form("a schedule of cron", "a schedule of cron", None, 9, 256)]
Zone = Annotated[str, Form("a time zone", "a time zone", None, 1, 64)]
KeepRule = Annotated[str, Form("what to keep", "what to keep: last=4,hourly=24,daily=14,weekly=8,monthly=12,yearly=3",
                               "^ *[a-z]+=[0-9]+ *(, *[a-z]+=[0-9]+ *)*$", 3, 128)]
PoolBytes = Annotated[int, Form("a pool's size", "a pool's size", ge=1, le=1 << 56)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grow(Arguments):
    """Enlarge the running daemon's pool to SIZE; a file grows with it, a block device must have grown already."""

    size_bytes: Annotated[PoolBytes, Says(argument=True, metavar="SIZE")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Arguments):
    """Give the pool up in good order: who is logged in is asked to log out, logins are sent to ADDRESS, the daemon waits.

    Without an address, on a Ceph cluster, it shows the LUNs in standby from then on.
    """

    address: Annotated[Address | None, Says("Where the gateway will be that is told to take it over.", argument=True,
                                            metavar="HOST[:PORT][,TAG]")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetThresholds(Arguments):
    """Set how full the pool may become before logs and initiators are told."""

    soft_percent: Annotated[Percent | None, Says("First warning. Default 80.", flag="--soft", metavar="PERCENT")] = None
    hard_percent: Annotated[Percent | None, Says("Second warning. Default 95.", flag="--hard", metavar="PERCENT")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Arguments):
    """Start work on the whole pool."""

    rate_bytes: Annotated[Bytes, Says("At most so many bytes a second; 0 for as fast as it goes.", flag="--rate")] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DefragWork(Work):
    """Put into order what lies scattered."""

    name: Annotated[str, Says("The volume or clone; all of them if it is not given.")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCreate(Arguments):
    """Take snapshots by the clock and delete those that are past keeping."""

    name: Annotated[ScheduleName, Says(argument=True)]
    select: Annotated[Selector, Says("Volumes by name or glob (web*), by label (tier=gold); !TERM leaves out; commas between.",
                                     metavar="SELECTOR")]
    cron: Annotated[Cron, Says("When, as in cron.", metavar="\"M H D MONTH WEEKDAY\"")]
    zone: Annotated[Zone, Says("Whose clock cron means: Europe/Berlin ...", flag="--tz", metavar="ZONE")] = "UTC"
    keep: Annotated[KeepRule, Says("last, hourly, daily, weekly, monthly, yearly.", metavar="KIND=N,...")]
    group: Annotated[bool, Says("All volumes at one instant, or none.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePause(Arguments):
    """Take nothing and delete nothing until it is resumed."""

    name: Annotated[ScheduleName, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleResume(Arguments):
    """Go on with the next run; what the pause left out is not made up for."""

    name: Annotated[ScheduleName, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDelete(Arguments):
    """Forget a schedule. The snapshots that it took stay."""

    name: Annotated[ScheduleName, Says(argument=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfirm(Arguments):
    """Say that the clock is right after it jumped: schedules delete again."""
