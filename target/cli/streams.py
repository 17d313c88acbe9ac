"""Commands that send and receive snapshots: the daemon reads or writes this process's own descriptor (docs/protection.md)."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from target.cli import completion
from target.cli.request import SIZE, connect, json_option, print_json, print_table, show_note, size
from target.cli.work import job_shown
from target.config import format_size
from target.errors import LunetteError

LOCAL = click.option("--json", "as_json", is_flag=True, help="Print JSON (send: on standard error).")


@click.command()
@click.argument("name", metavar="NAME@LABEL", required=False, shell_complete=completion.objects)
@click.option("--from", "since", metavar="NAME@LABEL", help="What the receiver has already.", shell_complete=completion.objects)
@click.option("--intermediates", is_flag=True, help="Also each snapshot between the two, one after the other.")
@click.option("--compress", type=click.Choice(["auto", "zstd", "none"]), default="auto", show_default=True,
              help="auto: where the other end is slower than packing.")
@click.option("--limit", "limit_bytes", type=SIZE, metavar="RATE", default=0, help="At most so many bytes a second.")
@click.option("--resume", metavar="TOKEN", help="The rest of what a receiver has in part.")
@LOCAL
@click.pass_context
def send(ctx: click.Context, name: str | None, since: str | None, intermediates: bool, compress: str, limit_bytes: int,
         resume: str | None, as_json: bool) -> None:
    """Write a snapshot to standard output, whole or as what changed since another one (--from).

    lunette send db@2 --from db@1 | ssh HOST lunette receive db
    """
    if sys.stdout.isatty():
        raise click.UsageError("a stream is not for a terminal: write it to a file or a pipe")
    given = {"name": name, "since": since, "intermediates": intermediates, "compress": compress, "limit_bytes": limit_bytes,
             "resume": resume}
    args = {key: value for key, value in given.items() if value is not None}
    client = connect(ctx)
    with job_shown(client, "send"):
        result = client.command_with(sys.stdout.fileno(), "send", args)
    _report(result, as_json, f"sent {', '.join(result['sent'])}: {format_size(result['sent_bytes'])}")


@click.command()
@click.argument("name", shell_complete=completion.objects)
@click.option("--status", "only_status", is_flag=True, help="Show what has come in part, with the token to send for.")
@click.option("--resync", is_flag=True, help="NAME is there and has no snapshot of the sender's: keep what it holds as a "
              "snapshot, and write what differs.")
@click.option("--abort", "abort", is_flag=True, help="Let go of what has come in part.")
@json_option
@click.pass_context
def receive(ctx: click.Context, name: str, only_status: bool, resync: bool, abort: bool, as_json: bool) -> None:
    """Take snapshots of the volume NAME from standard input. Each appears when it is whole, or not at all."""
    client = connect(ctx)
    if only_status and abort:
        raise click.UsageError("--status or --abort, not both")
    if only_status:
        _show_status(client.command("receive_status", {"name": name}), as_json)
    elif abort:
        result = client.command("receive_abort", {"name": name})
        if as_json:
            print_json(result)
    else:
        if sys.stdin.isatty():
            raise click.UsageError("a stream is wanted on standard input")
        with job_shown(client, "receive"):
            result = client.command_with(sys.stdin.fileno(), "receive", {"name": name, "resync": resync})
        if as_json:
            print_json(result)
        else:
            click.echo(f"received {', '.join(result['received'])}: {format_size(result['received_bytes'])}")
            show_note(result["note"])


def _report(result: dict[str, Any], as_json: bool, line: str) -> None:
    """Standard output is the stream's."""
    if as_json:
        click.echo(json.dumps(result), err=True)
    elif os.isatty(2):
        click.echo(line, err=True)


def _show_status(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif not rows:
        raise LunetteError("not_found", "nothing has come in part")
    else:
        sizes = ("received_bytes", "offset_bytes", "size_bytes")
        print_table([[each["name"], *(size(each[key]) for key in sizes), each["token"]] for each in rows],
                    ["NAME", "RECEIVED", "UP TO", "SIZE", "TOKEN"])


COMMANDS: list[click.Command] = [send, receive]
