"""Times of cron in a time zone, by cronsim and zoneinfo: both are imported by the first schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

from target.errors import LunetteError

FIELDS = 5                  # of cron: minute, hour, day of month, month, day of week


def find_zone(name: str) -> tzinfo:
    """A time zone by its name, as Europe/Berlin. ValueError, OSError or LookupError where there is none."""
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def moment(at_s: float, zone: str) -> datetime:
    """Seconds since the epoch as a time in a zone."""
    return datetime.fromtimestamp(at_s, find_zone(zone))


def cron_times(cron: str, begin: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    """The times of a schedule of cron after `begin`, or before it."""
    from cronsim import CronSim

    return iter(CronSim(cron, begin, reverse=reverse))


def check_cron(cron: str, zone: str) -> None:
    """LunetteError invalid unless these are five fields of cron that name times, and a zone that there is."""
    from cronsim import CronSimError

    try:
        find_zone(zone)
    except (ValueError, OSError, LookupError):
        raise LunetteError("invalid", f"there is no time zone {zone!r}: Europe/Berlin, for one, or UTC") from None
    try:
        if len(cron.split()) != FIELDS:
            raise CronSimError(f"{FIELDS} fields are needed: minute, hour, day of month, month, day of week")
        if next(cron_times(cron, datetime(2024, 1, 1, tzinfo=UTC)), None) is None:
            raise CronSimError("it names no time")
    except CronSimError as error:
        raise LunetteError("invalid", f"{cron!r} is not a schedule of cron: {error}") from None
