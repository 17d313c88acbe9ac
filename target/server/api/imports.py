"""Imports: volumes that something outside fills, over a channel of the API; each appears whole or not at all.

It is a hidden object until it is published by a rename, one frame of the journal. A channel that ends before takes it away, and
so does the next start of a daemon that died (docs/repositories.md, "The channel").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from target.config import round_up
from target.errors import LunetteError
from target.records import WRITE, WRITE_MOST_BYTES, WRITTEN, Outcome, Step
from target.volumes.gateway import HIDDEN, AsyncPool, PoolError, pool_error

log = logging.getLogger("lunette.imports")

Json = dict[str, Any]
MAX_CHANNELS = 16
MAX_WRITES = 16                 # of one channel at once, each at most WRITE_MOST_BYTES
GRAIN_BYTES = 4096
OUTCOMES = {"gone": Outcome.GONE, "not_found": Outcome.GONE, "no_space": Outcome.NO_SPACE, "range": Outcome.INVALID,
            "invalid": Outcome.INVALID, "exists": Outcome.INVALID, "io_write": Outcome.MEDIUM}

Reply = Callable[[bytes], Awaitable[None]]


class Imports:
    """The volumes that are being filled."""

    def __init__(self, pool: AsyncPool, made: Callable[[int], Awaitable[Json]]) -> None:
        """`made` is told of a volume that was published; what it says of it is the answer."""
        self._pool = pool
        self._made = made
        self._channels = 0

    @contextlib.asynccontextmanager
    async def open(self, name: str, *, size_bytes: int, block_bytes: int, checksum: bool) -> AsyncIterator[Import]:
        """A new hidden volume, gone afterwards unless it was published. LunetteError: exists, invalid, limit, no_space."""
        if self._pool.lookup(name) is not None:
            raise LunetteError("exists", f"there is {name} already")
        if self._channels >= MAX_CHANNELS:
            raise LunetteError("limit", f"{MAX_CHANNELS} volumes are being restored already")
        self._channels += 1
        try:
            try:
                object_id = await self._pool.call(
                    "create", name=f"{HIDDEN}import.{secrets.token_hex(8)}", size_bytes=round_up(size_bytes, GRAIN_BYTES),
                    block_bytes=block_bytes, physical_block_bytes=4096, checksum=checksum)
            except PoolError as error:
                raise pool_error(error.code, f"create {name}") from None
            channel = Import(self._pool, object_id, name, self._made)
            try:
                yield channel
            finally:
                if not channel.published:
                    await self._take_away(object_id)
        finally:
            self._channels -= 1

    async def _take_away(self, object_id: int) -> None:
        try:
            await asyncio.shield(self._pool.start("delete", object_id=object_id))
        except PoolError as error:
            log.warning("a volume that was not published stays until the next start: %s", error)


class Import:
    """One volume that is being filled."""

    def __init__(self, pool: AsyncPool, object_id: int, name: str, made: Callable[[int], Awaitable[Json]]) -> None:
        self._pool = pool
        self._object_id = object_id
        self._name = name
        self._made = made
        self._replying = asyncio.Lock()
        self.published = False

    async def serve(self, incoming: AsyncIterator[bytes], reply: Reply) -> None:
        """Take data until it is published, no more comes, or what comes is no record."""
        slots = asyncio.Semaphore(MAX_WRITES)
        tasks: set[asyncio.Task[None]] = set()
        rest = bytearray()
        try:
            async for data in incoming:
                rest += data
                while len(rest) >= WRITE.size:
                    kind, cookie, offset, length = WRITE.unpack_from(rest)
                    if length > WRITE_MOST_BYTES or kind not in (Step.DATA, Step.PUBLISH):
                        await self._say(reply, cookie, Outcome.INVALID, "what came is no record of data")
                        return
                    if len(rest) < WRITE.size + length:
                        break
                    payload = bytes(memoryview(rest)[WRITE.size:WRITE.size + length])
                    del rest[:WRITE.size + length]
                    if kind == Step.PUBLISH:
                        await asyncio.gather(*tasks)
                        await self._answer(reply, cookie, self._publish())
                        return
                    await slots.acquire()
                    task = asyncio.create_task(self._answer(reply, cookie, self._pool.call(
                        "write", object_id=self._object_id, offset_bytes=offset, data=payload)))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    task.add_done_callback(lambda _: slots.release())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish(self) -> str:
        """Durable, then visible."""
        await self._pool.call("flush")
        self.published = True               # from when it may be: what may be visible is not taken away
        try:
            await self._pool.call("rename", object_id=self._object_id, name=self._name)
        except PoolError:
            self.published = False
            raise
        made = await self._made(self._object_id)
        return str(made.get("url") or "")

    async def _answer(self, reply: Reply, cookie: int, work: Awaitable[Any]) -> None:
        outcome, text = Outcome.OK, ""
        try:
            text = str(await work or "")
        except PoolError as error:
            outcome, text = OUTCOMES.get(error.code, Outcome.FAILED), str(error)
        except LunetteError as error:
            outcome, text = Outcome.FAILED, str(error)
        await self._say(reply, cookie, outcome, text)

    async def _say(self, reply: Reply, cookie: int, outcome: Outcome, text: str) -> None:
        payload = text.encode()
        with contextlib.suppress(ConnectionError):
            async with self._replying:
                await reply(WRITTEN.pack(cookie, outcome, len(payload)) + payload)
