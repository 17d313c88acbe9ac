"""Commands about who serves a pool: gateways that wait, take over, move; who serves what on a Ceph cluster."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from target.cli.group import Group
from target.cli.request import connect, json_option, print_json, print_table
from target.client import Client
from target.errors import LunetteError

WAIT_SECONDS = 30.0
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 5.0      # with one look at a daemon that is on its way: its socket may go while somebody stands before it


@click.group(cls=Group)
def gateway() -> None:
    """Gateways: one serves a pool, others may take it over."""


@gateway.command("ls")
@click.argument("place", metavar="rbd:POOL[@CONF]")
@json_option
def ls(place: str, as_json: bool) -> None:
    """Who serves each pool on a pool of a Ceph cluster, and which clients are blocked there."""
    from target.volumes.served_pools import gateways

    rows = gateways(place)
    if as_json:
        print_json(rows)
    else:
        print_table([[row[key] for key in ("image", "state", "host", "pid", "portals", "client")] for row in rows],
                    ["POOL", "STATE", "HOST", "PROCESS", "PORTALS", "CLIENT"])


@gateway.command("takeover")
@click.pass_context
def takeover(ctx: click.Context) -> None:
    """Have the gateway that waits at this API socket take its pool over, whoever serves it; wait until it serves."""
    client = connect(ctx)
    client.command("takeover", {})
    _wait_for(client, _serves)
    click.echo("serving")


@gateway.command("move")
@click.argument("address", metavar="[HOST[:PORT][,TAG]]", required=False)
@click.option("--then", "then", metavar="SOCKET", help="Then have the gateway that waits at this API socket take the pool over.")
@click.pass_context
def move(ctx: click.Context, address: str | None, then: str | None) -> None:
    """Give the running daemon's pool up in good order, and send logins to ADDRESS, or show its LUNs in standby, from then on."""
    client = connect(ctx)
    client.command("move", {"address": address} if address else {})
    _wait_for(client, _waits)
    click.echo(f"given up; {f'logins are sent to {address}' if address else 'its LUNs are in standby'}")
    if then:
        other = Client(then)
        other.command("takeover", {})
        _wait_for(other, _serves)
        click.echo("serving there")


def _serves(client: Client) -> bool:
    return "portals" in client.get("/v1/pool")


def _waits(client: Client) -> bool:
    return bool(client.get("/v1/gateway")["state"] == "standby")


def _wait_for(client: Client, condition: Callable[[Client], bool]) -> None:
    """Until the daemon at a socket is what it is becoming, which it may not answer for a while. LunetteError."""
    deadline, looking = time.monotonic() + WAIT_SECONDS, Client(client.path, PATIENCE_SECONDS)
    while True:
        try:
            if condition(looking):
                return
        except LunetteError as error:
            if error.code not in ("unreachable", "not_found", "closed", "invalid"):
                raise
        if time.monotonic() > deadline:
            raise LunetteError("unreachable", f"the daemon at {client.path} is not where it should be after {WAIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


@gateway.command("sweep")
@click.argument("place", metavar="rbd:POOL[@CONF]")
@click.argument("client", metavar="CLIENT")
@click.option("--force", is_flag=True, help="Its process is dead for certain, and so is its machine's last request.")
def sweep(place: str, client: str, force: bool) -> None:
    """Let the cluster forget that it blocked CLIENT. Daemons do that by themselves for processes that they see are dead."""
    from target.volumes.served_pools import unblock

    unblock(place, client, force=force)
    click.echo(f"{client}: not blocked any more")


COMMANDS: list[click.Command] = [gateway]
