"""Schedules and retention as pure policy: both ways of daylight saving, years, clocks that jump, runs that were missed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice, takewhile
from operator import gt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target.errors import LunetteError
from target.volumes.cron import check_cron
from target.volumes.forecast import preview
from target.volumes.retention import PERIODS, Calendar, Keep, Taken, expendable
from target.volumes.schedules import (
    JUMP_SECONDS,
    TRUST_SECONDS,
    Schedule,
    Trust,
    check_selector,
    selects,
    snapshot_label,
)

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]     # the last one shifts by half an hour
CRONS = ["30 2 * * *", "*/15 * * * *", "0 * * * *", "5 1,2,3 * * *", "0 0 * * 0", "10 2 1 * *"]
KEEP = Keep.parse("last=4,hourly=24,daily=14,weekly=8,monthly=12")
DAY = 86400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def schedule(cron: str = "0 * * * *", zone: str = "UTC", keep: Keep = KEEP, done: str = "2026-01-01T00:00Z") -> Schedule:
    return Schedule("id", "auto", "*", cron, zone, keep, done_s=at(done))


# -- when --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("zone", "day", "runs"), [
    ("Europe/Berlin", "2026-03-29", ["03:00:00+02:00"]), ("Europe/Berlin", "2026-10-25", ["02:30:00+02:00"]),
    ("America/New_York", "2026-03-08", ["03:00:00-04:00"]), ("America/New_York", "2026-11-01", ["02:30:00-05:00"]),
    ("Australia/Lord_Howe", "2026-10-04", ["02:30:00+11:00"]), ("Australia/Lord_Howe", "2026-04-05", ["02:30:00+10:30"]),
])
def test_a_daily_run_is_one_run_on_the_days_that_clocks_change(zone: str, day: str, runs: list[str]) -> None:
    """What is left out runs when the gap ends; what comes twice runs once. Once also for one who looks every five minutes."""
    it = schedule("30 2 * * *", zone)
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()
    end = start + DAY + 7200
    ran = [datetime.fromtimestamp(each, ZoneInfo(zone)) for each in takewhile(lambda each: each < end, it.runs(start))]
    assert [each.isoformat()[11:] for each in ran if each.date().isoformat() == day] == runs
    looked, now = [], start
    it = replace(it, done_s=start)
    while now < start + 6 * 3600:
        due = it.due(now)
        if due is not None:
            assert now - due < 300
            looked.append(due)
            it = replace(it, done_s=due)
        now += 300
    assert looked == [each.timestamp() for each in ran if each.timestamp() < start + 6 * 3600]


@pytest.mark.parametrize("zone", [*ZONES, "UTC"])
@pytest.mark.parametrize("cron", CRONS)
def test_what_is_due_is_the_last_run_of_all_those_since(zone: str, cron: str) -> None:
    """For every quarter of an hour around the changes of clocks: the same as going through all runs one by one."""
    for around in ("2026-03-08T00:00Z", "2026-03-28T22:00Z", "2026-04-04T10:00Z", "2026-10-03T10:00Z", "2026-10-24T22:00Z",
                   "2026-11-01T02:00Z"):
        it = schedule(cron, zone)
        days = 70 if cron.endswith("1 * *") else 15
        middle = at(around)
        runs = list(takewhile(partial(gt, middle + DAY), it.runs(middle - days * DAY)))
        for step in range(48):
            now = middle + step * 900
            passed = [each for each in runs if each <= now]
            assert it.due(now) == passed[-1]
            assert replace(it, done_s=passed[-1]).due(now) is None
            assert replace(it, done_s=passed[-2]).due(now) == passed[-1]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), st.sampled_from(CRONS), st.floats(at("2026-01-02T00:00Z"), at("2027-12-31T00:00Z")),
       st.lists(st.floats(1.0, 3 * DAY), max_size=12))
def test_no_run_is_done_twice_or_before_its_time(zone: str, cron: str, start: float, steps: list[float]) -> None:
    it, now, done = replace(schedule(cron, zone), done_s=start), start, []
    for step in steps:
        now += step
        due = it.due(now)
        assert due is None or start < due <= now
        if due is not None:
            done.append(due)
            it = replace(it, done_s=due)
        assert it.due(now) is None
        upcoming = it.next_run(now)
        assert upcoming is not None
        assert upcoming > now
    assert done == sorted(set(done))


def test_a_daemon_that_was_down_over_fifty_runs_does_one() -> None:
    it = schedule(done="2026-05-01T00:00Z")
    now = at("2026-05-03T02:10Z")
    assert len(list(takewhile(lambda each: each <= now, it.runs(it.done_s)))) == 50
    assert it.due(now) == at("2026-05-03T02:00Z")
    first, second = islice(preview(it, [(1, "v")], [], now), 2)
    assert (first.at_s, second.at_s) == (now, at("2026-05-03T03:00Z"))


def test_a_clock_that_was_a_year_ahead_stops_no_schedule() -> None:
    it = schedule(done="2027-05-01T00:00Z").settled(at("2026-05-01T00:30Z"))
    assert it.due(at("2026-05-01T00:30Z")) is None
    assert it.due(at("2026-05-01T01:00Z")) == at("2026-05-01T01:00Z")
    it = schedule(done="2026-05-01T12:00Z")             # a few minutes back: that run is not done again
    assert it.settled(at("2026-05-01T11:50Z")) is it
    assert it.due(at("2026-05-01T12:00:30Z")) is None


def test_a_paused_schedule_has_no_next_run() -> None:
    assert replace(schedule(), paused=True).next_run(at("2026-05-01T00:00Z")) is None


# -- whether the clock may be believed ------------------------------------------------------------------------------------
@pytest.mark.parametrize("jump", [DAY, -DAY, JUMP_SECONDS + 1, -JUMP_SECONDS - 1, 365 * DAY])
def test_a_clock_that_jumps_is_in_doubt_for_a_day_or_until_confirmed(jump: float) -> None:
    trust = Trust(1e9, 100.0).look(1e9 + 60, 160.0)
    assert trust.doubted_s is None
    trust = trust.look(1e9 + 120 + jump, 220.0)
    assert trust.doubted_s == 220.0
    assert trust.confirmed().doubted_s is None
    for hours in range(1, 24):
        trust = trust.look(1e9 + 120 + jump + 3600 * hours, 220.0 + 3600 * hours)
        assert trust.doubted_s == 220.0
    assert trust.look(1e9 + 120 + jump + DAY, 220.0 + TRUST_SECONDS).doubted_s is None


def test_a_jump_while_in_doubt_begins_the_day_anew() -> None:
    trust = Trust(1e9, 0.0).look(1e9 + DAY, 60.0).look(1e9, 120.0)
    assert trust.doubted_s == 120.0


@pytest.mark.parametrize("drift", [0.0, 3000.0, -3000.0])
def test_what_an_adjustment_or_a_long_sleep_does_is_no_jump(drift: float) -> None:
    assert Trust(1e9, 0.0).look(1e9 + 5 * DAY + drift, 5 * DAY).doubted_s is None


def test_a_machine_that_starts_anew_may_have_lost_time_but_not_gained_it() -> None:
    assert Trust(1e9, 500.0).started(1e9 + 30 * DAY, 5.0) == Trust(1e9 + 30 * DAY, 5.0)
    assert Trust(1e9, 500.0).started(1e9 - 2 * JUMP_SECONDS, 5.0).doubted_s == 5.0
    assert Trust(1e9, 500.0, 400.0).started(1e9 + DAY, 5.0).doubted_s == 5.0         # a restart clears no doubt


# -- which stay -----------------------------------------------------------------------------------------------------------
def taken(times: list[float], **more: bool) -> list[Taken]:
    return [Taken(number, 1, each, **more) for number, each in enumerate(times, 1)]


def stay(keep: Keep, snapshots: list[Taken], now: float, zone: str = "UTC") -> list[float]:
    gone = {each.id for each in expendable(keep, snapshots, now, Calendar(zone))}
    return [each.created_s for each in snapshots if each.id not in gone]


def test_each_kind_keeps_the_newest_of_its_periods() -> None:
    hours = [at("2026-01-01T00:00Z") + 3600 * each for each in range(24 * 400)]
    kept = [datetime.fromtimestamp(each, UTC) for each in stay(KEEP, taken(hours), hours[-1])]
    now = datetime.fromtimestamp(hours[-1], UTC)            # 2027-02-04T23:00
    assert {now - timedelta(hours=each) for each in range(24)} <= set(kept)
    assert {now - timedelta(days=each) for each in range(14)} <= set(kept)
    assert {now - timedelta(days=4 + 7 * each) for each in range(7)} <= set(kept)     # Sundays
    months = {(each.year, each.month) for each in kept}
    assert months == {(2026, each) for each in range(3, 13)} | {(2027, 1), (2027, 2)}
    assert len(kept) == 24 + 13 + 6 + 9                     # a snapshot may stay for several reasons
    assert stay(Keep(last=3), taken(hours), hours[-1]) == hours[-3:]
    assert [datetime.fromtimestamp(each, UTC).year for each in stay(Keep(yearly=9), taken(hours), hours[-1])] == [2026, 2027]


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    times = [at("2026-10-25T00:30Z"), at("2026-10-25T01:30Z"), at("2026-10-25T02:30Z")]     # 02:30, 02:30, 03:30 in Berlin
    assert stay(Keep(hourly=3), taken(times), times[-1], "Europe/Berlin") == times


def test_a_day_is_a_day_of_the_zone() -> None:
    times = [at("2026-06-01T21:30Z"), at("2026-06-01T22:30Z")]                              # 23:30 and 00:30 in Berlin
    assert stay(Keep(daily=2), taken(times), times[-1], "Europe/Berlin") == times
    assert stay(Keep(daily=2), taken(times), times[-1], "UTC") == times[1:]


def test_what_must_stay_stays() -> None:
    times = [1e9 + 60 * each for each in range(10)]
    snapshots = taken(times)
    snapshots[3] = replace(snapshots[3], kept=True)
    assert stay(Keep(last=2), snapshots, times[-1]) == [times[3], *times[-2:]]


def test_the_newest_stays_by_the_clock_and_in_truth() -> None:
    assert stay(Keep(daily=0, last=0, yearly=1), taken([1e9, 1e9 + 10]), 1e9 + 10) == [1e9 + 10]
    assert stay(Keep(last=1), taken([1e9, 1e9 + 100, 1e9 + 50]), 1e9 + 100) == [1e9 + 100, 1e9 + 50]   # the clock went back


def test_snapshots_of_a_wrong_clock_push_none_out() -> None:
    """Five that a clock a year ahead made: the last two of the right one stay beside them."""
    wrong = [1e9 + 365 * DAY + each for each in range(5)]
    right = [1e9 + 60 * each for each in range(4)]
    assert stay(Keep(last=2), taken(wrong + right), right[-1]) == wrong + right[-2:]


def test_a_long_silence_lets_nothing_go() -> None:
    times = [at("2026-01-01T00:00Z") + 3600 * each for each in range(48)]
    snapshots = taken(times)
    now = times[-1]
    left = [each for each in snapshots if each.created_s in stay(KEEP, snapshots, now)]
    assert expendable(KEEP, left, now + 500 * DAY, Calendar("UTC")) == []


KEEPS = st.builds(Keep, *(st.integers(0, 5) for _ in Keep.__slots__))


@settings(max_examples=150, deadline=None)
@given(KEEPS, st.lists(st.tuples(st.integers(0, 400 * 24), st.booleans()), min_size=1, max_size=60), st.sampled_from(ZONES))
def test_retention_never_takes_too_much_and_is_settled_at_once(keep: Keep, made: list[tuple[int, bool]], zone: str) -> None:
    snapshots = [Taken(number, 1, 1.7e9 + 1800.0 * each, kept=kept) for number, (each, kept) in enumerate(made, 1)]
    calendar, now = Calendar(zone), max(each.created_s for each in snapshots)
    gone = expendable(keep, snapshots, now, calendar)
    left = [each for each in snapshots if each not in gone]
    assert not [each for each in gone if each.kept]
    assert max(snapshots, key=lambda each: (each.created_s, each.id)) in left
    assert snapshots[-1] in left
    assert len(left) >= min(keep.last, len(snapshots))
    for at_index, kind in enumerate(PERIODS):
        before = sorted({each.created_s for each in snapshots})
        periods = list(dict.fromkeys(calendar.periods(each)[at_index] for each in reversed(before)))
        kept_periods = {calendar.periods(each.created_s)[at_index] for each in left}
        assert set(periods[:getattr(keep, kind)]) <= kept_periods
    assert len([each for each in left if not each.kept]) <= sum(getattr(keep, each) for each in Keep.__slots__) + 2
    assert expendable(keep, left, now, calendar) == []


# -- previews --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_previews_is_what_a_year_of_looks_does(zone: str) -> None:
    """Run by run: what the preview of a whole year says, a daemon that looks at every run does, each from its own state."""
    start = at("2026-01-01T00:00Z")
    it = replace(schedule("30 2,14 * * *", zone), done_s=start)
    year = list(takewhile(lambda run: run.at_s < start + 366 * DAY, preview(it, [(1, "v")], [], start)))
    assert len(year) == len({run.at_s for run in year}) == 2 * 366
    present: list[Taken] = []
    calendar = Calendar(zone)
    for number, run in enumerate(year, 1000):
        due = it.due(run.at_s)
        assert due == run.at_s
        it = replace(it, done_s=due)
        present.append(Taken(number, 1, due, f"v@{snapshot_label('auto', due)}"))
        gone = expendable(it.keep, present, due, calendar)
        present = [each for each in present if each not in gone]
        assert [each.name for each in run.gone] == [each.name for each in gone]
        assert [each.name for each in run.taken] == [present[-1].name]
    kept = [datetime.fromtimestamp(each.created_s, ZoneInfo(zone)) for each in present]
    assert len({(each.year, each.month) for each in kept}) == 12
    assert {kept[-1].date() - timedelta(days=each) for each in range(14)} <= {each.date() for each in kept}


def test_names_are_in_utc() -> None:
    it = schedule("30 2 * * *", "Europe/Berlin", done="2026-10-24T12:00Z")
    runs = islice(preview(it, [(1, "v")], [], it.done_s), 2)
    assert [run.taken[0].name for run in runs] == ["v@auto-20261025T003000Z", "v@auto-20261026T013000Z"]


# -- what people write -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("select", "chosen"), [
    ("*", {"web1", "web2", "db", "scratch"}), ("web*", {"web1", "web2"}), ("web?,db", {"web1", "web2", "db"}),
    ("*,!scratch", {"web1", "web2", "db"}), ("tier=gold", {"db", "web1"}), ("tier=*,!web1", {"db", "web2"}),
    ("*,!tier=gold", {"web2", "scratch"}), ("WEB1", set()), ("tier=silver,scratch", {"web2", "scratch"}),
])
def test_volumes_are_selected_by_names_and_labels(select: str, chosen: set[str]) -> None:
    volumes = {"web1": {"tier": "gold"}, "web2": {"tier": "silver"}, "db": {"tier": "gold"}, "scratch": {}}
    assert {name for name, labels in volumes.items() if selects(check_selector(select), name, labels)} == chosen


@pytest.mark.parametrize("select", ["", ",", "web,", "!web", "!a,!b", "x" * 257])
def test_a_selector_that_selects_nothing_is_refused(select: str) -> None:
    with pytest.raises(LunetteError, match=r"select|leaves out"):
        check_selector(select)


@pytest.mark.parametrize(("cron", "zone"), [
    ("* * * *", "UTC"), ("0 * * * * *", "UTC"), ("60 * * * *", "UTC"), ("0 0 30 2 *", "UTC"), ("", "UTC"), ("x", "UTC"),
    ("0 0 * * *", "Mars/Base"), ("0 0 * * *", "../etc/passwd"), ("0 0 * * *", ""), ("0 0 * * *", "Europe"),
])
def test_what_is_no_time_is_refused(cron: str, zone: str) -> None:
    with pytest.raises(LunetteError, match=r"cron|time zone") as refused:
        check_cron(cron, zone)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "last", "last=", "last=-1", "last=x", "often=3", "last=1,last=2", "last=0", "last=100001"])
def test_what_keeps_nothing_is_refused(text: str) -> None:
    with pytest.raises(LunetteError, match="keep"):
        Keep.parse(text)


def test_what_to_keep_is_said_as_it_was_written() -> None:
    assert str(Keep.parse("daily=14, last=4")) == "last=4,daily=14"
