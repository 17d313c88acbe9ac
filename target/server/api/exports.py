"""Exports: snapshots that something outside reads, by NBD. A channel holds them; connections are served here (docs/export.md).

READs are the native thread's (core/stream/nbd.pyx). Here are the other requests of a connection: where there is data and what has
changed, which the engine packs, and refusals.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from target.errors import LunetteError
from target.nbd import transmission
from target.nbd.codes import Command, CommandFlag, Error
from target.nbd.handshake import Export, ProtocolError
from target.nbd.transmission import Request, Requests
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError
from target.volumes.holds import StoredHolds
from target.volumes.streams import Transmitting

MAX_CHANNELS = 64
MAX_CONNECTIONS = 64            # served at once, of all channels
RUNS_MOST = 65536               # descriptors of one answer
GRAIN_BYTES = 4096

Json = dict[str, Any]


class Exports:
    """The channels and connections of one daemon."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, holds: StoredHolds, guid: Callable[[ObjectInfo], str]) -> None:
        """`guid` is what a snapshot is known by everywhere."""
        self._pool = pool
        self._catalog = catalog
        self._holds = holds
        self._guid = guid
        self._channels = self._connections = 0

    @contextlib.contextmanager
    def open(self, name: str, since: str | None, tag: str) -> Iterator[Channel]:
        """Hold what is to be read. LunetteError: not_found, invalid (no snapshot), gone, limit."""
        infos = self._snapshots(name, since)
        if self._channels >= MAX_CHANNELS:
            raise LunetteError("limit", f"{MAX_CHANNELS} exports are open already")
        self._channels += 1
        try:
            rows = [{"name": each.name, "guid": self._guid(each), "size_bytes": each.size_bytes} for each in infos]
            with self._holds.during(infos, tag) as held:
                yield Channel(rows, held)
        finally:
            self._channels -= 1

    async def serve(self, name: str, since: str | None, fd: int, *, structured: bool, contexts: Sequence[bool],
                    rest: bytes) -> Json:
        """Answer a client's requests until it leaves, or breaks the protocol. `contexts`: which ones it chose, of the two.

        LunetteError.
        """
        infos = self._snapshots(name, since)
        if self._connections >= MAX_CONNECTIONS:
            raise LunetteError("limit", f"{MAX_CONNECTIONS} connections are served already")
        self._connections += 1
        try:
            async with Transmitting(self._pool, fd, infos[0].id, structured=structured, rest=rest) as transmitting:
                connection = Connection(self._pool, transmitting, infos, contexts, structured=structured)
                while raw := await transmitting.serve():
                    if not await connection.answer(raw):
                        break
        finally:
            self._connections -= 1
        return {"name": name}

    def _snapshots(self, name: str, since: str | None) -> list[ObjectInfo]:
        infos = [self._catalog.find(each) for each in (name, since) if each is not None]
        for info in infos:
            if info.kind != "snapshot":
                raise LunetteError("invalid", f"{info.name} is no snapshot: only what does not change is exported")
        return infos


class Channel:
    """What a server outside has been promised: snapshots that are held as long as it is there."""

    def __init__(self, rows: Sequence[Json], tag: str) -> None:
        self._rows = rows
        self._tag = tag

    def hello(self) -> Json:
        """Who is read: the first line of the channel."""
        return {"tag": self._tag, "object": self._rows[0], "since": self._rows[1] if len(self._rows) > 1 else None}

    async def serve(self, incoming: AsyncIterator[bytes]) -> None:
        """Until the other end is closed."""
        async for _ in incoming:
            pass


class Connection:
    """What Python answers of one connection."""

    def __init__(self, pool: AsyncPool, transmitting: Transmitting, infos: Sequence[ObjectInfo], contexts: Sequence[bool], *,
                 structured: bool) -> None:
        self._pool = pool
        self._transmitting = transmitting
        self._info = infos[0]
        self._since = infos[1] if len(infos) > 1 else None
        self._contexts = [number for number, chosen in enumerate(contexts, 1) if chosen and number <= len(infos)]
        self._structured = structured

    async def answer(self, raw: bytes) -> bool:
        """One request; False: the connection is to end."""
        requests = Requests(Export(self._info.name, self._info.size_bytes), structured=self._structured,
                            has_contexts=bool(self._contexts))
        try:
            (request,) = requests.receive(raw)
        except ProtocolError:
            return False
        if request.command == Command.WRITE:
            await self._transmitting.skip(request.length_bytes)
        if request.error is not None:
            await self._refuse(request, request.error)
            return True
        if request.command == Command.DISC:
            return False
        assert request.command == Command.BLOCK_STATUS      # a READ that is right never comes here
        try:
            await self._status(request)
        except PoolError as error:
            await self._refuse(request, Error.ESHUTDOWN if error.code in ("gone", "not_found") else Error.EIO, str(error))
        return True

    async def _status(self, request: Request) -> None:
        one = bool(request.flags & CommandFlag.REQ_ONE)
        start = request.offset_bytes - request.offset_bytes % GRAIN_BYTES
        skip = request.offset_bytes - start
        for context in self._contexts:
            since = {} if context == 1 or self._since is None else {"since_id": self._since.id}
            runs = await self._pool.call("runs", object_id=self._info.id, offset_bytes=start,
                                         length_bytes=skip + request.length_bytes, limit=1 if one else RUNS_MOST, **since)
            found = transmission.descriptors(runs, skip, request.length_bytes, one=one)
            await self._transmitting.give(transmission.status_chunk(
                request.cookie, context, found, done=context == self._contexts[-1]))

    async def _refuse(self, request: Request, error: Error, message: str = "") -> None:
        made = transmission.error_chunk(request.cookie, error, message) if self._structured else transmission.simple_reply(
            request.cookie, error)
        await self._transmitting.give(made)
