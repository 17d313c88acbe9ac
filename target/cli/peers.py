"""Commands about peers: the other daemons that this one mirrors to and from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from target.cli.group import Group
from target.cli.model import model_command
from target.cli.request import connect, json_option, print_json, print_table
from target.models.mirrors import PeerAdd, PeerCertificate, PeerRemove


@click.group(cls=Group)
def peer() -> None:
    """Peers: other daemons that volumes are mirrored to and from."""


@peer.command("ls")
@json_option
@click.pass_context
def ls(ctx: click.Context, as_json: bool) -> None:
    """List peers and what each may."""
    rows = connect(ctx).get("/v1/peers")
    if as_json:
        print_json(rows)
    else:
        print_table([[row["name"], row["address"], " ".join(row["send"]), " ".join(row["receive"]), row["fingerprint"]]
                     for row in rows], ["NAME", "ADDRESS", "MAY SEND", "MAY RECEIVE", "FINGERPRINT"])


def _with_certificate(args: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {**args, "certificate": Path(more["file"]).read_text(errors="replace")}


def _show(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']}  {row['address']}  may send {' '.join(row['send']) or 'nothing'}  may receive "
               f"{' '.join(row['receive']) or 'nothing'}")


for _made in (
    model_command(PeerCertificate, "certificate", command="peer_certificate", as_json=True,
                  show=lambda row: click.echo(row["certificate"], nl=False)),
    model_command(PeerAdd, "add", command="peer_add", show=_show, as_json=True, change=_with_certificate, more=[click.Option(
        ["--certificate", "file"], required=True, type=click.Path(exists=True, dir_okay=False), metavar="FILE",
        help="What `lunette peer certificate` prints there.")]),
    model_command(PeerRemove, "rm", command="peer_rm", as_json=True),
):
    peer.add_command(_made)

COMMANDS: list[click.Command] = [peer]
