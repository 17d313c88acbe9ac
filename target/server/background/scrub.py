"""Scrub: read all metadata and everything that is mapped from the medium, at a bounded rate; name what is damaged.

Metadata pages are read again whether the engine has them in memory or not (its `scrub` operation, in slices); data is read
as an initiator reads it, so that the checksums of volumes that keep them are verified.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from target.server.background.pool_work import PoolWork
from target.volumes.gateway import METADATA_PARTS, ObjectInfo, PoolError

PIECE_BYTES = 1 << 20
EXTENTS = 1024
DAMAGE = frozenset({"checksum", "io_read"})
MAX_DAMAGED = 1000
PAGE_BYTES = 4096
PAGES = 64                                  # metadata pages of one slice
POOL = "(pool)"                             # the name under which damage to what belongs to no object goes


class Scrub(PoolWork):
    """Blocks that an object shares with the previous one of its family are read once.

    Objects go in families (a volume, its snapshots and clones by age): the first is read whole, each next one only
    where `diff` says that it is not the one before it.
    """

    name = "scrub"

    def _figures(self) -> dict[str, Any]:
        """Objects done, bytes and metadata pages read, damaged ranges: of an object, or a page's `part`, `block` and range."""
        return {"objects": len(self._pool.objects()), "objects_done": 0, "read_bytes": 0, "metadata_pages": 0, "damaged": []}

    def _done(self) -> tuple[int, int]:
        """Bytes read, of about as many as the pool holds: what is shared is read once."""
        done = self._state["read_bytes"] + self._state["metadata_pages"] * PAGE_BYTES
        return done, max(done, self._pool.stats()["used_bytes"]) if self._state["state"] == "running" else done

    async def _run(self, rate_bytes: int) -> str:
        began = time.monotonic()
        previous: ObjectInfo | None = None
        objects = self._pool.objects()
        for part in METADATA_PARTS:
            if part != "checksum" or any(info.checksum for info in objects):
                await self._metadata(POOL, rate_bytes, began, part=part)
        for info in _families(objects):
            await self._map(info, previous, rate_bytes, began)
            await self._object(info, previous, rate_bytes, began)
            previous = info
            self._state["objects_done"] += 1
        self._set_aside()
        return "damaged" if self._state["damaged"] else "clean"

    def _set_aside(self) -> None:
        """Bad pages that no object has any more: what was deleted and cannot be taken apart."""
        rows: list[dict[str, Any]] = self._state["damaged"]
        named = {row.get("block") for row in rows}
        for page in self._pool.damage():
            alive = page.kind == "node" and self._pool.info(page.object_id) is not None
            if page.block not in named and not alive and len(rows) < MAX_DAMAGED:
                part = "deleted map" if page.kind == "node" else page.kind
                rows.append({"name": POOL, "offset_bytes": 0, "length_bytes": 0, "code": "metadata", "part": part,
                             "block": page.block})

    async def _map(self, info: ObjectInfo, previous: ObjectInfo | None, rate_bytes: int, began: float) -> None:
        shared = previous.id if previous is not None and _family(previous) == _family(info) else 0
        try:
            await self._metadata(info.name, rate_bytes, began, object_id=info.id, previous_id=shared)
        except PoolError as error:
            if error.code not in ("gone", "not_found"):
                raise

    async def _metadata(self, name: str, rate_bytes: int, began: float, **what: Any) -> None:
        """Verify the pages of one part of the metadata, or of one object's map, slice by slice."""
        rows: list[dict[str, Any]] = self._state["damaged"]
        cursor: int | None = 0
        while cursor is not None:
            cursor, pages, damaged = await self._pool.call("scrub", cursor=cursor, limit=PAGES, **what)
            self._state["metadata_pages"] += pages
            for offset_bytes, length_bytes, block in damaged[:max(0, MAX_DAMAGED - len(rows))]:
                rows.append({"name": name, "offset_bytes": offset_bytes if "part" not in what else 0,
                             "length_bytes": length_bytes, "code": "metadata", "part": what.get("part", "map"), "block": block})
            await self._pace(rate_bytes, began)

    async def _pace(self, rate_bytes: int, began: float) -> None:
        self._further()
        if rate_bytes:
            done = self._state["read_bytes"] + self._state["metadata_pages"] * PAGE_BYTES
            await asyncio.sleep(max(0.0, done / rate_bytes - (time.monotonic() - began)))

    async def _object(self, info: ObjectInfo, previous: ObjectInfo | None, rate_bytes: int, began: float) -> None:
        at = 0
        while at < info.size_bytes:
            try:
                ranges, at = await self._next_ranges(info, previous, at)
            except PoolError as error:
                if error.code == "gone" or error.code == "not_found":
                    return
                if error.code not in DAMAGE:
                    raise
                self._damaged(info, at, min(PIECE_BYTES, info.size_bytes - at), error.code)
                at += PIECE_BYTES
                continue
            for offset_bytes, length_bytes in ranges:
                for start in range(offset_bytes, offset_bytes + length_bytes, PIECE_BYTES):
                    length = min(PIECE_BYTES, offset_bytes + length_bytes - start)
                    if not await self._read(info, start, length):
                        return
                    self._state["read_bytes"] += length
                    await self._pace(rate_bytes, began)

    async def _next_ranges(self, info: ObjectInfo, previous: ObjectInfo | None, at: int) -> tuple[list[tuple[int, int]], int]:
        """Ranges to read from `at` on, and where to go on after them."""
        if previous is not None and _family(previous) == _family(info):
            found = await self._pool.call("diff", a_id=previous.id, b_id=info.id, offset_bytes=at, limit=EXTENTS)
            ranges = [(offset, min(length, info.size_bytes - offset)) for offset, length in found if offset < info.size_bytes]
            following = found[-1][0] + found[-1][1] if len(found) == EXTENTS else info.size_bytes
            return ranges, following
        extents = await self._pool.call("extents", object_id=info.id, offset_bytes=at, length_bytes=info.size_bytes - at,
                                        limit=EXTENTS)
        ranges = [(offset, length) for offset, length, mapped in extents if mapped]
        return ranges, extents[-1][0] + extents[-1][1] if extents else info.size_bytes

    async def _read(self, info: ObjectInfo, offset_bytes: int, length_bytes: int) -> bool:
        """Read a piece; False when the object is gone. A damaged piece is narrowed down to its 4 KiB blocks."""
        try:
            await self._pool.call("read", object_id=info.id, offset_bytes=offset_bytes, length_bytes=length_bytes)
        except PoolError as error:
            if error.code in ("gone", "not_found"):
                return False
            if error.code not in DAMAGE:
                raise
            if length_bytes <= 4096:
                self._damaged(info, offset_bytes, length_bytes, error.code)
                return True
            half = (length_bytes // 2 + 4095) // 4096 * 4096
            return (await self._read(info, offset_bytes, half)
                    and await self._read(info, offset_bytes + half, length_bytes - half))
        return True

    def _damaged(self, info: ObjectInfo, offset_bytes: int, length_bytes: int, code: str) -> None:
        rows: list[dict[str, Any]] = self._state["damaged"]
        if rows and rows[-1]["name"] == info.name and rows[-1]["code"] == code \
                and rows[-1]["offset_bytes"] + rows[-1]["length_bytes"] == offset_bytes:
            rows[-1]["length_bytes"] += length_bytes
        elif len(rows) < MAX_DAMAGED:
            rows.append({"name": info.name, "offset_bytes": offset_bytes, "length_bytes": length_bytes, "code": code})


def _family(info: ObjectInfo) -> int:
    return info.origin_id or info.id


def _families(objects: list[ObjectInfo]) -> list[ObjectInfo]:
    return sorted(objects, key=lambda each: (_family(each), each.id))
