"""Listening Unix sockets: made for their owner alone, and never in the place of something that is alive; how servers end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

from target.errors import LunetteError


def listen_unix(path: str, *, others: str, remedy: str) -> socket.socket:
    """A listening, non-blocking socket of mode 0600; one that a dead process left behind is replaced.

    LunetteError in_use (`others` say who answers there, `remedy` what to do) or invalid.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if alive(path):
            raise LunetteError("in_use", f"{others} at {path}; {remedy}")
        if os.path.lexists(path) and not Path(path).is_socket():
            raise LunetteError("invalid", f"{path} is there and no socket: it is left alone; {remedy}")
        Path(path).unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(128)
        return sock
    except OSError as error:
        sock.close()
        raise LunetteError("invalid", f"cannot listen on {path}: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise


def alive(path: str) -> bool:
    """Whether somebody answers at a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
            return True
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return False
            raise


def remove(path: str) -> None:
    """Take a socket's name away, if it is there."""
    Path(path).unlink(missing_ok=True)


async def close_servers(*servers: asyncio.Server) -> None:
    """Accept no more, and close them when what was accepted has reached them.

    asyncio forgets a connection that it has accepted for a server which is closed in that turn of the loop (3.11): it would
    stay open until the collector comes by, and whoever has asked something there would wait for as long.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock)
    for _ in range(2):
        await asyncio.sleep(0)
    for server in servers:
        server.close()
