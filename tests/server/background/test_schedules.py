"""Schedules as the daemon runs them: what is taken, what goes, what must never go; clocks that jump, full pools, restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from target.errors import LunetteError
from target.server.background.schedules import IN_DOUBT, Clock, Schedules
from tests.server.conftest import Control

HOUR = 3600.0
DAY = 24 * HOUR
START = datetime(2026, 11, 29, 10, 30, tzinfo=UTC).timestamp()
USER = SimpleNamespace(nexus=SimpleNamespace(initiator_name="iqn"), peer="there")


class Hands(Clock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.said, self.real, self.started = START, 1000.0, "one"

    def wall_s(self) -> float:
        return self.said

    def machine_s(self) -> float:
        return self.real

    def boot(self) -> str:
        return self.started

    def time(self) -> float:
        return self.said

    def go(self, seconds: float) -> None:
        self.said += seconds
        self.real += seconds


@pytest.fixture
def clock(control: Control, monkeypatch: pytest.MonkeyPatch) -> Hands:
    """The time of the schedules, and of what is created."""
    hands = Hands()
    control.daemon.schedules.clock = hands
    monkeypatch.setattr("tests.support.fake_pool.time", hands)
    return hands


async def begin(control: Control, *volumes: str, keep: str = "last=2", cron: str = "0 * * * *", **more: Any) -> None:
    run = control.daemon.commands.run
    for name in volumes:
        await run("create", {"name": name, "size_bytes": 4096})
    await run("schedule_create", {"name": "auto", "select": "*", "cron": cron, "keep": keep, **more})


async def hours(control: Control, clock: Hands, number: int) -> None:
    for _ in range(number):
        clock.go(HOUR)
        await control.daemon.schedules.look()


def snapshots(control: Control) -> list[str]:
    return sorted(name for name in control.daemon.pool.names() if "@" in name)


def labels(*times: int, volume: str = "v") -> list[str]:
    return [f"{volume}@auto-20261129T{each:02}3000Z" for each in times]


async def until(reached: Callable[[], bool]) -> None:
    """The loop's own work, as long as it takes: a test that never gets there is ended by its time limit."""
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0)


def last(control: Control) -> dict[str, Any]:
    found: dict[str, Any] = control.daemon.schedules.rows()[0]["last"]
    return found


async def test_a_schedule_is_made_listed_paused_and_deleted(control: Control, clock: Hands) -> None:
    for name in ("web1", "web2", "db"):
        await control.ok("create", name, "--size", "1M")
    out = await control.ok("schedule", "create", "nightly", "--select", "web*,!web2", "--cron", "30 2 * * *",
                           "--tz", "Europe/Berlin", "--keep", "daily=14,weekly=8")
    assert out == ("nightly  web*,!web2  30 2 * * * Europe/Berlin  keep daily=14,weekly=8  next run 2026-11-30 01:30:00 UTC\n"
                   "volumes: web1\n")
    row = json.loads(await control.ok("schedule", "ls", "--json"))[0]
    assert {key: row[key] for key in ("name", "volumes", "snapshots", "paused", "group", "deleting", "last")} == {
        "name": "nightly", "volumes": ["web1"], "snapshots": 0, "paused": False, "group": False, "deleting": True, "last": None}
    assert "2026-11-30 01:30:00 UTC" in (await control.ok("schedule", "ls")).splitlines()[1]
    assert await control.ok("schedule", "preview", "nightly", "--runs", "2") == (
        "2026-11-30T02:30:00+01:00\n  take    web1@nightly-20261130T013000Z\n"
        "2026-12-01T02:30:00+01:00\n  take    web1@nightly-20261201T013000Z\n")
    assert "paused" in await control.ok("schedule", "pause", "nightly")
    clock.go(10 * DAY)
    await control.daemon.schedules.look()
    assert snapshots(control) == []
    assert json.loads(await control.ok("schedule", "resume", "nightly", "--json"))["paused"] is False
    await control.daemon.schedules.look()
    assert snapshots(control) == []                     # what a pause left out is not made up for
    await control.ok("schedule", "delete", "nightly")
    assert json.loads(await control.ok("schedule", "ls", "--json")) == []
    await control.ok("batch", stdin="schedule create b --select '*' --cron '0 * * * *' --keep last=1\nschedule delete b\n")


