"""What the commands share: a described request, the size type, rendering of tables and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from target.client import Client
from target.config import find_api_socket, format_duration, format_size, parse_duration, parse_size
from target.errors import LunetteError


@dataclass(frozen=True, slots=True)
class Request:
    """A management command for the daemon, and how its result is shown. A batch sends it without showing."""

    command: str
    args: Mapping[str, Any] = field(default_factory=dict)
    show: Callable[[Any], None] = lambda result: None

    def perform(self, ctx: click.Context) -> None:
        self.show(connect(ctx).command(self.command, dict(self.args)))


class RequestCommand(click.Command):
    """A command whose function only returns a Request: what may stand in a batch."""


class Size(click.ParamType[int]):
    """A size in bytes: K, M, G and T are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except LunetteError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[float]):
    """A time in seconds, whole ones where it can be: 500ms, 10s, 2m, 1h, 30d, 2w."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return value
        try:
            seconds = parse_duration(value)
        except LunetteError as error:
            self.fail(str(error), param, ctx)
        return int(seconds) if seconds.is_integer() else seconds


SIZE = Size()
DURATION = Duration()
api_option = click.option("--api", "api", metavar="SOCKET", help="The daemon's API socket.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def connect(ctx: click.Context, api: str | None = None) -> Client:
    """The client for the daemon that this invocation means."""
    return Client(find_api_socket(api or ctx.find_root().obj))


def print_json(value: Any) -> None:
    """JSON for programs and eyes: a list has one line an item."""
    if isinstance(value, list):
        click.echo("[" + ",\n ".join(json.dumps(each, ensure_ascii=False) for each in value) + "]")
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: list[list[Any]], headers: list[str], *, right: frozenset[str] = frozenset()) -> None:
    """A table; None shows as a dash. Columns named in `right` are set to the right. Plain, but on a terminal."""
    if sys.stdout.isatty():
        from target.cli.terminal import show_table

        show_table(rows, headers, right)
        return
    shown = [headers, *(["-" if cell is None or cell == "" else str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    form = "  ".join(f"{{:{'>' if header in right else '<'}{width}}}" for header, width in zip(headers, widths, strict=True))
    click.echo("\n".join(form.format(*row).rstrip() for row in shown))


def size(value: int | None) -> str:
    return "?" if value is None else format_size(value)


def show_object(result: Any) -> None:
    """One line about an object that a command made or changed."""
    for each in result if isinstance(result, list) else [result]:
        where = "" if each.get("url") is None else f"  LUN {each['lun']}  {each['url']}"
        held = f"  at most {limits(each)}" if limits(each) else ""
        click.echo(f"{each['name']}  {each['kind']}  {format_size(each['size_bytes'])}{where}{held}")
        if note := rounded(each):
            click.echo(note)
        show_note(each["note"])


def limits(row: Mapping[str, Any]) -> str:
    """What a volume or host may do a second; empty: anything."""
    found = [f"{row['iops']} IOPS"] if row.get("iops") else []
    found += [f"{format_size(row['bandwidth_bytes'])}/s"] if row.get("bandwidth_bytes") else []
    return f"{' '.join(found)} burst {format_duration(row['burst_seconds'])}" if found else ""


def rounded(result: Any) -> str:
    """A word on an object that became larger than asked for; empty if it did not."""
    if not isinstance(result, dict) or result.get("asked_bytes", result.get("size_bytes")) == result.get("size_bytes"):
        return ""
    return f"{result['name']}: {result['asked_bytes']} bytes asked for, rounded up to {result['size_bytes']}"


def show_note(note: str | None) -> None:
    """What a command did may not be what its names suggest: one line on stderr."""
    if note:
        click.echo(f"lunette: note: {note}", err=True)
