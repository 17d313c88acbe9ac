"""Links between daemons: a TCP connection by TLS 1.3 whose bytes a thread of the core carries, seen as a plain socket.

On that socket go messages, a length of 4 bytes and JSON, and between them streams, which the pumps read and write themselves
(docs/protection.md, Between daemons). Nothing is read from a connection before it is known whose certificate is at its other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from target.errors import LunetteError
from target.volumes.streams import on_thread

HANDSHAKE_SECONDS = 10.0
SILENT_SECONDS = 20.0           # without a word from a peer that has something to say: it is gone, or stopped
BEAT_SECONDS = 5.0              # after which a peer that is still working on an answer says so
MOST_MESSAGE_BYTES = 1 << 20
SILENT_MS = 30_000              # of what was sent and not acknowledged: the other machine is gone
LENGTH = struct.Struct("<I")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a daemon is to its peers: its certificate and the key to it, DER."""

    certificate: bytes
    key: bytes = field(repr=False)


def fingerprint(certificate: bytes) -> str:
    """What a certificate (DER) is known by: its SHA-256, in hex."""
    return hashlib.sha256(certificate).hexdigest()


class Link:
    """One connection to a peer. `open_link` and `accept_link` make it."""

    def __init__(self, sock: socket.socket, credentials: Credentials, *, server: bool) -> None:
        from core.stream.relay import Relay

        self._tcp = sock
        sock.setblocking(False)
        _tune(sock)
        self._plain, inner = socket.socketpair()
        self._inner = inner
        self._plain.setblocking(False)
        self._cancel = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lunette-peer")
        self._carrying: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self.peer_fingerprint = ""
        try:
            self._relay = Relay(sock.fileno(), inner.fileno(), self._cancel, certificate=credentials.certificate,
                                key=credentials.key, server=server)
        except OSError as error:
            self._let_go()
            raise LunetteError("invalid", f"TLS is not usable: {error.strerror}") from None

    async def shake_hands(self) -> str:
        """Begin TLS; the fingerprint of the peer's certificate. LunetteError unreachable."""
        try:
            der = await self._run(self._relay.handshake, HANDSHAKE_SECONDS)
        except OSError as error:
            raise LunetteError("unreachable", f"TLS cannot be begun: {error.strerror or error}") from None
        self.peer_fingerprint = fingerprint(der)
        return self.peer_fingerprint

    def carry(self) -> None:
        """The peer is who it should be: let bytes through."""
        self._carrying = asyncio.get_running_loop().run_in_executor(self._thread, self._carry)

    def fileno(self) -> int:
        """The descriptor that streams go through. Nobody sends or receives messages meanwhile."""
        return self._plain.fileno()

    def cut(self) -> None:
        """End it, whatever it is at."""
        os.eventfd_write(self._cancel, 1)
        with contextlib.suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Say goodbye where the other end listens; afterwards nothing is left of it."""
        with contextlib.suppress(OSError):
            self._plain.shutdown(socket.SHUT_WR)
        if self._carrying is not None:
            await asyncio.wait([self._carrying], timeout=1.0)
        os.eventfd_write(self._cancel, 1)
        if self._carrying is not None:
            await asyncio.wait([self._carrying])
        self._let_go()

    async def send(self, message: Json) -> None:
        """LunetteError unreachable."""
        raw = json.dumps(message, separators=(",", ":")).encode()
        if len(raw) > MOST_MESSAGE_BYTES:
            raise LunetteError("too_large", "a message to a peer is too long")
        try:
            async with asyncio.timeout(SILENT_SECONDS), self._sending:
                await asyncio.get_running_loop().sock_sendall(self._plain, LENGTH.pack(len(raw)) + raw)
        except (OSError, TimeoutError) as error:
            raise _lost(error) from None

    @property
    def received_bytes(self) -> int:
        """From the peer, messages and streams together."""
        found: int = self._relay.received_bytes
        return found

    async def receive(self, seconds: float | None = SILENT_SECONDS) -> Json | None:
        """The next message; None when the peer has said all. LunetteError unreachable, invalid."""
        try:
            async with asyncio.timeout(seconds):
                head = await self._exactly(LENGTH.size)
                if not head:
                    return None
                length, = LENGTH.unpack(head)
                if length > MOST_MESSAGE_BYTES:
                    raise LunetteError("invalid", "a message of a peer is too long")
                raw = await self._exactly(length)
        except (OSError, TimeoutError) as error:
            raise _lost(error) from None
        try:
            message = json.loads(raw)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise LunetteError("invalid", "what a peer says is no message")
        return message

    async def drain(self) -> None:
        """Take what comes and throw it away, until the peer has said all."""
        with contextlib.suppress(OSError):
            while await asyncio.get_running_loop().sock_recv(self._plain, 1 << 18):
                pass

    # -- inside --------------------------------------------------------------------------------------------------
    async def _exactly(self, count: int) -> bytes:
        """So many bytes; none at the end."""
        loop, parts, got = asyncio.get_running_loop(), [], 0
        while got < count:
            part = await loop.sock_recv(self._plain, count - got)
            if not part:
                if got:
                    raise ConnectionResetError("the connection broke off")
                return b""
            parts.append(part)
            got += len(part)
        return b"".join(parts)

    async def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        return await on_thread(self._thread, self._cancel, work, *args)

    def _carry(self) -> None:
        with contextlib.suppress(OSError):      # whoever waits at the plain end sees its end
            self._relay.run()
        with contextlib.suppress(OSError):
            self._inner.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        self._thread.shutdown()
        for each in (self._plain, self._inner, self._tcp):
            each.close()
        os.close(self._cancel)


async def open_link(host: str, port: int, credentials: Credentials, expected: str) -> Link:
    """A link to the daemon at an address that has the certificate of that fingerprint. LunetteError unreachable, forbidden."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            sock = socket.socket(found[0][0], socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                await loop.sock_connect(sock, found[0][4])
            except BaseException:
                sock.close()
                raise
    except (OSError, TimeoutError) as error:
        number = getattr(error, "errno", None)      # asyncio's own words name the address once more
        why = os.strerror(number).lower() if number and number > 0 else "it does not answer"
        raise LunetteError("unreachable", f"{host}:{port} cannot be reached: {why}") from None
    link = Link(sock, credentials, server=False)
    try:
        if await link.shake_hands() != expected:
            raise LunetteError("forbidden", f"who answers at {host}:{port} has another certificate than the peer: "
                                            f"{link.peer_fingerprint}")
        link.carry()
        return link
    except BaseException:
        await link.close()
        raise


def _tune(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):          # a Unix socket, in tests
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)


def _lost(error: Exception) -> LunetteError:
    if isinstance(error, TimeoutError):
        return LunetteError("unreachable", "the peer does not answer")
    return LunetteError("unreachable", f"the connection to the peer is lost: {getattr(error, 'strerror', None) or error}")
