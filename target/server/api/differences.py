"""Differences: where two objects may differ, who they are and how large, as rows of JSON made piece by piece.

The first row says whose differences these are: `a` and `b`, each with name, GUID (of a replica its source's) and size. Each row
after it is a range, in order, with what B holds there: `data`, a `hole`, or nothing, because B ends before it (`beyond`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

from target.errors import LunetteError
from target.server.api.holds import Holds
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError, pool_error

Json = dict[str, Any]
Range = tuple[int, int]             # offset and length, bytes
MAX_RANGES = 4096                   # of one piece
NEAR_BYTES = 2 << 20                # ranges no further apart are looked up together: a leaf of the map spans so much
DATA, HOLE, BEYOND = "data", "hole", "beyond"


class Differences:
    """Compares objects of one pool. Both are held as long as their rows are read."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, holds: Holds, guid: Callable[[ObjectInfo], str]) -> None:
        """`guid` is what an object is known by everywhere."""
        self._pool = pool
        self._catalog = catalog
        self._holds = holds
        self._guid = guid

    async def rows(self, a: str, b: str, *, offset_bytes: int = 0, limit: int | None = None,
                   header: bool = True) -> AsyncGenerator[list[Json]]:
        """From the block that holds `offset_bytes`, at most `limit` ranges, some thousands at a time.

        LunetteError: not_found, gone (one was deleted by force meanwhile), the pool's codes.
        """
        first, second = self._catalog.find(a), self._catalog.find(b)
        with self._holds.hold((first, second), f"diff {a} {b}"):
            if header:
                yield [{"a": self._identity(first), "b": self._identity(second)}]
            left = limit
            async for found in self._pieces(first, second, offset_bytes):
                rows = [{"offset_bytes": offset, "length_bytes": length, "content": content}
                        for offset, length, content in found[:left]]
                if rows:
                    yield rows
                left = None if left is None else left - len(rows)
                if left == 0:
                    return

    def _identity(self, info: ObjectInfo) -> Json:
        return {"name": info.name, "guid": self._guid(info), "size_bytes": info.size_bytes}

    async def _pieces(self, a: ObjectInfo, b: ObjectInfo, offset_bytes: int) -> AsyncGenerator[list[tuple[int, int, str]]]:
        common_bytes = min(a.size_bytes, b.size_bytes)
        async for ranges in self._changed(a, b, offset_bytes, common_bytes):
            near = list(_neighbours(ranges))
            answers = await asyncio.gather(*(self._content(a, b, each) for each in near))
            yield [row for each in answers for row in each]
        tail = max(offset_bytes, common_bytes)
        if a.size_bytes > b.size_bytes and tail < a.size_bytes:
            yield [(tail, a.size_bytes - tail, BEYOND)]
        elif tail < b.size_bytes:
            async for extents in self._extents(a, b, tail, b.size_bytes):
                yield [(offset, length, DATA if mapped else HOLE) for offset, length, mapped in extents]

    async def _changed(self, a: ObjectInfo, b: ObjectInfo, at: int, end: int) -> AsyncGenerator[list[Range]]:
        """Where the maps differ, up to `end`."""
        while at < end:
            ranges = await self._call(a, b, "diff", a_id=a.id, b_id=b.id, offset_bytes=at, limit=MAX_RANGES)
            yield [(offset, min(length, end - offset)) for offset, length in ranges if offset < end]
            if len(ranges) < MAX_RANGES:
                return
            following = ranges[-1][0] + ranges[-1][1]
            if following <= at:
                raise LunetteError("internal", "diff does not advance")
            at = following

    async def _content(self, a: ObjectInfo, b: ObjectInfo, ranges: Sequence[Range]) -> list[tuple[int, int, str]]:
        """Ranges that lie near each other, cut where what B holds changes from data to hole."""
        found: list[tuple[int, int, str]] = []
        start, end = ranges[0][0], ranges[-1][0] + ranges[-1][1]
        at = 0
        async for extents in self._extents(a, b, start, end):
            for offset, length, mapped in extents:
                while at < len(ranges) and ranges[at][0] < offset + length:
                    low, high = max(offset, ranges[at][0]), min(offset + length, sum(ranges[at]))
                    if low < high:
                        found.append((low, high - low, DATA if mapped else HOLE))
                    if sum(ranges[at]) > offset + length:
                        break               # goes on in the next extent
                    at += 1
        return found

    async def _extents(self, a: ObjectInfo, b: ObjectInfo, at: int, end: int) -> AsyncGenerator[list[tuple[int, int, bool]]]:
        """What B maps and what it does not, from `at` to `end`; neighbours of one kind may come apart."""
        while at < end:
            extents = await self._call(a, b, "extents", object_id=b.id, offset_bytes=at, length_bytes=end - at, limit=MAX_RANGES)
            if not extents:
                return                      # it became smaller meanwhile
            yield extents
            at = extents[-1][0] + extents[-1][1]

    async def _call(self, a: ObjectInfo, b: ObjectInfo, op: str, **args: Any) -> Any:
        what = f"diff {a.name} {b.name}"
        try:
            return await self._pool.call(op, **args)
        except PoolError as error:
            for each in (a, b):
                if self._pool.info(each.id) is None:
                    raise LunetteError("gone", f"{what}: {each.name} was deleted meanwhile, the list is not whole") from None
            raise pool_error(error.code, what) from None


def _neighbours(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """Ranges in order, in groups of those that lie near each other."""
    group: list[Range] = []
    for each in ranges:
        if group and each[0] - sum(group[-1]) > NEAR_BYTES:
            yield group
            group = []
        group.append(each)
    if group:
        yield group
