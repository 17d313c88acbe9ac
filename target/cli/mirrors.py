"""Commands about mirrors: volumes kept on a peer, and who is primary."""

from __future__ import annotations

from typing import Any

import click

from target.cli.group import Group
from target.cli.model import model_command
from target.cli.request import connect, json_option, print_json, print_table, show_note
from target.config import format_duration, format_size
from target.models.answers import MirrorState
from target.models.mirrors import Demote, MirrorAdd, MirrorPause, MirrorRemove, MirrorResolve, MirrorResume, Promote

BROKEN: tuple[MirrorState, ...] = ("diverged", "superseded")     # nothing mends them but a person


@click.group(cls=Group)
def mirror() -> None:
    """Mirrors: volumes kept on a peer, a little behind."""


@mirror.command("ls")
@json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> int:
    """List mirrored volumes. The exit status is 1 when one has diverged, or is further behind than twice its RPO."""
    rows = connect(ctx).get("/v1/mirrors")
    if as_json:
        print_json(rows)
    else:
        print_table([_cells(row) for row in rows],
                    ["VOLUME", "PEER", "ROLE", "STATE", "EPOCH", "LAG", "PENDING", "RPO", "ROUND", "SKIPPED"],
                    right=frozenset({"EPOCH", "LAG", "PENDING", "RPO", "ROUND", "SKIPPED"}))
        for row in rows:
            if row["problem"]:
                click.echo(f"{row['name']}: {row['problem']}", err=True)
    return int(any(row["state"] in BROKEN or (row["late"] and row["state"] != "paused") for row in rows))


def _cells(row: dict[str, Any]) -> list[Any]:
    return [row["name"], row["peer"], row["role"], row["state"] if row["state"] != row["role"] else "", row["epoch"],
            None if row["lag_s"] is None else f"{row['lag_s']:.1f}s",
            None if row["pending_bytes"] is None else format_size(row["pending_bytes"]),
            format_duration(row["rpo_s"]), f"{row['round_s']:.2f}s",
            row["skipped"]]


def _show(rows: Any) -> None:
    for row in rows or []:
        click.echo(f"{row['name']}  {row['role']}  peer {row['peer']}  every {format_duration(row['rpo_s'])}"
                   + (f"  group {row['group']}" if row["group"] else "") + ("  paused" if row["paused"] else ""))


def _show_promoted(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']}  {row['role']}  epoch {row['epoch']}")
    show_note(row["note"])


def _show_resolved(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']}  {row['role']}  what gave way is {row['safety']} {'' if row['where'] == 'here' else 'at '}"
               f"{row['where']}")


for _made in (
    model_command(MirrorAdd, "add", command="mirror_add", show=_show, as_json=True),
    model_command(MirrorRemove, "rm", command="mirror_rm", as_json=True),
    model_command(MirrorPause, "pause", command="mirror_pause", show=_show, as_json=True),
    model_command(MirrorResume, "resume", command="mirror_resume", show=_show, as_json=True),
    model_command(MirrorResolve, "resolve", command="mirror_resolve", show=_show_resolved, as_json=True),
):
    mirror.add_command(_made)

COMMANDS: list[click.Command] = [
    mirror, model_command(Promote, "promote", show=_show_promoted, as_json=True),
    model_command(Demote, "demote", show=_show, as_json=True)]
