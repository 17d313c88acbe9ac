"""Descriptors that clients hand over: a Unix socket beside the API's, `SOCKET.fd`, that takes one by SCM_RIGHTS a connection.

The answer is a word by which a request names it. The connection stays: when it closes, the client is gone, and so is what was
done for it.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from target.errors import LunetteError
from target.sockets import listen_unix, remove

SUFFIX = ".fd"
MOST = 64               # handed over and not asked for
T = TypeVar("T")


class Descriptors:
    """Takes descriptors until stopped."""

    def __init__(self) -> None:
        self._path = ""
        self._sock: socket.socket | None = None
        self._waiting: dict[str, tuple[int, socket.socket]] = {}

    def start(self, api_path: str) -> None:
        """Listen. LunetteError in_use or invalid."""
        self._path = api_path + SUFFIX
        self._sock = listen_unix(self._path, others="another daemon answers", remedy="--api chooses another place")
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def stop(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None
            remove(self._path)
        for word in list(self._waiting):
            self._let_go(word)

    @contextlib.asynccontextmanager
    async def take(self, word: str) -> AsyncIterator[tuple[int, socket.socket]]:
        """The descriptor behind a word, once, and its client's connection. LunetteError not_found."""
        if word not in self._waiting:
            raise LunetteError("not_found", "no descriptor was handed over by that word")
        fd, client = self._waiting.pop(word)
        asyncio.get_running_loop().remove_reader(client)
        try:
            yield fd, client
        finally:
            os.close(fd)
            client.close()

    def _accept(self) -> None:
        assert self._sock is not None
        with contextlib.suppress(BlockingIOError):
            client, _ = self._sock.accept()
            client.setblocking(False)
            asyncio.get_running_loop().add_reader(client, self._arrived, client)

    def _arrived(self, client: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(client)
        fds = array.array("i")
        try:
            _, ancillary, _, _ = client.recvmsg(1, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
            if len(fds) != 1 or len(self._waiting) >= MOST:
                raise OSError("no descriptor, or too many")
            word = secrets.token_hex(8)
            client.send(word.encode() + b"\n")
        except OSError:
            for fd in fds:
                os.close(fd)
            client.close()
            return
        self._waiting[word] = fds[0], client
        asyncio.get_running_loop().add_reader(client, self._let_go, word)

    def _let_go(self, word: str) -> None:
        """Nobody asked for it, and its client is gone."""
        fd, client = self._waiting.pop(word)
        asyncio.get_running_loop().remove_reader(client)
        os.close(fd)
        client.close()


async def while_there(client: socket.socket, work: Coroutine[Any, Any, T]) -> T:
    """Do it as long as the client is there. LunetteError aborted."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(client, gone.set)
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait([doing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise LunetteError("aborted", "the client is gone")
        return doing.result()
    finally:
        leaving.cancel()
        loop.remove_reader(client)
        if not doing.done():
            doing.cancel()
            await asyncio.wait([doing])
