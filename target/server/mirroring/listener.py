"""The listener for peers: TLS of both sides, a connection for whom a certificate is known, nothing for anybody else."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Awaitable, Callable

from target.config import Portal
from target.errors import LunetteError
from target.volumes.links import Link
from target.volumes.peers import Peer, Peers

log = logging.getLogger("lunette.mirror")

MAX_CONNECTIONS = 64
MAX_STRANGERS = 16          # connections that have not shown who they are
TOLD_SECONDS = 60.0         # between two lines about connections that are refused


class PeerListener:
    """Listens until stopped."""

    def __init__(self, portal: Portal, peers: Peers, serve: Callable[[Peer, Link], Awaitable[None]]) -> None:
        self._portal = portal
        self._peers = peers
        self._serve = serve
        self._sock: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._visits: set[asyncio.Task[None]] = set()
        self._strangers = 0
        self._told_s = 0.0

    def start(self) -> None:
        """LunetteError in_use, invalid."""
        portal = self._portal
        sock = socket.socket(socket.AF_INET6 if portal.is_ipv6 else socket.AF_INET,
                             socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((portal.host, portal.port))
            sock.listen(128)
        except OSError as error:
            sock.close()
            code = "in_use" if error.errno == errno.EADDRINUSE else "invalid"
            raise LunetteError(code, f"peers cannot be listened for on {portal}: {error.strerror or error}; --peer chooses "
                                     "another place") from None
        self._sock = sock
        self._task = asyncio.create_task(self._accept(sock), name="peers")

    async def stop(self) -> None:
        for task in (self._task, *self._visits):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(each for each in (self._task, *self._visits) if each is not None), return_exceptions=True)
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(sock)
            except OSError as error:            # no descriptors, say: others end and give some back
                log.warning("a peer cannot be answered: %s", error)
                await asyncio.sleep(1.0)
                continue
            if len(self._visits) >= MAX_CONNECTIONS or self._strangers >= MAX_STRANGERS:
                self._tell(f"{address[0]} is not answered: too many connections of peers")
                client.close()
                continue
            task = asyncio.create_task(self._visit(client, address[0]), name="peer")
            self._visits.add(task)
            task.add_done_callback(self._visits.discard)

    async def _visit(self, sock: socket.socket, address: str) -> None:
        try:
            link = Link(sock, await self._peers.credentials(), server=True)
        except LunetteError as error:
            sock.close()
            log.error("peers cannot be answered: %s", error)
            return
        try:
            peer = await self._identified(link, address)
            if peer is not None:
                link.carry()
                await self._serve(peer, link)
        except LunetteError as error:
            log.info("a connection from %s ends: %s", address, error)
        except asyncio.CancelledError:
            link.cut()
            raise
        except Exception:
            log.exception("a request of a peer at %s failed", address)
        finally:
            await link.close()

    async def _identified(self, link: Link, address: str) -> Peer | None:
        self._strangers += 1
        try:
            shown = await link.shake_hands()
        except LunetteError as error:
            self._tell(f"{address} is refused as a peer: {error}")
            return None
        finally:
            self._strangers -= 1
        peer = self._peers.by_fingerprint(shown)
        if peer is None:
            self._tell(f"{address} is refused as a peer: nobody is known by the certificate {shown}")
        return peer

    def _tell(self, text: str) -> None:
        """Once in a while: strangers do not fill the log."""
        if not self._told_s or time.monotonic() - self._told_s > TOLD_SECONDS:
            self._told_s = time.monotonic()
            log.warning("%s", text)
        else:
            log.debug("%s", text)
