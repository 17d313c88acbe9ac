"""TLS of the API: its certificates, and how many connections there may be. Imported only where the API listens on TCP."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from target.config import ApiListener
from target.errors import LunetteError

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("lunette.api")

MAX_CONNECTIONS = 256


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


def bounded(server: web.Server) -> Callable[[], asyncio.BaseProtocol]:
    """Connections up to MAX_CONNECTIONS; more are closed at once."""
    def protocol() -> asyncio.BaseProtocol:
        if len(server.connections) >= MAX_CONNECTIONS:
            log.warning("the API has %d connections: another one is closed", MAX_CONNECTIONS)
            return _Refused()
        return server()
    return protocol
