"""Commands about schedules: which volumes are snapshotted when, and how many of the snapshots stay."""

from __future__ import annotations

import time
from typing import Any

import click

from target.cli.group import Group
from target.cli.model import model_command
from target.cli.request import connect, json_option, print_json, print_table, show_note
from target.models.pool import ScheduleConfirm, ScheduleCreate, ScheduleDelete, SchedulePause, ScheduleResume

SHOWN = 8   # of many volumes, so many are named


@click.group(cls=Group)
def schedule() -> None:
    """Snapshots by the clock, and how many of them stay."""


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


for _made in (
    model_command(ScheduleCreate, "create", command="schedule_create", show=_show, as_json=True),
    model_command(SchedulePause, "pause", command="schedule_pause", show=_show, as_json=True),
    model_command(ScheduleResume, "resume", command="schedule_resume", show=_show, as_json=True),
    model_command(ScheduleDelete, "delete", command="schedule_delete", as_json=True),
    model_command(ScheduleConfirm, "confirm", command="schedule_confirm", as_json=True),
):
    schedule.add_command(_made)

COMMANDS: list[click.Command] = [schedule]
