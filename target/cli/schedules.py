"""Commands about schedules: which volumes are snapshotted when, and how many of the snapshots stay."""

from __future__ import annotations

import time
from typing import Any

import click

from target.cli.request import Request, RequestCommand, connect, json_option, print_json, print_table, show_note

SHOWN = 8   # of many volumes, so many are named


@click.group()
def schedule() -> None:
    """Snapshots by the clock, and how many of them stay."""


@schedule.command("create", cls=RequestCommand)
@click.argument("name")
@click.option("--select", required=True, metavar="SELECTOR",
              help="Volumes by name or glob (web*), by label (tier=gold); !TERM leaves out; commas between.")
@click.option("--cron", required=True, metavar="\"M H D MONTH WEEKDAY\"", help="When, as in cron.")
@click.option("--tz", "zone", default="UTC", show_default=True, metavar="ZONE", help="Whose clock cron means: Europe/Berlin ...")
@click.option("--keep", required=True, metavar="KIND=N,...", help="last, hourly, daily, weekly, monthly, yearly.")
@click.option("--group", is_flag=True, help="All volumes at one instant, or none.")
@json_option
def create(name: str, select: str, cron: str, zone: str, keep: str, group: bool, as_json: bool) -> Request:
    """Take snapshots by the clock and delete those that are past keeping."""
    return Request("schedule_create", {"name": name, "select": select, "cron": cron, "zone": zone, "keep": keep, "group": group},
                   print_json if as_json else _show)


@schedule.command("pause", cls=RequestCommand)
@click.argument("name")
@json_option
def pause(name: str, as_json: bool) -> Request:
    """Take nothing and delete nothing until it is resumed."""
    return Request("schedule_pause", {"name": name}, print_json if as_json else _show)


@schedule.command("resume", cls=RequestCommand)
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> Request:
    """Go on with the next run; what the pause left out is not made up for."""
    return Request("schedule_resume", {"name": name}, print_json if as_json else _show)


@schedule.command("delete", cls=RequestCommand)
@click.argument("name")
@json_option
def delete(name: str, as_json: bool) -> Request:
    """Forget a schedule. The snapshots that it took stay."""
    return Request("schedule_delete", {"name": name}, print_json if as_json else lambda result: None)


@schedule.command("confirm", cls=RequestCommand)
@json_option
def confirm(as_json: bool) -> Request:
    """Say that the clock is right after it jumped: schedules delete again."""
    return Request("schedule_confirm", {}, print_json if as_json else lambda result: None)


@schedule.command("ls")
@json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List schedules, when they run next and what their last run could not do."""
    rows = connect(ctx).get("/v1/schedules")
    if as_json:
        print_json(rows)
        return
    print_table([[row["name"], row["select"], row["cron"], row["zone"], row["keep"], len(row["volumes"]), row["snapshots"],
                  "paused" if row["paused"] else _time(row["next_run_s"])] for row in rows],
                ["NAME", "SELECT", "CRON", "ZONE", "KEEP", "VOLUMES", "SNAPSHOTS", "NEXT RUN"],
                right=frozenset({"VOLUMES", "SNAPSHOTS"}))
    for row in rows:
        problems = [*(row["last"] or {}).get("problems", []), row["note"]]
        for problem in dict.fromkeys(filter(None, problems)):
            click.echo(f"{row['name']}: {problem}", err=True)


@schedule.command("preview")
@click.argument("name")
@click.option("--runs", type=click.IntRange(1, 10000), default=1, show_default=True, help="So many runs ahead.")
@json_option
@click.pass_context
def preview(ctx: click.Context, name: str, runs: int, as_json: bool) -> None:
    """Say what the next runs would take and delete. Nothing is done."""
    client = connect(ctx)
    rows = client.get("/v1/schedules/preview", name=name, runs=str(runs))
    for each in client.get("/v1/schedules"):
        if each["name"] == name:
            show_note(each["note"])
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(row["at"])
        for each in row["take"]:
            click.echo(f"  take    {each}")
        for each in row["delete"]:
            click.echo(f"  delete  {each}")


def _show(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']}  {row['select']}  {row['cron']} {row['zone']}  keep {row['keep']}  next run "
               + ("paused" if row["paused"] else _time(row["next_run_s"])))
    more = len(row["volumes"]) - SHOWN
    click.echo(f"volumes: {' '.join(row['volumes'][:SHOWN]) or 'none yet'}" + (f" and {more} more" if more > 0 else ""))


def _time(at_s: float | None) -> str:
    return "never" if at_s is None else time.strftime("%F %T UTC", time.gmtime(at_s))


COMMANDS: list[click.Command] = [schedule]
