"""The NBD server: a held snapshot on a Unix socket, for any number of connections up to MAX_CONNECTIONS (docs/export.md).

Here are sockets and handshakes (target/nbd). A connection whose handshake is over is handed to the daemon, which serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from target.client import Client
from target.errors import LunetteError
from target.nbd.handshake import Export, Handshake, Phase, ProtocolError

log = logging.getLogger("lunette.nbd")

MAX_CONNECTIONS = 16
HANDSHAKE_SECONDS = 30.0
RECEIVE_BYTES = 1 << 16


class NbdServer:
    """Serves one export until stopped."""

    def __init__(self, api_path: str, export: Export, since: str | None) -> None:
        self._client = Client(api_path)
        self._export = export
        self._since = since
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        self._threads = ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="lunette-nbd")
        self._accepting: asyncio.Task[None] | None = None

    def start(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(listener), name="nbd listener")

    async def stop(self) -> None:
        """End every connection."""
        if self._accepting is not None:
            self._accepting.cancel()
        for sock in self._connections.values():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)         # its requests end, here and in the daemon
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self._threads.shutdown()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            if len(self._connections) >= MAX_CONNECTIONS:
                log.warning("a client was turned away: %d are connected", MAX_CONNECTIONS)
                sock.close()
                continue
            sock.setblocking(False)
            task = asyncio.create_task(self._serve(sock))
            self._connections[task] = sock
            task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()

    async def _serve(self, sock: socket.socket) -> None:
        """A client came: serve it. Whatever it does ends its own connection at most."""
        handshake = Handshake(self._export)
        try:
            await asyncio.wait_for(_negotiate(handshake, sock), HANDSHAKE_SECONDS)
            if handshake.phase is Phase.TRANSMISSION:
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._threads, self._hand_over, sock, handshake))
        except (ProtocolError, TimeoutError) as error:
            log.warning("a client is cut off: %s", error or "it did not end its handshake")
        except LunetteError as error:
            log.warning("a client is not served: %s", error)
        except (OSError, EOFError):
            pass                        # it left

    def _hand_over(self, sock: socket.socket, handshake: Handshake) -> None:
        """Until the daemon has served it. LunetteError."""
        wanted: dict[str, Any] = {
            "name": self._export.name, "structured": handshake.structured, "allocation": 1 in handshake.contexts,
            "changes": 2 in handshake.contexts, "rest": handshake.rest.hex(),
            **({"since": self._since} if self._since is not None else {})}
        self._client.command_with(sock.fileno(), "nbd_serve", wanted)


async def _negotiate(handshake: Handshake, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(sock, handshake.output())
        if handshake.phase in (Phase.TRANSMISSION, Phase.CLOSED):
            return
        data = await loop.sock_recv(sock, RECEIVE_BYTES)
        if not data:
            raise EOFError
        handshake.receive(data)
