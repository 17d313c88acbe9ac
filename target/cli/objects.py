"""Commands that change objects and connections: the models of their arguments, and how results are shown."""

from __future__ import annotations

from typing import Any

import click

from target.cli.model import model_command, pair
from target.cli.request import show_object
from target.models.objects import (
    Clone,
    Connect,
    Create,
    Delete,
    Disconnect,
    Hold,
    Release,
    Rename,
    Resize,
    Revert,
    Set,
    SetLabels,
    Snapshot,
)


def _show_held(result: dict[str, Any]) -> None:
    click.echo(f"{result['name']}  {result['kind']}  held by {', '.join(result['holds']) or 'nobody'}")


def _labels(args: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    changes = given["changes"]
    return {**args, "set": dict(pair(each) for each in changes if "=" in each),
            "remove": [_removed(each) for each in changes if "=" not in each]}


def _removed(text: str) -> str:
    if not text.endswith("-") or len(text) < 2:
        raise click.UsageError(f"{text!r} is neither KEY=VALUE nor KEY-")
    return text[:-1]


COMMANDS: list[click.Command] = [
    model_command(Create, "create", show=show_object),
    model_command(Snapshot, "snapshot", show=show_object),
    model_command(Clone, "clone", show=show_object),
    model_command(Delete, "delete"),
    model_command(Hold, "hold", show=_show_held, as_json=True),
    model_command(Release, "release", show=_show_held, as_json=True),
    model_command(Revert, "revert", show=show_object),
    model_command(Resize, "resize", show=show_object),
    model_command(Rename, "rename", show=show_object),
    model_command(SetLabels, "label", change=_labels, more=[
        click.Argument(["changes"], nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")]),
    model_command(Set, "set", show=show_object),
    model_command(Connect, "connect", show=show_object),
    model_command(Disconnect, "disconnect"),
]