@pytest.mark.parametrize(("args", "message"), [
    (["create", "a b", "--select", "*", "--cron", "0 * * * *", "--keep", "last=1"], "'a b' is not a name"),
    (["create", "x" * 49, "--select", "*", "--cron", "0 * * * *", "--keep", "last=1"], "at most 48"),
    (["create", "s", "--select", "!v", "--cron", "0 * * * *", "--keep", "last=1"], "only leaves out"),
    (["create", "s", "--select", "*", "--cron", "0 * * *", "--keep", "last=1"], "is not a schedule of cron"),
    (["create", "s", "--select", "*", "--cron", "0 * * * *", "--keep", "last=1", "--tz", "Mars"], "there is no time zone 'Mars'"),
    (["create", "s", "--select", "*", "--cron", "0 * * * *", "--keep", "always"], "is not what to keep"),
    (["create", "auto", "--select", "*", "--cron", "0 * * * *", "--keep", "last=1"], "there is a schedule 'auto' already"),
    (["pause", "absent"], "there is no schedule 'absent'"), (["delete", "absent"], "there is no schedule 'absent'"),
    (["preview", "absent"], "there is no schedule 'absent'"),
])
async def test_refusals_are_one_clear_line(control: Control, clock: Hands, args: list[str], message: str) -> None:
    await begin(control)
    status, out, err = await control.cli("schedule", *args)
    assert (status, out, err.count("\n"), err.startswith("lunette: ")) == (1, "", 1, True)
    assert message in err


async def test_runs_take_and_retention_deletes(control: Control, clock: Hands) -> None:
    await begin(control, "v", "w")
    await hours(control, clock, 1)
    assert snapshots(control) == labels(11) + labels(11, volume="w")
    await control.daemon.schedules.look()
    assert len(snapshots(control)) == 2                 # not twice
    await hours(control, clock, 4)
    assert snapshots(control) == labels(14, 15) + labels(14, 15, volume="w")
    assert last(control) == {"at_s": clock.said, "taken": [*labels(15), *labels(15, volume="w")],
                             "deleted": [*labels(13), *labels(13, volume="w")], "problems": []}
    assert len([key for key in control.pool.kv() if key.startswith("scheduled/")]) == 4     # marks go with their snapshots


async def test_a_preview_is_what_then_happens(control: Control, clock: Hands) -> None:
    await begin(control, "v", "w", keep="last=1,hourly=3,daily=2")
    await hours(control, clock, 5)
    foreseen = json.loads(await control.ok("schedule", "preview", "auto", "--runs", "30", "--json"))
    for run in foreseen:
        clock.go(run["at_s"] - clock.said)
        await control.daemon.schedules.look()
        assert {key: last(control)[key] for key in ("at_s", "taken")} == {"at_s": run["at_s"], "taken": run["take"]}
        assert sorted(last(control)["deleted"]) == sorted(run["delete"])


