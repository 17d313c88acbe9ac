"""Commands about hosts and the target: who may log in, with which secrets, and where. No secret is ever an argument."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import Any

import click

from target.cli.group import Group
from target.cli.model import model_command
from target.cli.request import connect, json_option, limits, print_json, print_table
from target.errors import LunetteError
from target.models.hosts import HostChange, HostCreate, HostDelete, HostSet, SetGroup, SetRedirect

MAX_SECRET_FILE = 4096  # bytes; a secret has 255 bytes at most
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@click.group(cls=Group)
def host() -> None:
    """Initiators by name: their IQNs and CHAP secrets."""


@host.command("ls")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List hosts, never their secrets."""
    rows = connect(ctx).get("/v1/hosts")
    if as_json:
        print_json(rows)
        return
    print_table([[row["name"], " ".join(row["initiators"]), "mutual" if row["mutual_chap"] else "yes" if row["chap"] else "no",
                  " ".join(f"{each['lun']}:{each['name']}" for each in row["luns"]), limits(row)] for row in rows],
                ["HOST", "INITIATORS", "CHAP", "LUNS", "LIMITS"])


def _show(result: dict[str, object]) -> None:
    initiators = result["initiators"]
    assert isinstance(initiators, list)
    click.echo(f"{result['name']}  {' '.join(initiators)}  CHAP {'yes' if result['chap'] else 'no'}"
               f"{f'  at most {limits(result)}' if limits(result) else ''}")


def _secrets(args: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    found = dict(args)
    if given["secret_file"] is not None:
        found["secret"] = _read(given["secret_file"])
    elif given["ask"]:
        if not sys.stdin.isatty():
            raise LunetteError("invalid", "--chap asks at a terminal, and stdin is none; --secret-file - reads stdin")
        found["secret"] = click.prompt("CHAP secret of the initiator", hide_input=True, confirmation_prompt=True)
    if given["mutual_secret_file"] is not None:
        found["mutual_secret"] = _read(given["mutual_secret_file"])
    return found


def _read(path: str) -> str:
    """The secret in a file: its one line, without the line end. LunetteError invalid, which shows nothing of the contents."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_SECRET_FILE)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(MAX_SECRET_FILE)
    except OSError as error:
        raise LunetteError("invalid", f"cannot read a secret from {path}: {error.strerror}") from None
    if why := _no_secret(raw):
        raise LunetteError("invalid", f"cannot read a secret from {path}: {why}")
    return raw.decode().rstrip("\r\n")


def _no_secret(raw: bytes) -> str:
    """Why these bytes are no secret that an initiator's configuration can hold too; empty if they are one."""
    if len(raw) == MAX_SECRET_FILE:
        return "it is too long"
    if raw.startswith(BYTE_ORDER_MARKS):
        return "it begins with a byte order mark, which would be part of the secret; save it as plain text (UTF-8 without BOM)"
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        return f"byte {error.start} is binary; a secret is a line of text"
    if "\n" in text or "\r" in text:
        return "it has several lines; a secret is one line of text"
    if not text.isprintable():
        return "it holds control characters; a secret is a line of text"
    return ""


@click.group(cls=Group)
def target() -> None:
    """The target as a whole: its portals, and logins that are sent elsewhere."""


def _on_or_off(args: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    if given["off"] == ("address" in args):
        raise click.UsageError("give either an address or --off")
    return args


@target.command("show")
@json_option
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show the target's name, portals with the access states of their groups, and redirects."""
    value = connect(ctx).get("/v1/target")
    if as_json:
        print_json(value)
    else:
        _show_target(value)


def _show_target(value: dict[str, Any]) -> None:
    click.echo(value["name"])
    for each in value["groups"]:
        for portal in each["portals"]:
            click.echo(f"portal {portal} group {each['group']} {each['state']}")
    for each in value["redirects"]:
        who = "everyone" if each["host"] == "*" else each["host"]
        click.echo(f"{who} redirected to {each['address']}{' for good' if each['permanent'] else ''}")


_SECRETS = [
    click.Option(["--secret-file"], type=click.Path(exists=True, dir_okay=False, allow_dash=True),
                 help="The initiator's CHAP secret; - is stdin."),
    click.Option(["--chap", "ask"], is_flag=True, help="Ask for the initiator's CHAP secret."),
    click.Option(["--mutual-secret-file"], type=click.Path(exists=True, dir_okay=False),
                 help="What the target proves itself with."),
]
host.add_command(model_command(HostCreate, "create", command="host_create", show=_show, more=_SECRETS, change=_secrets))
host.add_command(model_command(HostChange, "change", command="host_change", show=_show, more=_SECRETS, change=_secrets))
host.add_command(model_command(HostSet, "set", command="host_set", show=_show))
host.add_command(model_command(HostDelete, "delete", command="host_delete"))
target.add_command(model_command(SetRedirect, "redirect", show=_show_target, change=_on_or_off, more=[
    click.Option(["--off"], is_flag=True, help="Take logins here again.")]))
target.add_command(model_command(SetGroup, "group", show=_show_target))

COMMANDS: list[click.Command] = [host, target]
