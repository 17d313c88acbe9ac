"""Portals: listening sockets, and each connection until its login hands it on (RFC 7143 §4.3, §6.3)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from target.config import Portal, ServeConfig, plain_address
from target.errors import LunetteError
from target.iscsi import (
    PEER_CLOSED,
    Closed,
    DiscoveryConnection,
    Limits,
    LoginComplete,
    LoginConnection,
    LoginFailed,
    LoginPolicy,
    LoginStatus,
    SessionType,
)
from target.server.iscsi.access import Access
from target.server.iscsi.half_open import HalfOpen
from target.server.iscsi.probing import Probing
from target.server.iscsi.sessions import SessionTable
from target.server.iscsi.slow_commands import Before
from target.server.iscsi.throttle import Throttle

LOOPBACK = ("127.0.0.1", "::1")

log = logging.getLogger("lunette.portal")

RECEIVE_BYTES = 65536
BACKLOG = 1024
MOVED = frozenset({LoginStatus.TARGET_MOVED_TEMPORARILY, LoginStatus.TARGET_MOVED_PERMANENTLY})
NEAR = 0.75    # of the sessions that there may be: from here on dead ones are looked for


def open_listener(portal: Portal) -> socket.socket:
    """A listening socket. LunetteError in_use or invalid, in one line that names the portal."""
    family = socket.AF_INET6 if portal.is_ipv6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place: tuple[Any, ...] = (portal.host, portal.port)
        if portal.is_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not portal.both_families)
            place = socket.getaddrinfo(portal.host, portal.port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4]
        sock.bind(place)  # with the scope of a link-local address
        sock.listen(BACKLOG)
        return sock
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise LunetteError("in_use", f"{portal} is in use by another program; `lunette serve --listen` chooses "
                                         "another") from None
        raise LunetteError("invalid", f"cannot listen on {portal}: {error.strerror}") from None


class _Opening:
    """What a login said before it was first answered: enough to begin it anew when it was refused for want of room."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.answered = False

    def wants_room(self, events: Sequence[LoginComplete | LoginFailed | Closed]) -> bool:
        return not self.answered and any(
            isinstance(each, LoginFailed) and each.status is LoginStatus.OUT_OF_RESOURCES for each in events)


