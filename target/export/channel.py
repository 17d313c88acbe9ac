"""One long request of the API, which lasts as long as somebody has an export open (docs/export.md, "The channel")."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.parse
from typing import Any

from target.client import error_of
from target.errors import LunetteError

BUFFER_BYTES = 2 << 20
MAX_HEADERS = 64
END_SECONDS = 10.0              # that the daemon has to end its answer


class Channel:
    """An open one. `hello` is the answer's first line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._chunk_bytes = 0           # of the chunk that is being read, still to come
        self.hello: dict[str, Any] = {}

    @classmethod
    async def open(cls, api_path: str, path: str, query: dict[str, str]) -> Channel:
        """LunetteError: what the daemon says, unreachable."""
        try:
            reader, writer = await asyncio.open_unix_connection(api_path, limit=BUFFER_BYTES)
        except OSError:
            raise LunetteError("unreachable", f"no daemon answers at {api_path}; --api or LUNETTE_API says where it is") from None
        channel = cls(reader, writer)
        try:
            head = f"POST {path}?{urllib.parse.urlencode(query)} HTTP/1.1\r\nHost: lunette\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head.encode())
            await channel._begin()
        except (OSError, EOFError, ValueError):
            writer.close()
            raise LunetteError("unreachable", f"{api_path}: the daemon broke off") from None
        except BaseException:
            writer.close()
            raise
        return channel

    def close(self) -> None:
        self._writer.close()

    async def finish(self, receiving: asyncio.Task[None]) -> None:
        """The daemon ends its answer when it has let go of everything, and the receiving task with it."""
        if not self._writer.is_closing():
            self._writer.write(b"0\r\n\r\n")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receiving, END_SECONDS)
        self.close()

    async def ended(self) -> None:
        """Until the daemon has ended its answer, or is gone."""
        with contextlib.suppress(OSError, EOFError, ValueError):
            while True:
                await self.take(1)

    async def take(self, length_bytes: int) -> bytes:
        """So many bytes of the answer. OSError or EOFError when it ends, ValueError when it is no HTTP."""
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
            line += await self.take(1)
        self.hello = json.loads(line)
