"""Exports: snapshots that something outside reads, their data and where they have any, over a channel of the API.

One channel reads one snapshot, perhaps beside an earlier one, and holds both as long as it lasts (docs/export.md, "The channel").
What all channels together keep in memory is bounded by READS pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from target.errors import LunetteError
from target.records import READ_MOST_BYTES, REPLY, REQUEST, RUNS_MOST, Kind, Outcome, Request, State
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError
from target.volumes.holds import StoredHolds

log = logging.getLogger("lunette.exports")

READS = 16                      # READs under way at once, of all channels
MAX_CHANNELS = 64
MAX_REQUESTS = 64               # of one channel at once
PIECE_BYTES = 1 << 20           # read by one operation of the pool
GRAIN_BYTES = 4096
OUTCOMES = {"gone": Outcome.GONE, "not_found": Outcome.GONE, "io_read": Outcome.MEDIUM, "checksum": Outcome.MEDIUM,
            "range": Outcome.INVALID, "invalid": Outcome.INVALID}

Json = dict[str, Any]
Write = Callable[[bytes], Awaitable[None]]


class Exports:
    """The channels of one daemon."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, holds: StoredHolds, guid: Callable[[ObjectInfo], str]) -> None:
        """`guid` is what a snapshot is known by everywhere."""
        self._pool = pool
        self._catalog = catalog
        self._holds = holds
        self._guid = guid
        self._reads = asyncio.Semaphore(READS)
        self._channels = 0

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        if self._channels >= MAX_CHANNELS:
            raise LunetteError("limit", f"{MAX_CHANNELS} exports are open already")
        self._channels += 1
        try:
            yield
        finally:
            self._channels -= 1

    @contextlib.contextmanager
    def open(self, name: str, since: str | None, tag: str) -> Iterator[Channel]:
        """Hold what is to be read. LunetteError: not_found, invalid (no snapshot), gone, limit."""
        infos = [self._catalog.find(each) for each in (name, since) if each is not None]
        for info in infos:
            if info.kind != "snapshot":
                raise LunetteError("invalid", f"{info.name} is no snapshot: only what does not change is exported")
        with self._counted(), self._holds.during(infos, tag) as held:
            yield Channel(self._pool, self._reads, infos, held, self._guid)


class Channel:
    """One reader of one snapshot."""

    def __init__(self, pool: AsyncPool, reads: asyncio.Semaphore, infos: Sequence[ObjectInfo], tag: str,
                 guid: Callable[[ObjectInfo], str]) -> None:
        self._pool = pool
        self._reads = reads
        self._info = infos[0]
        self._since = infos[1] if len(infos) > 1 else None
        self._tag = tag
        self._guid = guid
        self._writing = asyncio.Lock()

    def hello(self) -> Json:
        """Who is read: the first line of the channel."""
        return {"tag": self._tag, "object": self._identity(self._info), "since": self._since and self._identity(self._since)}

    def _identity(self, info: ObjectInfo) -> Json:
        return {"name": info.name, "guid": self._guid(info), "size_bytes": info.size_bytes}

    async def serve(self, incoming: AsyncIterator[bytes], write: Write) -> None:
        """Answer requests, many at once and in any order, until no more come."""
        slots = asyncio.Semaphore(MAX_REQUESTS)
        tasks: set[asyncio.Task[None]] = set()
        rest = b""
        try:
            async for data in incoming:
                rest += data
                while len(rest) >= REQUEST.size:
                    request = Request.unpack(rest[:REQUEST.size])
                    rest = rest[REQUEST.size:]
                    await slots.acquire()
                    task = asyncio.create_task(self._answer(request, write))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    task.add_done_callback(lambda _: slots.release())
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, request: Request, write: Write) -> None:
        try:
            if request.kind == Kind.READ:
                await self._read(request, write)
            else:
                await self._reply(write, request, await self._runs(request))
        except PoolError as error:
            await self._refuse(write, request, OUTCOMES.get(error.code, Outcome.FAILED), str(error))
        except LunetteError as error:
            await self._refuse(write, request, Outcome.INVALID, str(error))
        except ConnectionError:
            pass                        # the reader is gone: its channel ends

    async def _runs(self, request: Request) -> bytes:
        """What is allocated, or changed, in a range."""
        since = None if request.kind == Kind.ALLOCATION else self._since
        if request.kind not in (Kind.ALLOCATION, Kind.CHANGES) or (request.kind == Kind.CHANGES and since is None):
            raise LunetteError("invalid", "there is nothing of this kind here")
        self._check_range(request)
        limit = min(request.limit or RUNS_MOST, RUNS_MOST)
        return await self._call("runs", object_id=self._info.id, since_id=since and since.id, limit=limit,
                                offset_bytes=request.offset_bytes, length_bytes=request.length_bytes)

    async def _read(self, request: Request, write: Write) -> None:
        """The data of a range of whole blocks, but for its holes if they are few."""
        self._check_range(request)
        if request.length_bytes > READ_MOST_BYTES or (request.offset_bytes | request.length_bytes) % GRAIN_BYTES:
            raise LunetteError("invalid", f"whole blocks are read, at most {READ_MOST_BYTES} bytes")
        async with self._reads:
            runs = struct.pack("<II", request.length_bytes, State.DATA)
            if request.limit > 1:
                found = await self._call("runs", object_id=self._info.id, offset_bytes=request.offset_bytes,
                                         length_bytes=request.length_bytes, limit=request.limit)
                if sum(array("I", found)[0::2]) == request.length_bytes:
                    runs = found
            at, pieces = request.offset_bytes, []
            for length, state in struct.iter_unpack("<II", runs):
                if not state & State.HOLE:
                    pieces += [(each, min(PIECE_BYTES, at + length - each)) for each in range(at, at + length, PIECE_BYTES)]
                at += length
            data = await asyncio.gather(*(self._call("read", object_id=self._info.id, offset_bytes=offset, length_bytes=length)
                                          for offset, length in pieces))
            await self._reply(write, request, runs, data)

    def _check_range(self, request: Request) -> None:
        if not request.length_bytes or request.offset_bytes + request.length_bytes > self._info.size_bytes:
            raise LunetteError("invalid", f"{self._info.name} has {self._info.size_bytes} bytes")

    async def _reply(self, write: Write, request: Request, runs: bytes, data: Sequence[bytes] = ()) -> None:
        async with self._writing:
            await write(REPLY.pack(request.cookie, Outcome.OK, len(runs) // 8, sum(map(len, data))) + runs)
            for piece in data:
                await write(piece)

    async def _refuse(self, write: Write, request: Request, outcome: Outcome, why: str) -> None:
        text = why.encode()
        with contextlib.suppress(ConnectionError):
            async with self._writing:
                await write(REPLY.pack(request.cookie, outcome, 0, len(text)) + text)

    async def _call(self, op: str, **args: object) -> bytes:
        found: bytes = await self._pool.call(op, **args)
        return found
