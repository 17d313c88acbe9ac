"""The way to the core's pumps: threads that make or take a stream, awaited on the loop (docs/stream-format.md)."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, PoolError, pool_error

QUIET_SECONDS = 5.0     # without a frame, before a KEEPALIVE
T = TypeVar("T")


async def on_thread(thread: ThreadPoolExecutor, cancel: int, work: Callable[..., T], *args: Any) -> T:
    """Do it on the thread. A task that is cancelled waits for it, cut short by the eventfd: it must not go on by itself.

    Cheaper than `run_in_executor`, whose futures of two kinds and their shield take the loop three turns.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    over: asyncio.Future[None] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        over.set_result(None)
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def perform() -> None:
        try:
            result, error = work(*args), None
        except BaseException as raised:
            result, error = None, raised
        loop.call_soon_threadsafe(settle, result, error)

    thread.submit(perform)
    try:
        return await done
    except asyncio.CancelledError:
        os.eventfd_write(cancel, 1)
        await asyncio.shield(over)
        raise


class _Pump:
    """A thread, and a descriptor that ends its waits."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lunette-stream")
        self._cancel = os.eventfd(0, os.EFD_CLOEXEC)

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        return await on_thread(self._thread, self._cancel, work, *args)

    def cut(self) -> None:
        """End what waits for the descriptor, now and later."""
        os.eventfd_write(self._cancel, 1)

    def _close(self) -> None:
        self._thread.shutdown()
        os.close(self._cancel)


class Sink(_Pump):
    """Says one stream. What was said is written behind it: `flush` waits for that."""

    def __init__(self, pool: AsyncPool, fd: int, stream: int, *, compress: str, limit_bytes: int) -> None:
        """`compress`: auto, zstd or none. `limit_bytes` a second, 0 for none. LunetteError invalid."""
        from core.stream.outflow import Outflow, zstd_available

        if compress == "zstd" and not zstd_available():
            raise LunetteError("invalid", "the library libzstd.so.1 is not there: --compress none")
        super().__init__(pool)
        self.out = Outflow(pool.pool, fd, self._cancel, stream=stream, pack=compress, limit_bytes=limit_bytes)
        self.told: Callable[[int, int], None] = lambda position, sent_bytes: None      # how far it is

    async def __aenter__(self) -> Sink:
        await self._run(self.out.open)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.cut()
        await self._run(self.out.close)
        self._close()

    @property
    def sent_bytes(self) -> int:
        return self.out.sent_bytes

    async def begin(self, object_id: int, *, offset: int, span: int, text: bytes) -> None:
        """What follows is of that object."""
        await self._said(functools.partial(self.out.begin, object_id, offset=offset, span=span, text=text))

    async def plain(self, type_: str, payload: bytes = b"") -> None:
        """A frame that says nothing of the object."""
        await self._said(functools.partial(self.out.plain, type_, payload=payload))

    async def rows(self, rows: bytes) -> None:
        """What these rows speak of."""
        self.out.feed(rows)
        while not await self._said(self.out.make):
            self.told(self.out.position, self.sent_bytes)

    async def mark(self, position: int) -> None:
        """All before it was said."""
        await self._said(self.out.mark, position)

    async def end(self, size_bytes: int, *, more: bool) -> None:
        """All was said; `more`: another one follows."""
        await self._said(self.out.end, size_bytes, more)
        self.told(size_bytes, self.sent_bytes)

    async def flush(self) -> None:
        """Until all is written. LunetteError when the other end is gone."""
        await self._said(self.out.flush)

    async def _said(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await self._run(work, *args)
        except PoolError as error:
            raise LunetteError(error.code, str(error)) from None
        except OSError as error:
            raise _descriptor_error(error, "written") from None


class Source(_Pump):
    """Reads one stream."""

    def __init__(self, pool: AsyncPool, fd: int) -> None:
        from core.stream.inflow import Inflow

        super().__init__(pool)
        self.inflow = Inflow(pool.pool, fd, self._cancel)

    async def __aenter__(self) -> Source:
        await self._run(self.inflow.open)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._run(self.inflow.close)
        self._close()

    async def into(self, object_id: int, from_offset: int, *, comparing: bool = False) -> None:
        await self._run(self.inflow.into, object_id, from_offset, comparing)

    async def take(self) -> Any:
        """The next frame that is to be decided about (core.stream.inflow.Taken). LunetteError ends the stream."""
        from core.stream.frame import StreamError

        try:
            return await self._run(self.inflow.take)
        except StreamError as error:
            raise LunetteError("newer" if error.code == "newer" else "invalid", str(error)) from None
        except PoolError as error:
            raise pool_error(error.code, str(error)) from None
        except OSError as error:
            raise _descriptor_error(error, "read") from None


class Transmitting(_Pump):
    """Serves one NBD connection: READs by itself, what else is asked is given to who awaits it."""

    def __init__(self, pool: AsyncPool, fd: int, object_id: int, *, structured: bool, rest: bytes) -> None:
        from core.stream.nbd import Transmission

        super().__init__(pool)
        self._object_id = object_id
        self._transmission = Transmission(pool.pool, fd, self._cancel, structured=structured, rest=rest)

    async def __aenter__(self) -> Transmitting:
        await self._run(self._transmission.open)
        await self._called(self._transmission.begin, self._object_id)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._run(self._transmission.close)
        self._close()

    async def serve(self) -> bytes:
        """The next request that is no plain READ; empty: the client has left. LunetteError aborted."""
        return await self._called(self._transmission.serve)

    async def skip(self, length_bytes: int) -> None:
        """Throw away a payload. LunetteError aborted."""
        await self._called(self._transmission.skip, length_bytes)

    async def give(self, data: bytes) -> None:
        """Send an answer. LunetteError aborted."""
        await self._called(self._transmission.give, data)

    async def _called(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await self._run(work, *args)
        except PoolError as error:
            raise pool_error(error.code, str(error)) from None
        except OSError as error:
            raise _descriptor_error(error, "served") from None


class Hashing(_Pump):
    """Hashes what one object holds, for a side that compares."""

    def __init__(self, pool: AsyncPool, object_id: int) -> None:
        """LunetteError invalid: there is no library for it."""
        from core.stream import hashes

        self._core = hashes
        try:
            self._hashes = hashes.Hashes(pool.pool)
        except OSError as error:
            raise LunetteError("invalid", f"nothing can be compared: {error.strerror}") from None
        super().__init__(pool)
        self._object_id = object_id

    async def __aenter__(self) -> Hashing:
        await self._run(self._hashes.open)
        await self._called(self._hashes.begin, self._object_id)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._run(self._hashes.close)
        self._close()

    async def spans(self, first: int, count: int) -> bytes:
        """Digests of spans (core.stream.hashes). LunetteError."""
        return await self._called(self._hashes.spans, first, count)

    async def chunks(self, spans: Sequence[int]) -> bytes:
        """Digests of the chunks of spans. LunetteError."""
        return b"".join([await self._called(self._hashes.chunks, each) for each in spans])

    def spans_of(self, size_bytes: int) -> int:
        """How many spans so many bytes are."""
        return -(-size_bytes // self._core.SPAN_BYTES)

    def digest_bytes(self, *, spans: int = 0, fine: int = 0) -> int:
        """Of the digests of so many spans, and of the chunks of so many."""
        return self._core.DIGEST_BYTES * (spans + self._core.CHUNKS * fine)

    def differing(self, ours: bytes, theirs: bytes, first: int) -> list[int]:
        """The spans that differ, from `first` on."""
        return self._core.differing(ours, theirs, first)

    def rows(self, spans: Sequence[int], ours: bytes, theirs: bytes, size_bytes: int) -> list[bytes]:
        """Rows of the chunks of those spans that differ, as a walk would give them."""
        width = self.digest_bytes(fine=1)
        return [self._core.rows(span, ours[at * width:(at + 1) * width], theirs[at * width:(at + 1) * width], size_bytes)
                for at, span in enumerate(spans)]

    async def _called(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await self._run(work, *args)
        except PoolError as error:
            raise pool_error(error.code, str(error)) from None


def _descriptor_error(error: OSError, what: str) -> LunetteError:
    if error.errno == errno.ECANCELED:
        return LunetteError("aborted", "the stream was cut off")
    return LunetteError("aborted", f"the stream cannot be {what}: {error.strerror or error}")
