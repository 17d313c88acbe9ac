"""The command that exports a snapshot by NBD: a server in the foreground, for backup tools and QEMU (docs/export.md)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from target.cli.request import json_option, print_json
from target.config import find_api_socket
from target.errors import LunetteError


@click.command()
@click.argument("name", metavar="NAME@LABEL")
@click.option("--since", metavar="NAME@LABEL", help="Also offer what changed since this snapshot, as qemu:dirty-bitmap:LABEL.")
@click.option("--socket", "socket_path", required=True, type=click.Path(), help="The Unix socket to listen on.")
@json_option
@click.pass_context
def nbd(ctx: click.Context, name: str, since: str | None, socket_path: str, as_json: bool) -> None:
    """Export a snapshot by NBD, read-only, in the foreground. Ready when the URI is printed; SIGTERM or Ctrl-C ends it.

    The snapshot cannot be deleted meanwhile.
    """
    asyncio.run(_serve(find_api_socket(ctx.find_root().obj), name, since, os.path.abspath(socket_path), as_json))


async def _serve(api_path: str, name: str, since: str | None, socket_path: str, as_json: bool) -> None:
    from target.export.nbd_server import NbdServer
    from target.export.source import Source
    from target.nbd.handshake import BASE_ALLOCATION, DIRTY_BITMAP, Export
    from target.sockets import listen_unix, remove

    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    source = await Source.open(api_path, name, since, f"nbd:{Path(socket_path).name}")
    try:
        contexts = (BASE_ALLOCATION,) if since is None else (BASE_ALLOCATION, DIRTY_BITMAP + since.partition("@")[2])
        export = Export(name, source.size_bytes, contexts, f"{name}, GUID {source.hello['object']['guid']}")
        sock = listen_unix(socket_path, others="somebody answers", remedy="--socket chooses another place")
        server = NbdServer(api_path, export, since)
        server.start(sock)
        try:
            _announce(source.hello, export, socket_path, as_json)
            waits = [asyncio.ensure_future(each.wait()) for each in (stopping, source.ended)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()
        finally:
            await server.stop()
            sock.close()
            remove(socket_path)
        if source.ended.is_set():
            raise LunetteError("unreachable", f"the daemon is gone, {name} is exported no more")
    finally:
        await source.close()


def _announce(hello: dict[str, Any], export: Any, socket_path: str, as_json: bool) -> None:
    uri = f"nbd+unix:///{quote(export.name, safe='')}?socket={quote(socket_path)}"
    if as_json:
        print_json({"uri": uri, "socket": socket_path, "contexts": list(export.contexts), **hello})
    else:
        click.echo(f"{uri}  {' '.join(export.contexts)}")
    sys.stdout.flush()


COMMANDS: list[click.Command] = [nbd]
