"""Sending: snapshots of a volume, whole or as what changed, as a stream on a descriptor (docs/protection.md)."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import secrets
from collections.abc import Sequence
from typing import Any

from target.errors import LunetteError
from target.server.background.transfers import Told, untold
from target.server.command import Json
from target.volumes.catalog import Catalog, read_labels
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError, pool_error
from target.volumes.holds import StoredHolds
from target.volumes.replicas import Begin, Replicas, Rest
from target.volumes.streams import QUIET_SECONDS, Sink

ROWS = 32768            # of a walk at once
GRAIN_BYTES = 4096
TAG = "send:"           # of the holds


class Sending:
    """Sends snapshots of one pool."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, replicas: Replicas, holds: StoredHolds) -> None:
        self._pool = pool
        self._catalog = catalog
        self._replicas = replicas
        self._holds = holds

    async def start(self) -> None:
        """Let go of what earlier versions held in the pool; now a hold is in memory, and ends with the stream or the daemon."""
        for info in self._pool.objects():
            for tag in self._holds.tags(info.id):
                if tag.startswith(TAG):
                    await self._holds.release(info, tag)

    def chain(self, name: str, since: str | None, *, intermediates: bool) -> list[ObjectInfo | None]:
        """The base, or None, and each snapshot to send. LunetteError not_found, invalid."""
        target = self._snapshot(name)
        base = None if since is None else self._snapshot(since)
        if base is not None and (base.origin_id != target.origin_id or _when(base) >= _when(target)):
            raise LunetteError("invalid", f"{base.name} is not an earlier snapshot of the volume of {target.name}")
        between: list[ObjectInfo] = []
        if intermediates:
            after = (0.0, 0) if base is None else _when(base)
            between = sorted((each for each in self._pool.objects() if each.kind == "snapshot"
                              and each.origin_id == target.origin_id and after < _when(each) < _when(target)), key=_when)
        return [base, *between, target]

    def rest(self, token: str) -> tuple[list[ObjectInfo | None], int]:
        """What a token asks for: base or None, snapshot, and where to go on. LunetteError invalid, gone."""
        guid, from_guid, offset = Rest.of_token(token)
        target, base = self._replicas.find(guid), self._replicas.find(from_guid) if from_guid else None
        if target is None or (from_guid and base is None):
            what = "base of the snapshot" if target else "snapshot"
            raise LunetteError("gone", f"the {what} that was being sent is not here any more: lunette receive NAME --abort, then "
                                       "send from the newest that both sides have")
        if offset > target.size_bytes:
            raise LunetteError("invalid", f"{target.name} ends before the token's offset")
        return [base, target], offset

    async def send(self, chain: Sequence[ObjectInfo | None], offset: int, fd: int, *, compress: str, limit_bytes: int,
                   told: Told = untold) -> Json:
        """Write a chain to a descriptor, the first snapshot from `offset` on; `told` hears how far it is. LunetteError."""
        held = [each for each in chain if each is not None]
        with self._holds.during(held, TAG + secrets.token_hex(4)):
            sink = Sink(self._pool, fd, secrets.randbits(63), compress=compress, limit_bytes=limit_bytes)
            async with sink:
                total, before = sum(each.size_bytes for each in chain[1:] if each is not None), 0
                for base, each in itertools.pairwise(chain):
                    assert each is not None
                    sink.told = functools.partial(_tell, told, before, total)
                    before += each.size_bytes
                    await self._one(sink, base, each, offset, more=each is not chain[-1])
                    offset = 0
                await sink.flush()
            return {"sent": [each.name for each in chain[1:] if each is not None], "sent_bytes": sink.sent_bytes,
                    "data_bytes": sink.out.frames.data_bytes}

    async def send_rows(self, info: ObjectInfo, from_guid: str, rows: Sequence[bytes], fd: int, *, compress: str,
                        limit_bytes: int, told: Told = untold) -> Json:
        """Write one snapshot to a descriptor, told from one that only the receiver has, by rows of where they differ.

        LunetteError.
        """
        with self._holds.during([info], TAG + secrets.token_hex(4)):
            async with Sink(self._pool, fd, secrets.randbits(63), compress=compress, limit_bytes=limit_bytes) as sink:
                sink.told = functools.partial(_tell, told, 0, info.size_bytes)
                text = self._begin(from_guid, info).pack()
                await sink.begin(info.id, offset=0, span=info.size_bytes, text=text)
                for each in rows:
                    await sink.rows(each)
                await sink.end(info.size_bytes, more=False)
                await sink.flush()
                return {"sent": [info.name], "sent_bytes": sink.sent_bytes, "data_bytes": sink.out.frames.data_bytes}

    async def send_range(self, name: str, since: str | None, offset: int, end: int, fd: int, tag: str) -> Json:
        """Write a range of a snapshot to a descriptor, whole or as what differs from another one of its volume. LunetteError."""
        info, base = self._snapshot(name), None if since is None else self._snapshot(since)
        if base is not None and base.origin_id != info.origin_id:
            raise LunetteError("invalid", f"{name} and {since} are not of one volume")
        if not offset <= end <= info.size_bytes or (offset | end) % GRAIN_BYTES:
            raise LunetteError("invalid", f"{name} has {info.size_bytes} bytes, in blocks of {GRAIN_BYTES}")
        with self._holds.during([each for each in (info, base) if each is not None], tag):
            async with Sink(self._pool, fd, secrets.randbits(63), compress="none", limit_bytes=0) as sink:
                await self._one(sink, base, info, offset, more=False, end=end)
                await sink.flush()
                return {"sent": [name], "sent_bytes": sink.sent_bytes, "data_bytes": sink.out.frames.data_bytes}

    # -- inside --------------------------------------------------------------------------------------------------
    def _snapshot(self, name: str) -> ObjectInfo:
        info = self._catalog.find(name)
        if info.kind != "snapshot":
            raise LunetteError("invalid", f"{name} is no snapshot: only those are sent")
        return info

    async def _one(self, sink: Sink, base: ObjectInfo | None, info: ObjectInfo, offset: int, *, more: bool,
                   end: int | None = None) -> None:
        text = self._begin(self._guid(base), info).pack()
        await sink.begin(info.id, offset=offset, span=info.size_bytes, text=text)
        try:
            await self._changes(sink, base, info, offset, end)
        except LunetteError as error:
            if error.code != "aborted":         # the other end is there, and shall know why
                await sink.plain("error", json.dumps(error.as_json()["error"]).encode())
                await sink.flush()
            raise
        await sink.end(info.size_bytes, more=more)

    async def _changes(self, sink: Sink, base: ObjectInfo | None, info: ObjectInfo, offset: int, end: int | None) -> None:
        loop, told_s, at = asyncio.get_running_loop(), 0.0, offset
        walk = self._walk(base, info, at, end)
        try:
            while at is not None:
                while not (await asyncio.wait([walk], timeout=QUIET_SECONDS))[0]:
                    await sink.plain("keepalive")
                rows, at = _walked(walk, info)
                if at is not None:
                    walk = self._walk(base, info, at, end)      # while these are said
                await sink.rows(rows)
                if at is not None and loop.time() - told_s > 1:       # where little changed, marks say how far it is
                    told_s = loop.time()
                    await sink.mark(at)
        finally:
            if not walk.cancel() and not walk.cancelled():
                walk.exception()                # nobody else looks

    def _walk(self, base: ObjectInfo | None, info: ObjectInfo, at: int, end: int | None) -> asyncio.Future[Any]:
        try:
            return self._pool.start("changes", since_id=0 if base is None else base.id, object_id=info.id, offset_bytes=at,
                                    end_bytes=end, limit=ROWS)
        except PoolError as error:
            raise pool_error(error.code, f"send {info.name}") from None

    def _guid(self, base: ObjectInfo | None) -> str:
        return "" if base is None else self._replicas.guid(base)

    def _begin(self, from_guid: str, info: ObjectInfo) -> Begin:
        origin, volume = self._replicas.origin(info), self._pool.info(info.origin_id)
        volume_name, _, label = info.name.partition("@")
        return Begin(
            guid=self._replicas.guid(info), from_guid=from_guid,
            volume_guid=origin.volume_guid if origin else self._replicas.guid(volume) if volume else info.serial,
            pool_uuid=origin.pool_uuid if origin else self._pool.pool.uuid.hex(),
            volume=volume_name, label=label, created_us=int(info.created_s * 1e6), block_bytes=info.block_bytes,
            physical_block_bytes=info.physical_block_bytes, checksum=info.checksum, labels=read_labels(info))


def _walked(walk: asyncio.Future[Any], info: ObjectInfo) -> Any:
    try:
        return walk.result()
    except PoolError as error:
        raise pool_error(error.code, f"send {info.name}") from None


def _tell(told: Told, before: int, total: int, position: int, sent_bytes: int) -> None:
    told(before + position, total, sent_bytes)


def _when(info: ObjectInfo) -> tuple[float, int]:
    """The order in which snapshots of a volume were taken."""
    return info.created_s, info.id
