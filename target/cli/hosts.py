"""Commands about hosts and the target: who may log in, with which secrets, and where. No secret is ever an argument."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from target.cli.request import Request, RequestCommand, connect, json_option, print_json, print_table
from target.errors import LunetteError

MAX_SECRET_FILE = 4096  # bytes; a secret has 255 bytes at most
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
EVENTS_HELP = "Tell its sessions of changed LUNs and sizes by SCSI events, also when they are idle."


@click.group()
def host() -> None:
    """Initiators by name: their IQNs and CHAP secrets."""


def _secret_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--mutual-secret-file", type=click.Path(exists=True, dir_okay=False),
                     help="What the target proves itself with."),
        click.option("--mutual-name", help="The name the target proves itself under (lunette if not given)."),
        click.option("--chap-name", help="The name the initiator proves itself under (its IQN if not given)."),
        click.option("--chap", "ask", is_flag=True, help="Ask for the initiator's CHAP secret."),
        click.option("--secret-file", type=click.Path(exists=True, dir_okay=False, allow_dash=True),
                     help="The initiator's CHAP secret; - is stdin."),
    ):
        function = option(function)
    return function


@host.command("create", cls=RequestCommand)
@click.argument("name")
@click.argument("initiators", nargs=-1, metavar="IQN...")
@click.option("--events", is_flag=True, help=EVENTS_HELP)
@_secret_options
def create(name: str, initiators: tuple[str, ...], events: bool, secret_file: str | None, ask: bool, chap_name: str | None,
           mutual_name: str | None, mutual_secret_file: str | None) -> Request:
    """Create a host."""
    return Request("host_create", {"name": name, "initiators": list(initiators), "events": events, **_secrets(
        secret_file, ask, chap_name, mutual_name, mutual_secret_file)}, _show)


@host.command("change", cls=RequestCommand)
@click.argument("name")
@click.option("--add", multiple=True, metavar="IQN")
@click.option("--remove", multiple=True, metavar="IQN")
@click.option("--rename", "new_name", metavar="NAME")
@click.option("--events/--no-events", default=None, help=EVENTS_HELP)
@click.option("--no-chap", is_flag=True, help="Ask for no secret any more.")
@click.option("--force", is_flag=True, help="Even when initiators that are removed are logged in: their sessions are ended.")
@_secret_options
def change(name: str, add: tuple[str, ...], remove: tuple[str, ...], new_name: str | None, events: bool | None, no_chap: bool,
           force: bool, secret_file: str | None, ask: bool, chap_name: str | None, mutual_name: str | None,
           mutual_secret_file: str | None) -> Request:
    """Change a host's initiators, name or secrets."""
    args = {"name": name, "add": list(add), "remove": list(remove), "no_chap": no_chap, "force": force,
            **_secrets(secret_file, ask, chap_name, mutual_name, mutual_secret_file)}
    if events is not None:
        args["events"] = events
    if new_name is not None:
        args["new_name"] = new_name
    return Request("host_change", args, _show)


@host.command("delete", cls=RequestCommand)
@click.argument("name")
@click.option("--force", is_flag=True, help="Even when it is logged in: its sessions are ended.")
def delete(name: str, force: bool) -> Request:
    """Delete a host."""
    return Request("host_delete", {"name": name, "force": force})


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
                  " ".join(f"{each['lun']}:{each['name']}" for each in row["luns"])] for row in rows],
                ["HOST", "INITIATORS", "CHAP", "LUNS"])


def _show(result: dict[str, object]) -> None:
    initiators = result["initiators"]
    assert isinstance(initiators, list)
    click.echo(f"{result['name']}  {' '.join(initiators)}  CHAP {'yes' if result['chap'] else 'no'}")


def _secrets(secret_file: str | None, ask: bool, chap_name: str | None, mutual_name: str | None,
             mutual_secret_file: str | None) -> dict[str, object]:
    found: dict[str, object] = {}
    if secret_file is not None:
        found["secret"] = _read(secret_file)
    elif ask:
        if not sys.stdin.isatty():
            raise LunetteError("invalid", "--chap asks at a terminal, and stdin is none; --secret-file - reads stdin")
        found["secret"] = click.prompt("CHAP secret of the initiator", hide_input=True, confirmation_prompt=True)
    if mutual_secret_file is not None:
        found["mutual_secret"] = _read(mutual_secret_file)
    if chap_name:
        found["chap_name"] = chap_name
    if mutual_name:
        found["mutual_name"] = mutual_name
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


@click.group()
def target() -> None:
    """The target as a whole: its portals, and logins that are sent elsewhere."""


@target.command("redirect", cls=RequestCommand)
@click.argument("address", required=False, metavar="[HOST[:PORT][,TAG]]")
@click.option("--host", help="Only this host's logins; without it, those of every host that has no redirect of its own.")
@click.option("--permanent", is_flag=True, help="Say that the target has moved for good.")
@click.option("--move", is_flag=True, help="Also ask who is logged in to log out, so that they follow.")
@click.option("--off", is_flag=True, help="Take logins here again.")
def redirect(address: str | None, host: str | None, permanent: bool, move: bool, off: bool) -> Request:
    """Send logins to another address (another machine, or another portal of this one), an IPv6 one in brackets.

    Who comes in by the address itself is served, so that one portal can collect what all the others refuse.
    """
    if off == (address is not None):
        raise click.UsageError("give either an address or --off")
    return Request("redirect", {"address": address, "host": host, "permanent": permanent, "move": move}, _show_target)


@target.command("group", cls=RequestCommand)
@click.argument("group", type=click.IntRange(1, 65535))
@click.argument("state", type=click.Choice(["optimized", "non-optimized", "standby", "unavailable", "transitioning"]))
@click.option("--force", is_flag=True, help="Even when a session has something open that it reaches through no other group.")
def group_(group: int, state: str, force: bool) -> Request:
    """Set the access state (ALUA) that all LUNs have through the portals of a group."""
    return Request("group", {"group": group, "state": state, "force": force}, _show_target)


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


COMMANDS: list[click.Command] = [host, target]
