"""Contacts: a connection to a peer that was greeted, and requests on it, one after the other.

A request is a message with `do` and the fields of its model (target/models/peering.py); its answer has `ok` or `error`. Before
it there may be messages with `working`: an answer may take as long as it takes, but who says nothing for a while is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from target.errors import LunetteError
from target.models.peering import PROTOCOL
from target.server.command import Json
from target.volumes.links import Link, open_link
from target.volumes.peers import Peer, Peers

DRAIN_SECONDS = 5.0


class Contact:
    """One connection to a peer."""

    def __init__(self, peer: Peer, link: Link) -> None:
        self.peer = peer
        self.link = link
        self.pool_uuid = ""
        self.groups: list[int] = []

    async def request(self, do: str, **fields: Any) -> Json:
        """The answer. LunetteError: what the peer says, by its code; unreachable."""
        await self.link.send({"do": do, **fields})
        return self.answer(await self._heard())

    async def _heard(self) -> Json | None:
        """The next message that is an answer. LunetteError unreachable: there is none, and no word that it will come."""
        while (message := await self.link.receive()) is not None and "working" in message:
            pass
        return message

    async def greet(self, pool_uuid: str, groups: list[int]) -> None:
        hello = await self.request("hello", protocol=PROTOCOL, pool_uuid=pool_uuid, groups=groups)
        self.pool_uuid, self.groups = str(hello.get("pool_uuid")), list(hello.get("groups", []))

    async def deliver(self, volume_guid: str, name: str, sending: Callable[[int], Coroutine[Any, Any, Json]]) -> Json:
        """Have `sending` write one snapshot to the connection; what it says. LunetteError of either side."""
        await self.request("deliver", volume=volume_guid, name=name)
        answering = asyncio.create_task(self._heard())
        work = asyncio.create_task(sending(self.link.fileno()))
        try:
            await asyncio.wait([answering, work], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():                # it may have said no before it heard all
                self.answer(answering.result())
            else:
                failure = work.exception()
                if isinstance(failure, LunetteError) and failure.code == "aborted":
                    await asyncio.wait([answering], timeout=DRAIN_SECONDS)      # why it hung up
                    if answering.done() and answering.exception() is None:
                        self.answer(answering.result())
            sent = await work
            self.answer(await answering)
            return sent
        finally:
            for each in (answering, work):
                each.cancel()
            await asyncio.gather(answering, work, return_exceptions=True)

    def answer(self, message: Json | None) -> Json:
        """What a message says, as an answer. LunetteError."""
        error = None if message is None else message.get("error")
        if isinstance(error, dict):
            raise LunetteError(str(error.get("code")), f"peer {self.peer.name}: {str(error.get('message'))[:500]}")
        answer = None if message is None else message.get("ok")
        if not isinstance(answer, dict):
            raise LunetteError("unreachable", f"peer {self.peer.name} hung up")
        return answer


class Contacts:
    """Makes them."""

    def __init__(self, peers: Peers, pool_uuid: str, groups: Callable[[], list[int]]) -> None:
        """`groups` are the target port groups here."""
        self._peers = peers
        self.pool_uuid = pool_uuid
        self.groups = groups

    @contextlib.asynccontextmanager
    async def to(self, name: str) -> AsyncIterator[Contact]:
        """A greeted peer. LunetteError not_found, unreachable, forbidden."""
        peer = self._peers.find(name)
        link = await open_link(*peer.place, await self._peers.credentials(), peer.fingerprint)
        try:
            contact = Contact(peer, link)
            await contact.greet(self.pool_uuid, self.groups())
            yield contact
        except BaseException:
            link.cut()
            raise
        finally:
            await link.close()
