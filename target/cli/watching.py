"""Commands that watch: long work and its end, events as they come, who did what."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from target.cli.group import Group
from target.cli.request import connect, json_option, print_json, print_table, size

Json = dict[str, Any]
AGAIN_SECONDS = 1.0     # after a daemon went away
NUMBERS = frozenset({"ID", "DONE", "TOTAL", "RATE/S", "LEFT"})


@click.group(cls=Group, invoke_without_command=True)
@click.option("--all", "ended", is_flag=True, help="Also the last ones that ended.")
@json_option
@click.pass_context
def jobs(ctx: click.Context, ended: bool, as_json: bool) -> None:
    """List long work: what it is, how far, how fast; `jobs cancel ID` ends one."""
    if ctx.invoked_subcommand is not None:
        return
    rows = [row for row in connect(ctx).get("/v1/jobs") if ended or row["state"] == "running"]
    if as_json:
        print_json(rows)
        return
    print_table([[row["id"], row["kind"], " ".join(row["names"]), row["state"], _amount(row, row["done"]),
                  _amount(row, row["total"]), None if row["percent"] is None else f"{row['percent']:.1f} %",
                  _amount(row, round(row["rate_per_second"])), _clock(row["left_seconds"]), row["message"]] for row in rows],
                ["ID", "KIND", "NAMES", "STATE", "DONE", "TOTAL", "PERCENT", "RATE/S", "LEFT", "MESSAGE"], right=NUMBERS)


@jobs.command("cancel")
@click.argument("number", type=click.IntRange(1), metavar="ID")
@json_option
@click.pass_context
def cancel(ctx: click.Context, number: int, as_json: bool) -> None:
    """End a job. What it has done stays done."""
    row = connect(ctx).delete(f"/v1/jobs/{number}")
    if as_json:
        print_json(row)


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on as they come.")
@click.option("--after", metavar="ID", help="Only what came behind this one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event a line.")
@click.pass_context
def events(ctx: click.Context, follow: bool, after: str | None, as_json: bool) -> None:
    """Show what happened: changes, jobs, sessions, damage."""
    rows = connect(ctx).get("/v1/events", **({"after": after} if after else {}))
    for row in rows:
        _show(row, as_json)
    if follow:
        _follow(ctx, rows[-1]["id"] if rows else after, as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event a line.")
@click.pass_context
def watch(ctx: click.Context, as_json: bool) -> None:
    """Show changes from now on, as they come. Ctrl-C ends it."""
    _follow(ctx, None, as_json)


@click.command()
@click.option("--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="So many of the last ones.")
@json_option
@click.pass_context
def audit(ctx: click.Context, limit: int, as_json: bool) -> None:
    """List who changed what, and what came of it. The log has it too, and for longer."""
    rows = connect(ctx).get("/v1/audit")[-limit:]
    if as_json:
        print_json(rows)
        return
    print_table([[_moment(row["at_s"]), row["identity"], row["command"], json.dumps(row["arguments"], ensure_ascii=False),
                  row["result"], row["message"]] for row in rows], ["TIME", "WHO", "COMMAND", "ARGUMENTS", "RESULT", "WHY"])


def _follow(ctx: click.Context, after: str | None, as_json: bool) -> None:
    """Events without end; over the end of a daemon, too, if it comes back."""
    from target.errors import LunetteError

    client = connect(ctx)
    begun = False
    while True:
        try:
            for row in client.events(after):
                begun = True
                after = row["id"]
                _show(row, as_json)
        except LunetteError as error:
            if error.code != "unreachable" or not (begun or after):
                raise
        time.sleep(AGAIN_SECONDS)


def _show(row: Json, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(row, ensure_ascii=False))
        return
    data = row["data"]
    if row["kind"] == "log":
        what = click.style(data["text"], fg={"warning": "yellow", "error": "red"}.get(data["level"]))
    elif row["kind"] == "job":
        far = "" if data["percent"] is None else f" {data['percent']:.0f} %"
        what = f"{data['kind']} {data['id']}: {data['state']}{far}{' ' + data['message'] if data['message'] else ''}"
    elif row["kind"] == "lost":
        what = click.style(data["why"], fg="yellow")
    else:
        what = f"by {data.get('by', 'lunette')}"
    click.echo(f"{_moment(row['at_s'])}  {click.style(row['kind'], bold=True):10}  {' '.join(row['names'])}"
               f"{'  ' if row['names'] else ''}{what}")


def _amount(row: Json, value: int | None) -> str | None:
    if value is None:
        return None
    return size(value) if row["unit"] == "bytes" else str(value)


def _clock(seconds: float | None) -> str | None:
    return None if seconds is None else f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def _moment(at_s: float) -> str:
    return time.strftime("%F %T", time.localtime(at_s))


COMMANDS: list[click.Command] = [jobs, events, watch, audit]
