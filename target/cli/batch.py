"""The command that runs many: lines of a file, each one that only describes its request (docs/operations.md)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import IO, Any

import click

from target.cli.request import Request, RequestCommand, connect, rounded, show_note
from target.errors import LunetteError


@click.command()
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"), default="-")
@click.option("--force", "-k", "keep_going", is_flag=True, help="Go on after errors; the exit status is still 1.")
@click.pass_context
def batch(ctx: click.Context, file: IO[str], keep_going: bool) -> int:
    """Run one command a line from FILE (or stdin), over one connection.

    Lines that concern different objects overlap. The first error stops the batch and its line is named; blank lines
    and lines that begin with # are skipped.
    """
    root = ctx.find_root().command
    refused: list[LunetteError] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                request = parse_line(root, line)
            except LunetteError as error:
                refused.append(LunetteError(error.code, f"line {number}: {error}"))
                if keep_going:
                    continue
                return
            yield {"line": number, "command": request.command, "args": dict(request.args), "flush": file.isatty()}

    failures = 0
    first = ""
    for row in connect(ctx).batch(rows(), keep_going=keep_going):
        for made in row["result"] if isinstance(row.get("result"), list) else [row.get("result")]:
            if made and made.get("note"):
                show_note(f"line {row['line']}: {made['note']}")
        if "error" in row:
            failures += 1
            message = f"line {row['line']}: {row['error']['message']}"
            if keep_going:
                click.echo("lunette: " + " ".join(message.split()), err=True)
            elif not first:
                first = message
        elif note := rounded(row.get("result")):
            click.echo(f"line {row['line']}: {note}")
    if first:
        raise LunetteError("aborted", first)
    if refused and not keep_going:
        raise refused[0]
    for error in refused:
        click.echo("lunette: " + " ".join(str(error).split()), err=True)
    return 1 if failures or refused else 0


def parse_line(root: click.Command, line: str) -> Request:
    """One line of a batch as a request, by the rules of the command line that `root` begins. LunetteError: invalid."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise LunetteError("invalid", str(error)) from None
    command: click.Command | None = root
    while isinstance(command, click.Group) and words:
        command = command.get_command(click.Context(command), words.pop(0))
    if not isinstance(command, RequestCommand):
        raise LunetteError("invalid", f"{line.split()[0]!r} is not a command of a batch")
    try:
        with command.make_context(command.name, words) as ctx:
            value = command.invoke(ctx)
    except click.ClickException as error:
        raise LunetteError("invalid", error.format_message()) from None
    except click.exceptions.Exit:
        value = None
    if not isinstance(value, Request):
        raise LunetteError("invalid", "--help is of no use in a batch")
    return value


COMMANDS: list[click.Command] = [batch]