class Portals:
    """All listening sockets of the daemon, its connection caps and the logins in progress."""

    def __init__(self, config: ServeConfig, access: Access, table: SessionTable,
                 prove: Callable[[], None] = lambda: None, before: Before | None = None) -> None:
        """`prove` is called before anything is said: it returns only if the pool is still ours.

        `before` is awaited before what came is judged; OSError: no answer.
        """
        self.config = config
        self._prove = prove
        self._before = before
        self.access = access
        self.table = table
        self.limits = Limits()
        self.counts: Counter[str] = Counter()      # logins, refused, failed ...
        self._listeners: list[socket.socket] = []
        self._half_open = HalfOpen(config.max_half_open, config.max_half_open_per_peer)
        self._probing = Probing(table)
        self._refusals = Throttle()
        self._refusals_of_peer = Throttle(burst=20)
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []

    def open(self) -> list[Portal]:
        """Listen everywhere; the portals with the ports that were really taken. LunetteError when one cannot be had."""
        bound: list[Portal] = []
        try:
            for given in self.config.portals:
                portal = replace(given, both_families=self._takes_ipv4(given))
                sock = open_listener(portal)
                self._listeners.append(sock)
                bound.append(replace(portal, port=sock.getsockname()[1]))
        except LunetteError:
            self.close_listeners()
            raise
        self.access.portals = bound
        return bound

    def _takes_ipv4(self, portal: Portal) -> bool:
        """An IPv6 wildcard is for both families, unless an IPv4 portal has its port."""
        return portal.is_ipv6 and portal.is_wildcard and not any(
            each.port == portal.port and not each.is_ipv6 for each in self.config.portals)

    def start(self) -> None:
        """Accept connections on the running loop."""
        loop = asyncio.get_running_loop()
        self._accepting = [loop.create_task(self._accept(sock, portal.group))
                           for sock, portal in zip(self._listeners, self.access.portals, strict=True)]

    def close_listeners(self) -> None:
        """Take no new connections."""
        for task in self._accepting:
            task.cancel()
        self._accepting.clear()
        for sock in self._listeners:
            sock.close()
        self._listeners.clear()

    async def stop(self) -> None:
        """Drop every connection that is not yet the data plane's."""
        self._probing.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        self.close_listeners()

    @property
    def connections(self) -> int:
        return len(self._half_open) + self.table.connections

    def _spawn(self, coroutine: Coroutine[Any, Any, None], peer: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._half_open.enter(task, peer)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._half_open.leave(task)

    def _refused(self, peer: str, why: str) -> None:
        """Log who was refused and why, but not every time."""
        more = self._refusals.more((peer, why))
        if more is not None and self._refusals_of_peer.more(peer) is not None:
            log.warning("refused %s: %s%s", peer, why, more)

    async def _accept(self, listener: socket.socket, group: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept a connection: %s", error.strerror)
                await asyncio.sleep(0.1)  # out of descriptors or memory: others will end
                continue
            peer = plain_address(address[0])
            if self.table.connections >= self.config.max_connections:
                self.counts["refused"] += 1
                self._refused(peer, f"there are {self.config.max_connections} connections already")
                sock.close()
                continue
            if self._half_open.make_room(peer):
                self.counts["refused"] += 1
                self._refused(peer, "too many of its connections do not log in; the oldest was closed")
            self._spawn(self._connection(sock, peer, group), peer)

    async def _connection(self, sock: socket.socket, peer: str, group: int) -> None:
        kept = False
        try:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                if peer in LOOPBACK:  # no wire to share: pacing (BBR as the system's default) only costs timers
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
            kept = await self._login(sock, peer, group)
        except (TimeoutError, OSError) as error:
            self._refused(peer, f"its connection failed: {error or 'timed out'}")
        except Exception:
            log.exception("the login of a connection from %s failed", peer)
        finally:
            if not kept:
                sock.close()

    async def _login(self, sock: socket.socket, peer: str, group: int) -> bool:
        """Run the login phase; True when the data plane has the socket."""
        host, port = sock.getsockname()[:2]
        policy = LoginPolicy(gatekeeper=self.access.at(host, port, group), registry=self.table.registry, limits=self.limits,
                             login_timeout_seconds=self.config.login_timeout_seconds)
        opening = _Opening()
        login = LoginConnection(policy, time.monotonic())
        events = await self._converse(sock, login, opening=opening)
        if opening.wants_room(events) and await self._found_room(login.initiator_name):
            login = LoginConnection(policy, time.monotonic())
            events = await self._converse(sock, login, bytes(opening.received))
        for event in events:
            if isinstance(event, LoginComplete):
                self.counts["logins"] += 1
                return await self._enter(sock, peer, policy, login, event)
            self.counts["failed"] += 1
            self._log_failure(peer, event)
            await self._send(sock, login.data_to_send(), self.config.login_timeout_seconds)
        return False

    def _log_failure(self, peer: str, event: LoginFailed | Closed) -> None:
        if isinstance(event, LoginFailed) and event.status in MOVED:
            log.info("login from %s: %s", peer, event.reason)
        elif isinstance(event, LoginFailed):
            self._refused(peer, f"login status {event.status:04x}h, {event.reason}")
        elif event.reason == PEER_CLOSED:
            log.debug("connection from %s: %s", peer, event.reason)
        else:
            self._refused(peer, event.reason)

    async def _found_room(self, initiator_name: str) -> bool:
        """Look for dead sessions of who may have no more; whether there is one fewer now."""
        own, _ = self.table.registry.fullness(initiator_name)
        probes = self._probing.start(initiator_name if own >= 1 else None)
        return probes is not None and await asyncio.shield(probes) > 0

    def _look_for_dead(self, initiator_name: str) -> None:
        """Probe early enough that the next login need not wait."""
        own, all_ = self.table.registry.fullness(initiator_name)
        if own >= NEAR:
            self._probing.start(initiator_name)
        if all_ >= NEAR:
            self._probing.start()

    async def _enter(self, sock: socket.socket, peer: str, policy: LoginPolicy, login: LoginConnection,
                     done: LoginComplete) -> bool:
        params, session = done.params, done.admission.session
        if params.session_type is SessionType.DISCOVERY:
            try:
                await self._send(sock, login.data_to_send(), self.config.login_timeout_seconds)
                discovery = DiscoveryConnection(policy, params, session, time.monotonic())
                await self._converse(sock, discovery, done.leftover)
                await self._send(sock, discovery.data_to_send(), self.config.login_timeout_seconds)
            finally:
                self.table.registry.remove_connection(session, params.cid)
            return False
        nexus_session = self.table.admit(params, done.admission, peer)
        try:
            await self._send(sock, login.data_to_send(), self.config.login_timeout_seconds)
        except BaseException:
            self.table.abandon(nexus_session, params)
            raise
        conn = self.table.serve(nexus_session, policy, params, sock, done.leftover, self.config.ping_seconds)
        if conn is not None:  # else the socket is closed already
            self._look_for_dead(params.initiator_name)
        return True

    async def _converse(self, sock: socket.socket, protocol: LoginConnection | DiscoveryConnection,
                        data: bytes = b"", opening: _Opening | None = None) -> Sequence[LoginComplete | LoginFailed | Closed]:
        """Feed a sans-I/O connection until it says something; what it then has to send is left to the caller."""
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        while True:
            if not data:
                try:
                    wait = max(0.0, protocol.deadline - time.monotonic())
                    data = await asyncio.wait_for(loop.sock_recv(sock, RECEIVE_BYTES), wait)
                except TimeoutError:
                    over = protocol.timeout(time.monotonic())
                    if over:
                        return over
                    continue
            if data and task is not None:
                self._half_open.begun(task)
            if opening is not None and not opening.answered:
                opening.received += data
            if self._before is not None:
                await self._before()
            events = protocol.receive(data, time.monotonic())
            if events:
                return events
            if not data:
                return [Closed("the peer closed the connection")]
            answer = protocol.data_to_send()
            if answer and opening is not None:
                opening.answered = True
            await self._send(sock, answer, self.config.login_timeout_seconds)
            data = b""

    async def _send(self, sock: socket.socket, data: bytes, timeout_seconds: float) -> None:
        if data:
            self._prove()
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, data), timeout_seconds)
