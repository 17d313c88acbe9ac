"""A gateway that does not serve its pool, but could at once: it waits until it is told, and sends logins where the pool is.

Told means: a command of the API, SIGUSR1, or a decider that is asked when the owner's lease has ended (docs/ceph.md, Standby).
Safety never rests on who tells: whoever takes the pool over fences its owner first.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from target.config import ServeConfig
from target.errors import LunetteError
from target.iscsi import (
    Credentials,
    DiscoveryConnection,
    Limits,
    LoginComplete,
    LoginConnection,
    LoginPolicy,
    LoginStatus,
    PortalAddress,
    Redirect,
    SessionRegistry,
    SessionType,
    TargetInfo,
    TargetRecord,
    same_name,
)
from target.server.iscsi.portal import open_listener
from target.server.standby import Standby
from target.sockets import close_servers, listen_unix, remove
from target.volumes.catalog import parse_address
from target.volumes.gateway import is_place
from target.volumes.owner import Opening, begin
from target.volumes.watching import Watching

log = logging.getLogger("lunette.waiting")

WATCH_SECONDS = 0.5
RECEIVE_BYTES = 65536
LOGINS_MAX = 256


class Waiting:
    """One process that waits until it is told to take the pool, or stopped."""

    def __init__(self, config: ServeConfig, moved_to: str = "", target_name: str = "") -> None:
        """`moved_to`: logins to `target_name` that come to this gateway's portals are sent there."""
        self.config = config
        self._moved_to = moved_to
        self._target_name = target_name
        self._told = asyncio.Event()
        self._stopping = asyncio.Event()
        self._since_s = time.time()

    async def run(self) -> tuple[Opening, Callable[[], Awaitable[None]]] | None:
        """The pool, and what is awaited before its portals are opened: this gateway shows it until then. None: stopped."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGUSR1, self._told.set)
        async with contextlib.AsyncExitStack() as stack:
            await self._serve_api(stack)
            if self._moved_to:
                await stack.enter_async_context(Forwarding(self.config, self._target_name, self._moved_to))
            watch = loop.create_task(self._watch()) if self.config.decider else None
            log.info("waiting: SIGUSR1 or `lunette gateway takeover` has this gateway take %s", self.config.pool_path)
            shown = self._show()
            try:
                await self._told.wait()
                if watch is not None:
                    watch.cancel()
                opening = None if self._stopping.is_set() else await self._taken(shown)
            except BaseException:
                await _hide(shown)
                raise
        loop.remove_signal_handler(signal.SIGUSR1)
        if opening is None:
            await _hide(shown)
            return None
        return opening, functools.partial(_hide, shown)

    def _show(self) -> Standby | None:
        """Show the LUNs in standby, where that is possible and logins are not sent elsewhere."""
        if self._moved_to or not is_place(self.config.pool_path):
            return None
        shown = Standby(self.config)
        shown.start()
        return shown

    async def _taken(self, shown: Standby | None) -> Opening | None:
        """The pool when it is ours, or cannot be; None: stopped meanwhile. What is shown says that it is on its way."""
        if shown is not None:
            shown.transition()
        opening = begin(replace(self.config, takeover=True))
        waits = [asyncio.ensure_future(each) for each in (asyncio.to_thread(opening.wait), self._stopping.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        waits[1].cancel()
        if not self._stopping.is_set():
            return opening
        await asyncio.to_thread(opening.give_up)
        return None

    def _stop(self) -> None:
        self._stopping.set()
        self._told.set()

    async def _watch(self) -> None:
        """Look at the owner's record; when its lease is over, ask the decider, and again now and then until somebody serves."""
        watching = Watching(self.config.pool_path)
        while True:
            if await asyncio.to_thread(watching.ended) and await self._decided():
                self._told.set()
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def _decided(self) -> bool:
        process = await asyncio.create_subprocess_shell(self.config.decider, env=None, start_new_session=True)
        status = await process.wait()
        log.info("the lease of %s is over; the decider ends with status %d", self.config.pool_path, status)
        return status == 0

    # -- the API of who waits ------------------------------------------------------------------------------------------
    async def _serve_api(self, stack: contextlib.AsyncExitStack) -> None:
        path = str(self.config.api_path)
        sock = listen_unix(path, others="another daemon answers", remedy="--api chooses another place")
        app = web.Application()
        app.add_routes([web.get("/v1/gateway", self._describe), web.post("/v1/commands/takeover", self._takeover),
                        web.route("*", "/{other:.*}", self._not_here)])
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        stack.callback(remove, path)
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        server = await asyncio.get_running_loop().create_unix_server(runner.server, sock=sock)
        stack.push_async_callback(close_servers, server)

    def _facts(self) -> dict[str, Any]:
        return {"pool": str(self.config.pool_path), "state": "standby", "since_s": round(self._since_s),
                "moved_to": self._moved_to}

    async def _describe(self, _: web.Request) -> web.Response:
        return web.json_response(self._facts())

    async def _not_here(self, _: web.Request) -> web.Response:
        error = LunetteError("not_found", f"this gateway waits, and does not serve {self.config.pool_path}")
        return web.json_response(error.as_json(), status=error.http_status)

    async def _takeover(self, _: web.Request) -> web.Response:
        self._told.set()
        return web.json_response({**self._facts(), "state": "taking over"}, dumps=json.dumps)


