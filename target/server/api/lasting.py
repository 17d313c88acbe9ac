"""Requests that last: batches, channels, reports. None lasts longer than what let its sender in: a token that is deleted, or
whose time is over, ends what was begun with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from target.errors import LunetteError
from target.server.api.authentication import identify
from target.server.api.tokens import Tokens
from target.server.caller import Identity

if TYPE_CHECKING:
    from aiohttp import web

LOOK_SECONDS = 1.0      # between looks whether somebody's time is over; what is deleted is looked for at once


class Lasting:
    """Those of one daemon that came from afar."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._requests: dict[asyncio.BaseTransport, tuple[web.Request, Identity]] = {}     # one at a time on a connection
        self._next: asyncio.TimerHandle | None = None

    def still(self, request: web.Request, identity: Identity) -> bool:
        """Whether a request that was begun may go on."""
        transport = request.transport
        try:
            return transport is not None and identify(transport, request.headers, self._tokens) == identity
        except LunetteError:
            return False

    @contextlib.contextmanager
    def lasts(self, request: web.Request, identity: Identity) -> Iterator[None]:
        """Within the block its connection is cut as soon as it may not go on."""
        transport = request.transport
        if transport is None or transport.get_extra_info("ssl_object") is None:
            yield                                   # who came by the Unix socket is who that is
            return
        self._requests[transport] = request, identity
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._again)
        try:
            yield
        finally:
            del self._requests[transport]

    def look(self) -> None:
        """Cut those that may not go on."""
        for request, identity in self._requests.values():
            if not self.still(request, identity) and request.transport is not None:
                request.transport.abort()

    def _again(self) -> None:
        self._next = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._again) if self._requests else None
        self.look()
