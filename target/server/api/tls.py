"""TLS of the API: its certificates, and how many connections there may be. Imported only where the API listens on TCP."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import TYPE_CHECKING, Any

from target.config import ApiListener
from target.errors import LunetteError

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("lunette.api")

MAX_CONNECTIONS = 256
HANDSHAKE_SECONDS = 10.0
STRANGER_SECONDS = 15.0


def server_context(listener: ApiListener) -> ssl.SSLContext:
    """TLS 1.2 or newer; a client's certificate is asked for where there is a CA for them. LunetteError invalid."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    read_into(context, listener)
    if listener.client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL     # who has none may have a token
    return context


def read_into(context: ssl.SSLContext, listener: ApiListener) -> None:
    """Take the certificates as the files are now. LunetteError invalid."""
    try:
        context.load_cert_chain(listener.certificate, listener.key)
        if listener.client_ca is not None:
            context.load_verify_locations(listener.client_ca)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LunetteError("invalid", f"the API's certificates cannot be read ({listener.certificate}, {listener.key}"
                                      f"{f', {listener.client_ca}' if listener.client_ca else ''}): {why}") from None


class _Refused(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class Visitors:
    """The connections of a server, up to MAX_CONNECTIONS. One that has not shown who it is within STRANGER_SECONDS makes room."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._strangers: dict[Any, float] = {}      # since when

    def __call__(self) -> asyncio.BaseProtocol:
        """The protocol of a connection that comes."""
        now = time.monotonic()
        there = set(self._server.connections)
        for protocol, since_s in list(self._strangers.items()):
            if protocol not in there and now - since_s > HANDSHAKE_SECONDS:
                del self._strangers[protocol]
            elif protocol in there and now - since_s > STRANGER_SECONDS:
                del self._strangers[protocol]
                protocol.force_close()
                there.discard(protocol)
        if len(there) >= MAX_CONNECTIONS:
            log.warning("the API has %d connections: another one is closed", MAX_CONNECTIONS)
            return _Refused()
        made = self._server()
        self._strangers[made] = now
        return made

    def known(self, protocol: object) -> None:
        """It showed a token or a certificate that is good."""
        self._strangers.pop(protocol, None)