async def _hide(shown: Standby | None) -> None:
    if shown is not None:
        await shown.stop()


class Forwarding:
    """Portals on which every login is sent to another gateway (RFC 7143 §11.13.5, Target moved temporarily)."""

    def __init__(self, config: ServeConfig, target_name: str, address: str) -> None:
        self._config = config
        self._gatekeeper = _Gatekeeper(target_name, address)
        self._servers: list[asyncio.Server] = []
        self._logins = 0

    async def __aenter__(self) -> Forwarding:
        for portal in self._config.portals:
            try:
                sock = open_listener(portal)
            except LunetteError as error:
                log.warning("logins cannot be sent on from %s: %s", portal, error)  # its address has moved along
                continue
            self._servers.append(await asyncio.start_server(self._login, sock=sock))
        return self

    async def __aexit__(self, *_: object) -> None:
        await close_servers(*self._servers)

    async def _login(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._logins += 1
        try:
            if self._logins <= LOGINS_MAX:
                policy = LoginPolicy(gatekeeper=self._gatekeeper, registry=SessionRegistry(), limits=Limits())
                await asyncio.wait_for(_answer(LoginConnection(policy, time.monotonic()), policy, reader, writer),
                                       self._config.login_timeout_seconds)
        except (TimeoutError, OSError):
            pass                            # whoever it was has gone, or says nothing
        finally:
            self._logins -= 1
            writer.close()


async def _answer(connection: LoginConnection | DiscoveryConnection, policy: LoginPolicy, reader: asyncio.StreamReader,
                  writer: asyncio.StreamWriter, first: bytes = b"") -> None:
    """One connection to its end: a login that is sent on, or a discovery that tells where to."""
    data = first or await reader.read(RECEIVE_BYTES)
    while True:
        events = connection.receive(data, time.monotonic())
        writer.write(connection.data_to_send())
        await writer.drain()
        for event in events:
            if isinstance(event, LoginComplete) and event.params.session_type is SessionType.DISCOVERY:
                connection = DiscoveryConnection(policy, event.params, event.admission.session, time.monotonic())
                if event.leftover:
                    await _answer(connection, policy, reader, writer, event.leftover)
                    return
            else:
                return
        if not data:
            return
        data = await reader.read(RECEIVE_BYTES)


class _Gatekeeper:
    """Everybody is told where the target is; nobody gets in."""

    def __init__(self, target_name: str, address: str) -> None:
        self._target_name = target_name
        self._address = address

    def credentials_for(self, initiator_name: str, session_type: SessionType) -> Credentials | None:
        return None

    def find_target(self, initiator_name: str, target_name: str) -> TargetInfo | Redirect | LoginStatus:
        return Redirect(self._address) if same_name(target_name, self._target_name) else LoginStatus.NOT_FOUND

    def discovery_portal_group_tag(self) -> int:
        return 1

    def targets_for(self, initiator_name: str) -> Sequence[TargetRecord]:
        host, port = parse_address(self._address)
        return [TargetRecord(self._target_name, [PortalAddress(host, port)])]
