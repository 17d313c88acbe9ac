"""What a shell can complete: names of objects and hosts, asked of the daemon; and the script that teaches it to a shell."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from target.client import Client
from target.config import find_api_socket
from target.errors import LunetteError

SHELLS = ("bash", "zsh", "fish")


def _names(ctx: click.Context, path: str, incomplete: str) -> list[CompletionItem]:
    """Names in a listing that begin so; none without a daemon: a shell has no use for an error."""
    try:
        rows: list[dict[str, Any]] = Client(find_api_socket(ctx.find_root().params.get("api"))).get(path)
    except LunetteError:
        return []
    return [CompletionItem(row["name"], help=row.get("kind")) for row in rows if row["name"].startswith(incomplete)]


def objects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names(ctx, "/v1/objects", incomplete)


def hosts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _names(ctx, "/v1/hosts", incomplete)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options and names: eval "$(lunette completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "lunette", "_LUNETTE_COMPLETE").source())


COMMANDS: list[click.Command] = [completion]
