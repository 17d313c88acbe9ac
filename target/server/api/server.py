"""The management API of one daemon: where it listens, what it serves there, its start and stop (docs/api.md)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from target.config import ApiListener, find_api_socket
from target.server.api.commands.management import Management
from target.server.api.differences import Differences
from target.server.api.events import LogEvents
from target.server.api.exports import Exports
from target.server.api.lasting import Lasting
from target.server.api.listener import Doorbell, bind_tcp
from target.server.api.listing import Listing
from target.server.api.loading import load_http
from target.server.api.parts import Parts
from target.server.api.reading import Reading
from target.server.api.running import Running
from target.server.api.served import Served
from target.server.api.tokens import Tokens
from target.server.background.defrag import Defrag
from target.server.background.schedules import Schedules
from target.server.background.scrub import Scrub
from target.server.background.transfers import Transfers
from target.server.background.trim import Trim
from target.server.mirroring.mirroring import Mirroring
from target.sockets import close_servers, listen_unix, remove

if TYPE_CHECKING:
    import ssl

    from aiohttp import web

    from target.server.api.metrics import Metrics

log = logging.getLogger("lunette.api")

HTTP_LOG = logging.getLogger("lunette.api.http")
HTTP_LOG.setLevel(logging.CRITICAL)     # bytes that are no HTTP are answered, and worth no line of the log


class ApiServer:
    """Serves one daemon's API until stopped."""

    def __init__(self, api_path: Path | None, served: Served, management: Management, listing: Listing, schedules: Schedules,
                 mirroring: Mirroring, transfers: Transfers, exports: Exports, metrics: Callable[[], Metrics],
                 prove: Callable[[], None],
                 tcp: ApiListener | None = None) -> None:
        """`prove` is called before anything is answered: it returns only if the pool is still ours. `metrics` makes them."""
        self._api_path = api_path
        self._tcp = tcp
        self._prove = prove
        tokens = Tokens(served.pool)
        tokens.changed = self._tokens_changed
        management.table.add(*tokens.commands())
        self.parts = Parts(served, management, listing, schedules, mirroring, tokens, Scrub(served.pool, served.jobs),
                           Trim(served.pool, served.jobs), Defrag(served.pool, served.jobs),
                           Differences(served.pool, served.catalog, served.holds, served.replicas.guid), metrics,
                           exports, transfers, self._unready, prove, Lasting(tokens))
        self._doors: list[Doorbell] = []
        self._loading: asyncio.Lock = asyncio.Lock()
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []
        self._secure: ssl.SSLContext | None = None
        self._tells: LogEvents | None = None
        self._path = ""
        self._stopping = False
        self.tcp_port = 0           # what was really taken

    @property
    def path(self) -> str:
        """Where the Unix socket is, once it listens."""
        return self._path

    async def start(self) -> None:
        """Listen. LunetteError in_use or invalid when a socket cannot be had."""
        self._path = str(self._api_path or find_api_socket(None, serving=True))
        self._doors.append(Doorbell(
            listen_unix(self._path, others="another daemon answers", remedy="--api chooses another place"), self._serve_unix))
        self.parts.watch()
        self._tells = LogEvents(self.parts.events)
        logging.getLogger("lunette").addHandler(self._tells)
        if self._tcp is not None:
            self.read_certificates()
            self._open_tcp()
            if not self.tcp_port:
                log.warning("the API does not listen on %s yet: there is no token and no --tls-client-ca; lunette token create "
                            "makes one", self._tcp.portal)
        self.parts.trim.resume()
        self.parts.defrag.watch()

    async def stop(self) -> None:
        self._stopping = True
        await self.parts.scrub.stop()
        await self.parts.trim.stop()
        await self.parts.defrag.quit()
        await self.parts.served.jobs.stop()
        if self._tells is not None:
            logging.getLogger("lunette").removeHandler(self._tells)
        for door in self._doors:
            await door.close()
        await close_servers(*self._servers)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._doors:
            remove(self._path)

    def read_certificates(self) -> None:
        """The certificates as their files are now, for connections to come. LunetteError invalid."""
        if self._tcp is not None:
            from target.server.api.tls import read_into, server_context

            if self._secure is None:
                self._secure = server_context(self._tcp)
            else:
                read_into(self._secure, self._tcp)

    def _tokens_changed(self) -> None:
        self._open_tcp()
        self.parts.lasting.look()

    def _open_tcp(self) -> None:
        """Listen on TCP as soon as somebody could get in."""
        if self._tcp is not None and not self.tcp_port and not self._stopping and self._secure is not None \
                and (len(self.parts.tokens) or self._tcp.client_ca):
            sock = bind_tcp(self._tcp.portal)
            self.tcp_port = sock.getsockname()[1]
            self._doors.append(Doorbell(sock, self._serve_tcp))
            log.info("the API listens on %s, by TLS", self._tcp.portal if self._tcp.portal.port else self.tcp_port)

    async def _serve_unix(self, sock: socket.socket) -> None:
        runner = await self._loaded()
        if runner.server is not None:
            self._servers.append(await asyncio.get_running_loop().create_unix_server(runner.server, sock=sock))

    async def _serve_tcp(self, sock: socket.socket) -> None:
        from target.server.api.tls import HANDSHAKE_SECONDS, Visitors

        runner = await self._loaded()
        if runner.server is not None:
            visitors = Visitors(runner.server)
            self.parts.known.append(visitors.known)
            self._servers.append(await asyncio.get_running_loop().create_server(
                visitors, sock=sock, ssl=self._secure, ssl_handshake_timeout=HANDSHAKE_SECONDS))

    async def _loaded(self) -> web.AppRunner:
        """What serves HTTP, imported beside the loop when somebody comes."""
        async with self._loading:
            if self._runner is None:
                web, application = await load_http()
                routes = [*Reading(self.parts).routes(), *Running(self.parts).routes()]
                made = application.make_application(self.parts, routes, self._prove)
                runner = web.AppRunner(made, access_log=None, logger=HTTP_LOG, handle_signals=False, shutdown_timeout=1.0)
                await runner.setup()
                self._runner = runner
            return self._runner

    def _unready(self) -> str:
        if self._stopping:
            return "the daemon stops"
        pool = self.parts.served.pool
        return pool.failure() or ("the pool is read-only" if pool.pool.read_only else "")