async def test_what_is_in_use_or_not_its_own_stays(control: Control, clock: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held, open, connected, or of somebody else under a name that is its own form: none goes. Renamed ones do go."""
    run = control.daemon.commands.run
    await begin(control, "v", keep="last=1")
    await run("snapshot", {"names": ["v@auto-20261129T103000Z"]})
    await hours(control, clock, 4)
    held, opened, connected, renamed = "", "", "", ""
    for which in range(4):
        name = snapshots(control)[-1]
        info = control.daemon.catalog.find(name)
        if which == 0:
            held = name
            await run("hold", {"name": held, "tag": "audit"})
        elif which == 1:
            opened = name
            monkeypatch.setattr(control.daemon.table, "users", lambda number, its=info.id: [USER] if number == its else [])
        elif which == 2:
            connected = name
            await run("connect", {"name": connected})
        else:
            renamed = "v@mine"
            await run("rename", {"name": name, "new_name": renamed})
        await hours(control, clock, 1)
    assert renamed not in snapshots(control)
    assert snapshots(control) == ["v@auto-20261129T103000Z", held, opened, connected, labels(18)[0]]
    assert last(control)["problems"] == []
    await run("release", {"name": held, "tag": "audit"})
    await hours(control, clock, 1)
    assert snapshots(control) == ["v@auto-20261129T103000Z", opened, connected, labels(19)[0]]


async def test_what_a_deleted_volume_or_schedule_left_is_nobodys_to_delete(control: Control, clock: Hands) -> None:
    run = control.daemon.commands.run
    await begin(control, "v", "w", keep="last=1")
    await hours(control, clock, 1)
    await run("hold", {"name": labels(11)[0], "tag": "audit"})
    await hours(control, clock, 1)
    await run("delete", {"names": ["v"]})
    await run("release", {"name": labels(11)[0], "tag": "audit"})      # it would go now, were there still its volume
    await hours(control, clock, 3)
    assert snapshots(control) == labels(11, 12) + labels(15, volume="w")
    await run("schedule_delete", {"name": "auto"})
    await begin(control, keep="last=1")
    await hours(control, clock, 3)
    assert snapshots(control) == labels(11, 12) + labels(15, 18, volume="w")


async def test_fifty_missed_runs_are_one(control: Control, clock: Hands) -> None:
    await begin(control, "v", keep="last=9")
    await hours(control, clock, 2)
    clock.go(50 * HOUR)
    later = Schedules(control.daemon.pool, control.daemon.catalog,
                      control.daemon.management.objects, clock)
    later.start()
    await until(lambda: later.rows()[0]["last"] is not None)
    await later.stop()
    assert snapshots(control) == [*labels(11, 12), "v@auto-20261201T143000Z"]


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_after_a_jump_of_the_clock_nothing_goes_until_it_is_confirmed(control: Control, clock: Hands, jump: float) -> None:
    await begin(control, "v")
    await hours(control, clock, 3)
    clock.said += jump
    await hours(control, clock, 3)
    assert len(snapshots(control)) == (5 if jump > 0 else 4)        # none is deleted; the first look at a past has no run due
    assert last(control)["problems"] == [IN_DOUBT]
    assert control.daemon.schedules.rows()[0]["deleting"] is False
    _, _, err = await control.cli("schedule", "preview", "auto")
    assert IN_DOUBT in err
    _, _, err = await control.cli("schedule", "ls")
    assert err == f"auto: {IN_DOUBT}\n"
    await control.ok("schedule", "confirm")
    await hours(control, clock, 1)
    newest = sorted(control.daemon.pool.objects(), key=lambda each: each.id)[-2:]
    assert {each.name for each in newest} <= set(snapshots(control))
    assert len(snapshots(control)) == (2 if jump > 0 else 4)        # those of a clock that was ahead count for nothing, and stay


async def test_a_day_without_a_jump_is_as_good_as_a_word(control: Control, clock: Hands) -> None:
    await begin(control, "v")
    await hours(control, clock, 1)
    clock.said += 2 * HOUR
    await hours(control, clock, 24)
    assert len(snapshots(control)) == 25
    clock.started, clock.real = "two", 5.0              # the machine starts anew: the day begins again
    await hours(control, clock, 24)
    assert len(snapshots(control)) == 49
    await hours(control, clock, 2)
    assert len(snapshots(control)) == 2


@pytest.mark.parametrize("group", [False, True])
async def test_a_full_pool_skips_and_says_so(control: Control, clock: Hands, group: bool) -> None:
    await begin(control, "v", group=group)
    await hours(control, clock, 1)
    control.pool.fail["snapshot"] = "no_space"
    await hours(control, clock, 1)
    problem = f"skipped: snapshot {labels(12)[0]}: the pool is full"
    assert last(control)["problems"] == [problem]
    assert (await control.cli("schedule", "ls"))[2] == f"auto: {problem}\n"
    del control.pool.fail["snapshot"]
    await hours(control, clock, 1)
    assert snapshots(control) == labels(11, 13)


@pytest.mark.parametrize(("group", "taken"), [(False, labels(11)), (True, [])])
async def test_a_volume_that_cannot_be_snapshotted_costs_the_others_only_in_a_group(control: Control, clock: Hands, group: bool,
                                                                                   taken: list[str]) -> None:
    await begin(control, "v", "w", group=group)
    control.pool.no_snapshot_of[control.pool.names()["w"]] = "limit"
    await hours(control, clock, 1)
    assert snapshots(control) == taken
    assert [" w@" in each for each in last(control)["problems"]] == [True]


async def test_a_restart_forgets_nothing(control: Control, clock: Hands) -> None:
    await begin(control, "v", keep="last=2,yearly=1", zone="Europe/Berlin", group=True)
    await hours(control, clock, 3)
    clock.said += 2 * HOUR
    await hours(control, clock, 1)
    before = control.daemon.schedules.rows()[0]
    again = Schedules(control.daemon.pool, control.daemon.catalog,
                      control.daemon.management.objects, clock)
    assert again.rows()[0] == {**before, "last": None}
    assert before["deleting"] is False
    assert before["snapshots"] == 3


async def test_a_name_that_is_taken_is_not_in_the_way(control: Control, clock: Hands) -> None:
    await begin(control, "v")
    await control.daemon.commands.run("snapshot", {"names": [labels(11)[0]]})
    await hours(control, clock, 1)
    assert snapshots(control) == [labels(11)[0], f"{labels(11)[0]}.2"]


async def test_a_hold_that_comes_between_is_obeyed(control: Control, clock: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention decides, then deletes: what is held by then stays, and the log says so."""
    await begin(control, "v", keep="last=1")
    await hours(control, clock, 1)
    delete = control.daemon.management.objects.delete_unused

    async def held_before(info: Any) -> None:
        await control.daemon.commands.run("hold", {"name": info.name, "tag": "late"})
        await delete(info)

    monkeypatch.setattr(control.daemon.management.objects, "delete_unused", held_before)
    await hours(control, clock, 1)
    assert snapshots(control) == labels(11, 12)
    assert "is held by late" in last(control)["problems"][0]


async def test_a_pool_that_keeps_nothing_still_runs_each_schedule_once(control: Control, clock: Hands) -> None:
    """Neither what is known of the clock nor that a run is done can be stored: a look does not go astray over it."""
    await begin(control, "v")
    await control.daemon.commands.run("schedule_create", {"name": "b", "select": "*", "cron": "0 * * * *", "keep": "last=1"})
    control.pool.fail["kv"] = control.pool.fail["snapshot"] = "no_space"
    await hours(control, clock, 1)
    await control.daemon.schedules.look()
    assert [len(row["last"]["problems"]) for row in control.daemon.schedules.rows()] == [2, 2]
    assert len([op for op, _ in control.pool.started if op == "snapshot"]) == 2


async def test_a_schedule_that_fails_is_not_in_the_way_of_others(control: Control, clock: Hands,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    await begin(control, "v")
    await control.daemon.commands.run("schedule_create", {"name": "b", "select": "*", "cron": "0 * * * *", "keep": "last=1"})
    run = control.daemon.schedules._run

    async def broken(schedule: Any, *rest: Any) -> None:
        if schedule.name == "auto":
            raise RuntimeError("broken")
        await run(schedule, *rest)

    monkeypatch.setattr(control.daemon.schedules, "_run", broken)
    await hours(control, clock, 1)
    assert snapshots(control) == ["v@b-20261129T113000Z"]


async def test_a_pool_that_cannot_keep_it_makes_no_schedule(control: Control, clock: Hands) -> None:
    control.pool.fail["kv"] = "no_space"
    with pytest.raises(LunetteError, match="keep the schedules: the pool is full"):
        await begin(control)
    assert control.daemon.schedules.rows() == []


async def test_the_loop_runs_at_the_time_and_is_woken_by_a_change(control: Control, clock: Hands,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a schedule it waits for one; with one until its next run, and never longer than a minute."""
    waits: list[float | None] = []
    pause: Callable[[], float | None] = control.daemon.schedules._pause_seconds

    def paused() -> float | None:
        waits.append(pause())
        return waits[-1]

    monkeypatch.setattr(control.daemon.schedules, "_pause_seconds", paused)
    control.daemon.schedules.start()
    await until(lambda: len(waits) == 1)
    clock.said += 1790.0
    await begin(control, "v")
    await until(lambda: len(waits) == 2)
    assert waits == [None, 10.0]
    clock.said += 10.0
    await control.daemon.schedules.stop()
    assert snapshots(control) == []
    assert "paused" in await control.ok("schedule", "pause", "auto")        # the API answers until it stops
