"""A snapshot as a process outside the daemon reads it: the other end of the API's export channel (docs/export.md).

Any number of reads at once. The daemon holds the snapshot until `close`, or until this process is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
import urllib.parse
from typing import Any

from target.client import error_of
from target.errors import LunetteError
from target.records import REPLY, Kind, Outcome, Request

BUFFER_BYTES = 2 << 20
MAX_HEADERS = 64
Runs = list[tuple[int, int]]        # length in bytes, state
Answer = tuple[int, bytes, bytes]   # outcome, runs, payload


class ReadError(Exception):
    """A range could not be read; `outcome` says why."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Source:
    """A held snapshot. `open` it, `close` it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._chunk_bytes = 0           # of the chunk that is being read, still to come
        self._cookies = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._task: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()    # the daemon is gone, or `close` was called
        self.hello: dict[str, Any] = {}

    @classmethod
    async def open(cls, api_path: str, name: str, since: str | None, tag: str) -> Source:
        """Have the daemon hold NAME@LABEL, and what it is compared with. LunetteError: what the daemon says, unreachable."""
        query = urllib.parse.urlencode({"name": name, "tag": tag, **({"since": since} if since is not None else {})})
        try:
            reader, writer = await asyncio.open_unix_connection(api_path, limit=BUFFER_BYTES)
        except OSError:
            raise LunetteError("unreachable", f"no daemon answers at {api_path}; --api or LUNETTE_API says where it is") from None
        source = cls(reader, writer)
        try:
            writer.write(f"POST /v1/export?{query} HTTP/1.1\r\nHost: lunette\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            await source._begin()
        except (OSError, EOFError, ValueError):
            writer.close()
            raise LunetteError("unreachable", f"{api_path}: the daemon broke off") from None
        except BaseException:
            writer.close()
            raise
        source._task = asyncio.create_task(source._receive(), name="export channel")
        return source

    async def close(self) -> None:
        """Let go of the snapshot."""
        self.ended.set()
        self._writer.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def size_bytes(self) -> int:
        return int(self.hello["object"]["size_bytes"])

    async def read(self, offset_bytes: int, length_bytes: int, most_runs: int = 1) -> tuple[Runs, memoryview]:
        """Whole blocks, at most READ_MOST_BYTES: the range's runs, and what its data runs hold, one behind the other.

        When there would be more runs, holes are read as zeros and it is one. ReadError.
        """
        _, runs, payload = await self._ask(Kind.READ, offset_bytes, length_bytes, most_runs)
        return list(struct.iter_unpack("<II", runs)), memoryview(payload)

    async def runs(self, kind: Kind, offset_bytes: int, length_bytes: int, most: int) -> bytes:
        """Runs from the block of an offset on, packed, at most so many: perhaps of less than was asked for. ReadError."""
        return (await self._ask(kind, offset_bytes, length_bytes, most))[1]

    async def _ask(self, kind: Kind, offset_bytes: int, length_bytes: int, limit: int) -> Answer:
        if self.ended.is_set():
            raise ReadError(Outcome.GONE, "the daemon is gone")
        cookie = next(self._cookies) & 0xFFFFFFFF
        self._waiting[cookie] = future = asyncio.get_running_loop().create_future()
        raw = Request(kind, cookie, offset_bytes, length_bytes, limit).pack()
        self._writer.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        try:
            answer: Answer = await future
        finally:
            self._waiting.pop(cookie, None)
        if answer[0] != Outcome.OK:
            raise ReadError(Outcome(answer[0]), answer[2].decode(errors="replace"))
        return answer

    # -- inside --------------------------------------------------------------------------------------------------
    async def _begin(self) -> None:
        """The answer's head, and the first line of the channel."""
        status = int((await self._reader.readline()).split()[1])
        length = 0
        for _ in range(MAX_HEADERS):
            line = await self._reader.readline()
            if line in (b"\r\n", b""):
                break
            key, _, value = line.partition(b":")
            length = int(value) if key.lower() == b"content-length" else length
        if status != 200:
            raise error_of(status, await self._reader.readexactly(length))
        line = b""
        while not line.endswith(b"\n"):
            line += await self._take(1)
        self.hello = json.loads(line)

    async def _receive(self) -> None:
        try:
            while True:
                cookie, outcome, runs, length = REPLY.unpack(await self._take(REPLY.size))
                answer = outcome, await self._take(8 * runs), await self._take(length)
                future = self._waiting.get(cookie)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, EOFError, ValueError):
            pass                        # the daemon is gone
        finally:
            self.ended.set()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ReadError(Outcome.GONE, "the daemon is gone"))

    async def _take(self, length_bytes: int) -> bytes:
        """So many bytes out of the chunks of the answer. EOFError when it ends."""
        parts = []
        while length_bytes:
            if not self._chunk_bytes:
                self._chunk_bytes = int(await self._reader.readuntil(b"\r\n"), 16)
                if not self._chunk_bytes:
                    raise EOFError
            part = await self._reader.readexactly(min(length_bytes, self._chunk_bytes))
            parts.append(part)
            length_bytes -= len(part)
            self._chunk_bytes -= len(part)
            if not self._chunk_bytes:
                await self._reader.readexactly(2)
        return parts[0] if len(parts) == 1 else b"".join(parts)
