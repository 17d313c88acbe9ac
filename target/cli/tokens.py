"""Commands about tokens for the API over TCP. A token is shown by the command that makes it, and never again."""

from __future__ import annotations

import time
from typing import Any

import click

from target.cli.group import Group
from target.cli.model import model_command
from target.cli.request import connect, json_option, print_json, print_table
from target.models.tokens import TokenCreate, TokenDelete


@click.group(cls=Group)
def token() -> None:
    """Who may use the API over TCP, what for, and until when."""


@token.command("ls")
@json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List tokens, never what they are."""
    rows = connect(ctx).get("/v1/tokens")
    if as_json:
        print_json(rows)
        return
    print_table([[row["name"], row["scope"], row["prefix"], _expiry(row)] for row in rows],
                ["NAME", "SCOPE", "PREFIX", "EXPIRES"])


def _expiry(row: dict[str, Any]) -> str | None:
    if row["expires_s"] is None:
        return None
    return time.strftime("%F %T UTC", time.gmtime(row["expires_s"])) + (" (expired)" if row["expired"] else "")


token.add_command(model_command(TokenCreate, "create", command="token_create", as_json=True,
                                show=lambda result: click.echo(result["token"])))
token.add_command(model_command(TokenDelete, "delete", command="token_delete"))

COMMANDS: list[click.Command] = [token]
