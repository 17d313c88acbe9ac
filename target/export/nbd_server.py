"""The NBD server: a held snapshot on a Unix socket, for any number of connections up to MAX_CONNECTIONS (docs/export.md).

The protocol is target/nbd's; here are sockets and reads. A connection keeps at most PIECES pieces in memory, and a client that
does not read its answers is not read from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

from target.export.source import ReadError, Source
from target.nbd import transmission
from target.nbd.codes import Command, CommandFlag, Error
from target.nbd.handshake import BASE_ALLOCATION, Export, Handshake, Phase, ProtocolError
from target.nbd.transmission import Request, Requests
from target.records import RUNS_MOST, Kind, Outcome, State

log = logging.getLogger("lunette.nbd")

MAX_CONNECTIONS = 16
MAX_REQUESTS = 64               # of a connection at once
PIECES = 8                      # of a connection in memory at once ...
PIECE_BYTES = 1 << 20           # ... each of at most so many bytes
PIECE_RUNS = 16                 # with more runs its holes are sent as zeros
GRAIN_BYTES = 4096
HANDSHAKE_SECONDS = 30.0
RECEIVE_BYTES = 1 << 16


Part = tuple[int, int, memoryview | None]      # offset, length, data, or None in a hole


class NbdServer:
    """Serves one export until stopped."""

    def __init__(self, source: Source, export: Export) -> None:
        self._source = source
        self._export = export
        self._connections: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client came: serve it. Whatever it does ends its own connection at most."""
        if len(self._connections) >= MAX_CONNECTIONS:
            log.warning("a client was turned away: %d are connected", MAX_CONNECTIONS)
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            handshake = Handshake(self._export)
            await asyncio.wait_for(_negotiate(handshake, reader, writer), HANDSHAKE_SECONDS)
            if handshake.phase is Phase.TRANSMISSION:
                await Connection(self._source, handshake, reader, writer).run()
        except (ProtocolError, TimeoutError) as error:
            log.warning("a client is cut off: %s", error or "it did not end its handshake")
        except (OSError, EOFError):
            pass                        # it left
        finally:
            self._connections.discard(task)
            writer.close()

    async def stop(self) -> None:
        """End every connection."""
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def _negotiate(handshake: Handshake, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(handshake.output())
        await writer.drain()
        if handshake.phase in (Phase.TRANSMISSION, Phase.CLOSED):
            return
        data = await reader.read(RECEIVE_BYTES)
        if not data:
            raise EOFError
        handshake.receive(data)


class Connection:
    """One client in transmission."""

    def __init__(self, source: Source, handshake: Handshake, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._source = source
        self._export = handshake.export
        self._structured = handshake.structured
        self._contexts = handshake.contexts
        self._reader = reader
        self._writer = writer
        self._first = handshake.rest
        self._requests = Requests(handshake.export, structured=handshake.structured, has_contexts=bool(handshake.contexts))
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._pieces = asyncio.Semaphore(PIECES)
        self._sending = asyncio.Lock()      # one reply, or one chunk, at a time
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the client leaves, the snapshot can be read no more, or the protocol is broken (ProtocolError)."""
        try:
            data = self._first
            while data or (data := await self._reader.read(RECEIVE_BYTES)):
                for request in self._requests.receive(data):
                    if request.command == Command.DISC and request.error is None:
                        await asyncio.gather(*self._tasks)
                        return
                    await self._slots.acquire()
                    self._begin(request)
                data = b""
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, request: Request) -> None:
        task = asyncio.create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            self._writer.close()        # an answer that was begun cannot be ended: the client must not wait for it

    async def _answer(self, request: Request) -> None:
        try:
            if request.error is not None:
                await self._refuse(request, request.error)
            elif request.command == Command.BLOCK_STATUS:
                await self._status(request)
            elif self._structured and not request.flags & CommandFlag.DF:
                await self._read_in_pieces(request)
            else:
                await self._read_whole(request)
        except ReadError as error:
            await self._refuse(request, error_of(error), str(error))

    async def _send(self, *parts: bytes | memoryview) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError
        for part in parts:
            self._writer.write(part)
        await self._writer.drain()

    async def _refuse(self, request: Request, error: Error, message: str = "") -> None:
        async with self._sending:
            if self._structured:
                await self._send(transmission.error_chunk(request.cookie, error, message))
            else:
                await self._send(transmission.simple_reply(request.cookie, error))

    # -- BLOCK_STATUS --------------------------------------------------------------------------------------------
    async def _status(self, request: Request) -> None:
        one = bool(request.flags & CommandFlag.REQ_ONE)
        start = request.offset_bytes - request.offset_bytes % GRAIN_BYTES
        skip = request.offset_bytes - start
        for number, (context_id, name) in enumerate(self._contexts.items(), 1):
            kind = Kind.ALLOCATION if name == BASE_ALLOCATION else Kind.CHANGES
            runs = await self._source.runs(kind, start, skip + request.length_bytes, 1 if one else RUNS_MOST)
            found = transmission.descriptors(runs, skip, request.length_bytes, one=one)
            async with self._sending:
                await self._send(transmission.status_chunk(request.cookie, context_id, found, done=number == len(self._contexts)))

    # -- READ ----------------------------------------------------------------------------------------------------
    async def _read_in_pieces(self, request: Request) -> None:
        """Structured: chunks in any order, holes as such, an error for each piece that cannot be read."""
        pieces = list(_pieces(request))
        left = len(pieces)

        async def send(offset: int, length: int) -> None:
            nonlocal left
            async with self._pieces:
                chunks: list[bytes | memoryview] = []
                error: ReadError | None = None
                try:
                    parts = [part async for part in self._read(offset, length, PIECE_RUNS)]
                except ReadError as failed:
                    error = failed
                async with self._sending:
                    left -= 1
                    if error is not None:
                        chunks = [transmission.error_chunk(request.cookie, error_of(error), str(error), offset, done=not left)]
                    else:
                        chunks = _chunks(request.cookie, parts, done=not left)
                    await self._send(*chunks)

        await asyncio.gather(*(send(offset, length) for offset, length in pieces))

    async def _read_whole(self, request: Request) -> None:
        """One header and all data behind it, as simple replies and DF want it. An error behind the header ends the connection."""
        pieces = list(_pieces(request))
        header = transmission.data_chunk(request.cookie, request.offset_bytes, request.length_bytes, done=True) \
            if self._structured else transmission.simple_reply(request.cookie)
        if len(pieces) == 1:
            async with self._pieces:
                data = await self._read_data(*pieces[0])
                async with self._sending:
                    await self._send(header, data)
            return
        async with self._sending:       # before anything is read: who waits for its turn keeps nothing
            await self._send(header, await self._read_data(*pieces[0]))
            for offset, length in pieces[1:]:
                try:
                    await self._send(await self._read_data(offset, length))
                except ReadError as error:
                    raise ProtocolError(f"a reply was begun and cannot be ended: {error}") from None

    async def _read_data(self, offset_bytes: int, length_bytes: int) -> memoryview:
        parts = [part async for part in self._read(offset_bytes, length_bytes, 1)]
        data = parts[0][2]
        assert data is not None
        return data

    async def _read(self, offset_bytes: int, length_bytes: int, most_runs: int) -> AsyncIterator[Part]:
        """A range as (offset, length, data, or None in a hole). ReadError."""
        start, end = offset_bytes - offset_bytes % GRAIN_BYTES, offset_bytes + length_bytes
        whole_end = (end + GRAIN_BYTES - 1) // GRAIN_BYTES * GRAIN_BYTES
        runs, payload = await self._source.read(start, whole_end - start, most_runs)
        taken = 0
        for length, state in runs:
            low, high = max(start, offset_bytes), min(start + length, end)
            data = None
            if not state & State.HOLE:
                data = payload[taken + low - start:taken + high - start]
                taken += length
            if low < high:
                yield low, high - low, data
            start += length


def _pieces(request: Request) -> Iterator[tuple[int, int]]:
    """A range cut at multiples of PIECE_BYTES."""
    at, end = request.offset_bytes, request.offset_bytes + request.length_bytes
    while at < end:
        following = min(end, at - at % PIECE_BYTES + PIECE_BYTES)
        yield at, following - at
        at = following


def _chunks(cookie: int, parts: list[Part], *, done: bool) -> list[bytes | memoryview]:
    """Data and holes as chunks, the last of them perhaps the last of its reply."""
    chunks: list[bytes | memoryview] = []
    for number, (offset, length, data) in enumerate(parts, 1):
        last = done and number == len(parts)
        if data is None:
            chunks.append(transmission.hole_chunk(cookie, offset, length, done=last))
        else:
            chunks += [transmission.data_chunk(cookie, offset, length, done=last), data]
    return chunks


def error_of(error: ReadError) -> Error:
    """What a client is told."""
    return Error.ESHUTDOWN if error.outcome is Outcome.GONE else Error.EIO
