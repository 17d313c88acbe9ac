"""A pool object as the SCSI layer's block backend: every method is one pool operation (SBC-4's view of the medium)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from target.scsi import BackendError, BlockBackend, Extent, IOStatistics, Space
from target.volumes.gateway import ATOMIC_BYTES, AsyncPool, ObjectInfo, PoolError

GRAIN_BYTES = 4096  # what the map can share
SECOND_COPY_BYTES = 1 << 20  # of blocks that can be shared no more, at a time
STREAM_BYTES = 4 << 20  # larger transfers go through the pool in pieces of this size


class PoolBackend:
    """One volume, snapshot or clone. Reads current state from the pool; `statistics` comes from the data plane."""

    def __init__(self, pool: AsyncPool, info: ObjectInfo,
                 statistics: Callable[[int], IOStatistics] | None = None) -> None:
        self._pool = pool
        self._object_id = info.id
        self._block_bytes = info.block_bytes
        self._physical_block_bytes = info.physical_block_bytes
        self._read_only = info.kind == "snapshot"
        self._size_bytes = info.size_bytes
        self._statistics = statistics

    @property
    def object_id(self) -> int:
        return self._object_id

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def block_bytes(self) -> int:
        return self._block_bytes

    @property
    def physical_block_bytes(self) -> int:
        return self._physical_block_bytes

    @property
    def read_only(self) -> bool:
        return self._read_only

    @property
    def pool_id(self) -> bytes:
        return bytes(self._pool.pool.uuid)

    def refresh(self) -> None:
        """Take a new size and physical block over from the pool, before `LogicalUnit.capacity_changed`."""
        info = self._pool.info(self._object_id)
        if info is not None:
            self._size_bytes = info.size_bytes
            self._physical_block_bytes = info.physical_block_bytes

    def space(self) -> Space:
        info = self._pool.info(self._object_id)
        stats = self._pool.stats()
        available = stats.get("available_bytes", stats.get("free_bytes", 0))
        return Space(info.mapped_bytes if info is not None else 0, stats["used_bytes"], available)

    def statistics(self) -> IOStatistics:
        return IOStatistics() if self._statistics is None else self._statistics(self._object_id)

    async def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        parts = []
        for at, length in _pieces(offset_bytes, length_bytes):
            try:
                parts.append(await self._call("read", offset_bytes=at, length_bytes=length))
            except BackendError as error:
                if error.code not in ("checksum", "io_read"):
                    raise
                lba = (at + error.value) // self._block_bytes
                raise BackendError(error.code, str(error), lba, located=True) from None
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    async def write(self, offset_bytes: int, data: bytes, fua: bool) -> None:
        view = memoryview(data)
        for at, length in _pieces(offset_bytes, len(data)):
            start = at - offset_bytes
            await self._call("write", offset_bytes=at, data=bytes(view[start:start + length]), fua=fua)

    async def unmap(self, offset_bytes: int, length_bytes: int, fua: bool, keep: bool) -> None:
        if length_bytes:
            await self._call("unmap", offset_bytes=offset_bytes, length_bytes=length_bytes, fua=fua, keep=keep)

    async def unmap_ranges(self, ranges: list[tuple[int, int]], fua: bool) -> None:
        """One operation, so that they share journal frames and wait for them once."""
        wanted = [each for each in ranges if each[1]]
        if wanted:
            (offset_bytes, length_bytes), *further = wanted
            await self._call("unmap", offset_bytes=offset_bytes, length_bytes=length_bytes, fua=fua, further=further)

    async def flush(self) -> None:
        try:
            await self._pool.call("flush")
        except PoolError as error:
            raise BackendError(error.code, str(error), error.value) from None

    async def compare_and_write(self, offset_bytes: int, expected: bytes, data: bytes, fua: bool) -> int | None:
        try:
            await self._call("compare_and_write", offset_bytes=offset_bytes, expected=expected, data=data, fua=fua)
        except BackendError as error:
            if error.code == "miscompare":
                return error.value
            raise
        return None

    @property
    def atomic_bytes(self) -> int:
        return ATOMIC_BYTES

    async def write_atomic(self, offset_bytes: int, data: bytes, fua: bool) -> None:
        await self._call("write_atomic", offset_bytes=offset_bytes, data=data, fua=fua)

    async def extents(self, offset_bytes: int, length_bytes: int, limit: int) -> list[Extent]:
        found = await self._call("extents", offset_bytes=offset_bytes, length_bytes=length_bytes, limit=limit)
        return [Extent(int(offset), int(length), bool(mapped)) for offset, length, mapped in found]

    async def share(self, source: BlockBackend, source_offset_bytes: int, offset_bytes: int, length_bytes: int) -> None:
        if not isinstance(source, PoolBackend) or source.pool_id != self.pool_id:
            raise BackendError("invalid", "blocks are shared within one pool only")
        alike = (offset_bytes - source_offset_bytes) % GRAIN_BYTES == 0
        head = min(-offset_bytes % GRAIN_BYTES, length_bytes) if alike else length_bytes
        middle = (length_bytes - head) // GRAIN_BYTES * GRAIN_BYTES
        await self._copy(source, source_offset_bytes, offset_bytes, head)
        done = head
        while done < head + middle:
            done += await self._refer(source, source_offset_bytes + done, offset_bytes + done, head + middle - done)
        await self._copy(source, source_offset_bytes + done, offset_bytes + done, length_bytes - done)

    async def _refer(self, source: PoolBackend, source_offset_bytes: int, offset_bytes: int, length_bytes: int) -> int:
        """Share blocks, or where one has as many references as it may have, make a second copy of it; returns the bytes done."""
        try:
            await self._pool.call("share", dst_id=self._object_id, dst_offset_bytes=offset_bytes, src_id=source.object_id,
                                  src_offset_bytes=source_offset_bytes, length_bytes=length_bytes)
        except PoolError as error:
            if error.code != "limit":
                raise BackendError(error.code, str(error), error.value) from None
            done = error.value
            more = min(SECOND_COPY_BYTES, length_bytes - done)
            await self._copy(source, source_offset_bytes + done, offset_bytes + done, more)
            return done + more
        return length_bytes

    async def _copy(self, source: PoolBackend, source_offset_bytes: int, offset_bytes: int, length_bytes: int) -> None:
        """What does not fall on the map's blocks goes through memory."""
        for at, length in _pieces(offset_bytes, length_bytes):
            await self.write(at, await source.read(source_offset_bytes + at - offset_bytes, length), False)

    async def _call(self, op: str, **args: Any) -> Any:
        try:
            return await self._pool.call(op, object_id=self._object_id, **args)
        except PoolError as error:
            raise BackendError(error.code, str(error), error.value) from None


def _pieces(offset_bytes: int, length_bytes: int) -> list[tuple[int, int]]:
    end = offset_bytes + length_bytes
    return [(at, min(STREAM_BYTES, end - at)) for at in range(offset_bytes, end, STREAM_BYTES)]
