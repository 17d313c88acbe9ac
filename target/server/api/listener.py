"""Sockets of the API: the Unix socket that only its owner may open, and TLS over TCP. HTTP itself is loaded by the first visitor.

Who listens is known at once; what serves (aiohttp, and all that it imports) comes when somebody connects: a start does not wait
for it, and a daemon that nobody asks does not hold it in memory.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

from target.config import Portal
from target.errors import LunetteError

log = logging.getLogger("lunette.api")

BACKLOG = 128


class Doorbell:
    """A listening socket whose first visitor is waited for; `answer` then takes the socket."""

    def __init__(self, sock: socket.socket, answer: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._sock = sock
        self._answer = answer
        self._task: asyncio.Task[None] | None = None
        asyncio.get_running_loop().add_reader(sock, self._rung)

    def _rung(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        self._task = loop.create_task(self._open(), name="api")

    async def _open(self) -> None:
        try:
            await self._answer(self._sock)
        except Exception:
            log.exception("the API cannot be served")
            self._sock.close()          # who comes is refused, and does not wait for an answer

    async def close(self) -> None:
        """Listen no more: who has come and was not answered is refused. A socket that was answered belongs to who answered."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._task is None or self._task.cancelled():
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()


def bind_tcp(portal: Portal) -> socket.socket:
    """A listening TCP socket for TLS. LunetteError in_use, invalid."""
    sock = socket.socket(socket.AF_INET6 if portal.is_ipv6 else socket.AF_INET,
                         socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((portal.host, portal.port))
        sock.listen(BACKLOG)
        return sock
    except OSError as error:
        sock.close()
        code = "in_use" if error.errno == errno.EADDRINUSE else "invalid"
        raise LunetteError(code, f"the API cannot listen on {portal}: {error.strerror or error}; --api-listen chooses another "
                                 "place") from None
