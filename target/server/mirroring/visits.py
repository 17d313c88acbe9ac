"""Visits: connections of peers, answered request by request, and which of them speaks of a volume.

A volume is spoken of on one connection: the one that asked how it stands last. What was begun on an older one ends before the
answer, so that nothing comes late from a connection that its peer has given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from target.errors import LunetteError
from target.models.checking import check
from target.server.command import Json
from target.server.mirroring.contact import DRAIN_SECONDS
from target.volumes.links import BEAT_SECONDS, Link
from target.volumes.peers import Peer
from target.volumes.replicas import Partial

log = logging.getLogger("lunette.mirror")

IDLE_SECONDS = 120.0        # without a byte from a peer that has the word
OVER_SECONDS = 15.0         # for what an older connection has begun


class Visit:
    """One connection of a peer: what was delivered on it and is not published yet."""

    def __init__(self, peer: Peer, link: Link) -> None:
        self.peer = peer
        self.link = link
        self.delivered: dict[str, Partial] = {}     # by the volume's GUID
        self.over = asyncio.Event()


Handlers = Mapping[str, tuple[type[Any], Callable[[Visit, Any], Awaitable[Json]]]]


class Visits:
    """All of one daemon."""

    def __init__(self, handlers: Handlers) -> None:
        """By request: its model, and who answers it."""
        self._handlers = handlers
        self._speaking: dict[tuple[str, str], Visit] = {}       # by peer and volume

    async def serve(self, peer: Peer, link: Link) -> None:
        """Answer until the peer has said all, or something is wrong."""
        visit = Visit(peer, link)
        try:
            while (message := await link.receive(IDLE_SECONDS)) is not None:
                if not await self._answered(visit, message.pop("do", None), message):
                    return
        finally:
            visit.over.set()
            for key in [key for key, each in self._speaking.items() if each is visit]:
                del self._speaking[key]

    async def begin(self, visit: Visit, volume_guid: str) -> None:
        """From now on this connection speaks of that volume. LunetteError busy: an older one cannot be ended."""
        key = visit.peer.name, volume_guid
        while (older := self._speaking.get(key, visit)) is not visit:
            older.link.cut()
            try:
                async with asyncio.timeout(OVER_SECONDS):
                    await older.over.wait()
            except TimeoutError:
                raise LunetteError("busy", "what was begun on an earlier connection is still under way") from None
        self._speaking[key] = visit

    def check(self, visit: Visit, volume_guid: str) -> None:
        """LunetteError busy: this connection does not speak of that volume, or not any more."""
        if self._speaking.get((visit.peer.name, volume_guid)) is not visit:
            raise LunetteError("busy", "how that volume stands was not asked on this connection, or on a later one since")

    # -- inside --------------------------------------------------------------------------------------------------
    async def _answered(self, visit: Visit, do: Any, fields: Json) -> bool:
        """Do what is asked, and say what came of it; whether the peer may go on."""
        try:
            if do not in self._handlers:
                raise LunetteError("invalid", f"there is no request {do!r}")
            model, handler = self._handlers[do]
            async with beating(visit.link):
                answer = await handler(visit, check(model, fields))
        except LunetteError as error:
            await visit.link.send(error.as_json())
            if do == "deliver":                 # the rest of the stream may be on its way
                await self._drained(visit.link)
                return False
        else:
            await visit.link.send({"ok": answer})
        return True

    async def _drained(self, link: Link) -> None:
        """Until the peer hangs up: one that is hung up on while it sends may not hear why."""
        with contextlib.suppress(LunetteError, TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await link.drain()


@contextlib.asynccontextmanager
async def beating(link: Link) -> AsyncIterator[None]:
    """Say every now and then that an answer is being worked on."""
    over = asyncio.Event()

    async def beats() -> None:
        while not over.is_set():                # it is never cancelled: half a message would be the end of all others
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await over.wait()
            except TimeoutError:
                await link.send({"working": True})

    task = asyncio.create_task(beats(), name="peer beats")
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(task, return_exceptions=True)      # a peer that is gone: whoever reads or answers sees it


@contextlib.asynccontextmanager
async def flowing(link: Link) -> AsyncIterator[None]:
    """Cut a connection on which a stream should come, and nothing does."""
    async def watch() -> None:
        seen = -1
        while link.received_bytes != seen or _unread(link):
            seen = link.received_bytes
            await asyncio.sleep(IDLE_SECONDS)
        log.warning("a peer sends no more of its stream: the connection is cut")
        link.cut()

    task = asyncio.create_task(watch(), name="peer stream")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _unread(link: Link) -> bool:
    """Whether something has come that was not taken: then it is this side that is slow."""
    waiting = select.poll()
    waiting.register(link.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
