"""A snapshot as a process outside the daemon reads it: the other end of the API's export channel (docs/export.md).

Any number of reads at once. The daemon holds the snapshot until `close`, or until this process is gone.
"""

from __future__ import annotations

import asyncio
import itertools
import struct

from target.export.channel import Channel
from target.records import REPLY, Kind, Outcome, Request

Runs = list[tuple[int, int]]        # length in bytes, state
Answer = tuple[int, bytes, bytes]   # outcome, runs, payload


class ReadError(Exception):
    """A range could not be read; `outcome` says why."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Source:
    """A held snapshot. `open` it, `close` it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.hello = channel.hello
        self._cookies = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self.ended = asyncio.Event()    # the daemon is gone, or `close` was called
        self._task = asyncio.create_task(self._receive(), name="export channel")

    @classmethod
    async def open(cls, api_path: str, name: str, since: str | None, tag: str) -> Source:
        """Have the daemon hold NAME@LABEL, and what it is compared with. LunetteError: what the daemon says, unreachable."""
        query = {"name": name, "tag": tag, **({"since": since} if since is not None else {})}
        return cls(await Channel.open(api_path, "/v1/export", query))

    async def close(self) -> None:
        """Let go of the snapshot: the daemon has, when this returns."""
        self.ended.set()
        await self._channel.finish(self._task)

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
        try:
            self._channel.send(Request(kind, cookie, offset_bytes, length_bytes, limit).pack())
            answer: Answer = await future
        except ConnectionError:
            raise ReadError(Outcome.GONE, "the daemon is gone") from None
        finally:
            self._waiting.pop(cookie, None)
        if answer[0] != Outcome.OK:
            raise ReadError(Outcome(answer[0]), answer[2].decode(errors="replace"))
        return answer

    # -- inside --------------------------------------------------------------------------------------------------
    async def _receive(self) -> None:
        try:
            while True:
                cookie, outcome, runs, length = REPLY.unpack(await self._channel.take(REPLY.size))
                answer = outcome, await self._channel.take(8 * runs), await self._channel.take(length)
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
