"""Commands that change objects and connections, alone or in a batch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import IO, Any

import click

from target.cli_request import SIZE, Request, RequestCommand, connect, rounded, show_note, show_object
from target.errors import LunetteError

PHYSICAL = click.Choice(["512", "4096"])


@click.command(cls=RequestCommand)
@click.argument("name")
@click.option("--size", "size_bytes", type=SIZE, required=True, help="10G, 512M ...")
@click.option("--block-size", "block_bytes", type=click.Choice(["512", "4096"]), default="512", show_default=True,
              help="Logical block; the map's grain is 4096 either way.")
@click.option("--physical-block", "physical_block_bytes", type=PHYSICAL, help="What hosts are told to align to.  [default: "
              "4096]")
@click.option("--checksum", is_flag=True, help="Keep and verify a CRC32C of every data block.")
@click.option("--quota", "quota_bytes", type=SIZE, default=0, help="At most so many bytes of the pool.")
@click.option("--reserve", "reserve_bytes", type=SIZE, default=0, help="Bytes of the pool kept for this volume.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
def create(name: str, size_bytes: int, block_bytes: str, physical_block_bytes: str | None, checksum: bool, quota_bytes: int,
           reserve_bytes: int, labels: tuple[str, ...]) -> Request:
    """Create a volume. It is thin: it takes space as it is written."""
    physical = {} if physical_block_bytes is None else {"physical_block_bytes": int(physical_block_bytes)}
    return Request("create", {"name": name, "size_bytes": size_bytes, "block_bytes": int(block_bytes), "checksum": checksum,
                              "quota_bytes": quota_bytes, "reserve_bytes": reserve_bytes, **physical,
                              "labels": dict(_pair(each) for each in labels)}, show_object)


@click.command(cls=RequestCommand)
@click.argument("names", nargs=-1, required=True, metavar="NAME@LABEL...")
def snapshot(names: tuple[str, ...]) -> Request:
    """Freeze a volume's contents as NAME@LABEL; several volumes at one instant."""
    return Request("snapshot", {"names": list(names)}, show_object)


@click.command(cls=RequestCommand)
@click.argument("source")
@click.argument("name")
def clone(source: str, name: str) -> Request:
    """Make a writable volume NAME from a snapshot or a live volume, without copying."""
    return Request("clone", {"source": source, "name": name}, show_object)


@click.command(cls=RequestCommand)
@click.argument("names", nargs=-1, required=True, metavar="NAME[@LABEL]...")
@click.option("--force", is_flag=True, help="Even when a session has it open.")
def delete(names: tuple[str, ...], force: bool) -> Request:
    """Delete volumes, snapshots or clones, in any order."""
    return Request("delete", {"names": list(names), "force": force})


@click.command(cls=RequestCommand)
@click.argument("name", metavar="NAME@LABEL")
@click.option("--safety", metavar="LABEL", default="", help="Snapshot the present contents under this label first.")
@click.option("--force", is_flag=True, help="Even when a session has it open, or its size changes.")
def revert(name: str, safety: str, force: bool) -> Request:
    """Give the volume that a snapshot was taken of its contents again; newer snapshots stay."""
    return Request("revert", {"name": name, "safety": safety, "force": force}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name")
@click.argument("size_bytes", type=SIZE, metavar="SIZE")
@click.option("--force", is_flag=True, help="Also make it smaller, which loses its end.")
def resize(name: str, size_bytes: int, force: bool) -> Request:
    """Change a volume's size, under live initiators."""
    return Request("resize", {"name": name, "size_bytes": size_bytes, "force": force}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name")
@click.argument("new_name")
def rename(name: str, new_name: str) -> Request:
    """Rename an object; a volume's snapshots follow. Identities and connections stay."""
    return Request("rename", {"name": name, "new_name": new_name}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
def label(name: str, changes: tuple[str, ...]) -> Request:
    """Set labels (KEY=VALUE) or remove them (KEY-)."""
    return Request("label", {"name": name, "set": dict(_pair(each) for each in changes if "=" in each),
                             "remove": [_removed(each) for each in changes if "=" not in each]})


@click.command("set", cls=RequestCommand)
@click.argument("name")
@click.option("--quota", "quota_bytes", type=SIZE, help="At most so many bytes of the pool; 0 for no limit.")
@click.option("--reserve", "reserve_bytes", type=SIZE, help="Bytes of the pool kept for this volume.")
@click.option("--physical-block", "physical_block_bytes", type=PHYSICAL, help="What hosts are told to align to; while none has "
              "it open.")
def set_(name: str, quota_bytes: int | None, reserve_bytes: int | None, physical_block_bytes: str | None) -> Request:
    """Change a volume's quota, reservation of space or physical block."""
    return Request("set", {"name": name, "quota_bytes": quota_bytes, "reserve_bytes": reserve_bytes, "physical_block_bytes":
                           None if physical_block_bytes is None else int(physical_block_bytes)}, show_object)


@click.command("connect", cls=RequestCommand)
@click.argument("name", metavar="NAME[@LABEL]")
@click.option("--lun", type=int, help="The LUN; the next free one if not given.")
@click.option("--host", help="Only for this host; without it, for every initiator (daemons with --open).")
@click.option("--force", is_flag=True, help="Even when a session uses another object by that number.")
def connect_(name: str, lun: int | None, host: str | None, force: bool) -> Request:
    """Connect an object as a LUN."""
    return Request("connect", {"name": name, "lun": lun, "host": host, "force": force}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name", metavar="NAME[@LABEL]")
@click.option("--host", help="Only from this host.")
@click.option("--force", is_flag=True, help="Even when a session has it open.")
def disconnect(name: str, host: str | None, force: bool) -> Request:
    """Take an object's LUNs away; the object stays."""
    return Request("disconnect", {"name": name, "host": host, "force": force})


@click.command()
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"), default="-")
@click.option("--force", "-k", "keep_going", is_flag=True, help="Go on after errors; the exit status is still 1.")
@click.pass_context
def batch(ctx: click.Context, file: IO[str], keep_going: bool) -> int:
    """Run one command a line from FILE (or stdin), over one connection.

    Lines that concern different objects overlap. The first error stops the batch and its line is named; blank lines
    and lines that begin with # are skipped.
    """
    refused: list[LunetteError] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                request = parse_line(line)
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


def parse_line(line: str) -> Request:
    """One line of a batch as a request, by the same rules as the command line. LunetteError: invalid."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise LunetteError("invalid", str(error)) from None
    command: click.Command | None = _root()
    while isinstance(command, click.Group) and words:
        command = command.commands.get(words.pop(0))
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


def _root() -> click.Command:
    from target.cli import cli

    return cli


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} is not KEY=VALUE")
    return key, value


def _removed(text: str) -> str:
    if not text.endswith("-") or len(text) < 2:
        raise click.UsageError(f"{text!r} is neither KEY=VALUE nor KEY-")
    return text[:-1]


COMMANDS: list[click.Command] = [create, snapshot, clone, delete, revert, resize, rename, label, set_, connect_, disconnect,
                                 batch]
