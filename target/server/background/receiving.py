"""Receiving: a stream into hidden objects, which are published when they are whole (docs/protection.md).

What has come in part is kept, with how far it is, until it is gone on with, aborted, or too old. No name is taken before it is
published, nothing that is there is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from target.errors import LunetteError
from target.server.background.transfers import Told, untold
from target.server.command import Json
from target.volumes.catalog import write_labels
from target.volumes.gateway import HIDDEN, AsyncPool, KeysOf, ObjectInfo, PoolError, pool_error
from target.volumes.replicas import EXPIRES_SECONDS, Begin, Partial, Replicas
from target.volumes.streams import Source

log = logging.getLogger("lunette.receive")

LOOK_SECONDS = 3600.0
BEFORE_RESYNC = "@before-resync-"


class Taken(Protocol):
    """core.stream.inflow.Taken."""

    type: str
    offset: int
    span: int
    more: bool
    payload: bytes


class Receiving:
    """Receives into one pool."""

    def __init__(self, pool: AsyncPool, replicas: Replicas, *, published: Callable[[list[ObjectInfo]], None],
                 followed: Callable[[int], None], now: Callable[[], float] = time.time) -> None:
        """`published` is told of new objects, `followed` of a volume whose contents are others now."""
        self._pool = pool
        self._replicas = replicas
        self._published = published
        self._followed = followed
        self._now = now
        self._active: set[str] = set()      # names of volumes
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._expire(), name="receives")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # -- commands ------------------------------------------------------------------------------------------------
    async def receive(self, name: str, fd: int, told: Told = untold, *, keep: bool = True, resync: bool = False,
                      follow: bool = True) -> Json:
        """Take a stream from a descriptor; `told` hears how far it is. LunetteError; what came up to the last MARK stays.

        Without `keep` nothing does, not even when the daemon dies. With `resync` a whole stream may come into a volume that is
        there: what that held stays as a snapshot, and only blocks that differ are written. Without `follow` a volume that is
        there stays as it is, and has one snapshot more.
        """
        received: list[str] = []
        notes: list[str] = []
        with self._alone(name):
            async with Source(self._pool, fd) as source:
                more = True
                while more:
                    partial, more = await self._take(source, name, told, keep=keep, resync=resync)
                    label = f"{name}@{partial.begin.label}"
                    (_, _, follows), = await self.publish([partial if follow else replace(partial, base_id=0)])
                    received.append(label)
                    if not follows:
                        since = "was written to since and " if follow else ""
                        notes.append(f"{name} {since}stays as it is; lunette revert {label} gives it these contents")
                return {"name": name, "received": received, "received_bytes": source.inflow.received_bytes,
                        "note": "; ".join(notes) or None}

    async def stage(self, name: str, fd: int, told: Told = untold) -> Partial:
        """Take the one snapshot of a stream from a descriptor, all of it, and publish nothing. LunetteError."""
        with self._alone(name):
            async with Source(self._pool, fd) as source:
                partial, more = await self._take(source, name, told)
                if more:
                    raise LunetteError("invalid", "one snapshot is wanted, and the stream has more")
                return partial

    async def publish(self, partials: Sequence[Partial], keys: KeysOf | None = None) -> list[tuple[int, int, bool]]:
        """Let snapshots that have come whole appear, all at one instant, and `keys` of their new ids change in that frame.

        Volume, snapshot and whether the volume follows, of each. LunetteError.
        """
        kept = _keys_of_all(self._replicas, partials, keys)
        made: list[tuple[int, int, bool]] = await self._call(
            partials[0], "publish", items=[self._item(each) for each in partials], keys=kept)
        for partial, (volume_id, snapshot_id, follows) in zip(partials, made, strict=True):
            self._replicas.published(partial, [snapshot_id] if partial.volume_id else [volume_id, snapshot_id])
            self._published([info for each in (volume_id, snapshot_id) if (info := self._pool.info(each)) is not None])
            if partial.volume_id and follows:
                self._followed(volume_id)
            log.info("%s@%s was received", partial.name, partial.begin.label)
        return made

    def status(self, name: str) -> list[Json]:
        """What has come in part of a volume's snapshots."""
        return [{"token": each.token, "guid": each.begin.guid, "from_guid": each.begin.from_guid or None,
                 "name": f"{name}@{each.begin.label}", "offset_bytes": each.cursor, "size_bytes": each.size_bytes,
                 "received_bytes": each.received_bytes, "updated_s": each.updated_s, "active": self._is_active(each)}
                for each in self._replicas.partials(name)]

    async def abort(self, name: str) -> list[str]:
        """Let go of all that has come in part for a volume. LunetteError not_found, busy."""
        partials = self._replicas.partials(name)
        if name in self._active or any(map(self._is_active, partials)):
            raise LunetteError("busy", f"{name} is being received: end that first")
        if not partials:
            raise LunetteError("not_found", f"nothing of {name} has come in part")
        for each in partials:
            await self._drop(each)
        return [f"{name}@{each.begin.label}" for each in partials]

    # -- one snapshot --------------------------------------------------------------------------------------------
    def _is_active(self, partial: Partial) -> bool:
        return partial.name in self._active     # by the name that the volume had when the stream began

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One stream at a time to one volume. LunetteError busy."""
        if name in self._active or any(map(self._is_active, self._replicas.partials(name))):
            raise LunetteError("busy", f"{name} is being received already")
        self._active.add(name)
        try:
            yield
        finally:
            self._active.discard(name)

    async def _take(self, source: Source, name: str, told: Told, *, keep: bool = True,
                    resync: bool = False) -> tuple[Partial, bool]:
        """Take one, whole; whether another follows."""
        taken: Taken = await source.take()
        if taken.type == "error":
            raise _told(taken)
        partial = await self._staged(self._stage(name, Begin.unpack(taken.payload), taken, keep=keep, resync=resync))
        before = partial.received_bytes - source.inflow.received_bytes
        marking = asyncio.get_running_loop().create_future()    # what is kept for good while more comes: one mark at a time
        marking.set_result(partial)
        try:
            await source.into(partial.staged_id, partial.cursor, comparing=partial.is_resync)
            while True:
                taken = await source.take()
                if taken.type == "error":
                    raise _told(taken)
                told(taken.offset, partial.size_bytes, source.inflow.received_bytes)
                if taken.type == "mark" and not keep:
                    continue
                partial = await asyncio.shield(marking)
                if taken.type == "end":
                    return partial, taken.more
                marking = self._replicas.saving(replace(
                    partial, cursor=max(partial.cursor, taken.offset), updated_s=self._now(),
                    received_bytes=before + source.inflow.received_bytes))      # and with it all that was written before
        except BaseException:
            with contextlib.suppress(LunetteError):         # a pool that cannot be written: why it ended counts
                with contextlib.suppress(LunetteError):
                    partial = await asyncio.shield(marking)
                if not partial.cursor:                      # nothing of it is sure: it begins anew
                    await asyncio.shield(self._drop(partial))
            raise

    async def _staged(self, work: Coroutine[Any, Any, Partial]) -> Partial:
        """What `_stage` gives; who is cancelled meanwhile leaves nothing behind that was being made."""
        staging = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(staging)
        except asyncio.CancelledError:
            with contextlib.suppress(LunetteError):
                partial = await staging
                if not partial.cursor:
                    await self._drop(partial)
            raise

    async def _stage(self, name: str, begin: Begin, taken: Taken, *, keep: bool, resync: bool) -> Partial:
        """The hidden object that a snapshot comes into: the one that has some of it, or a new one."""
        volume = self._pool.lookup(name)
        volume_id = 0 if volume is None else volume.id
        self._check_new(name, volume, begin)
        for each in self._replicas.partials(name) if keep else ():
            same = (each.begin.guid, each.begin.from_guid) == (begin.guid, begin.from_guid)
            if same and each.volume_id and self._pool.info(each.volume_id) is None:
                raise LunetteError("gone", f"the volume that {name}@{begin.label} was coming into was deleted: lunette receive "
                                           f"{name} --abort")
            if same and each.volume_id == volume_id and self._pool.info(each.staged_id) is not None:
                if taken.offset > each.cursor:
                    raise LunetteError("invalid", f"the stream begins at byte {taken.offset}, but only {each.cursor} are here: "
                                                  "lunette receive NAME --status prints the token to send for")
                return replace(each, name=name)         # it may have been renamed since
        if taken.offset:
            raise LunetteError("invalid", f"the stream goes on with {name}@{begin.label}, of which nothing is here")
        if resync and volume is not None and not begin.from_guid:
            base: ObjectInfo | None = await self._before_resync(volume, begin)
        else:
            base = self._base(name, volume, begin)
        return await self._stage_new(name, volume_id, base, begin, taken.span, keep=keep)

    def _check_new(self, name: str, volume: ObjectInfo | None, begin: Begin) -> None:
        """LunetteError: there is something in the place of the snapshot that comes."""
        full = f"{name}@{begin.label}"
        if volume is not None and volume.kind == "snapshot":
            raise LunetteError("invalid", f"{name} is a snapshot")
        if self._pool.lookup(full) is not None:
            raise LunetteError("exists", f"there is {full} already")
        if volume is not None and (there := self._replicas.find(begin.guid, volume.id)) is not None:
            raise LunetteError("exists", f"{name} has that snapshot already: {there.name}")

    def _base(self, name: str, volume: ObjectInfo | None, begin: Begin) -> ObjectInfo | None:
        """The snapshot that this one is told from. LunetteError: what stands in the way."""
        if not begin.from_guid:
            if volume is not None:
                raise LunetteError("exists", f"{name} exists, and a whole stream makes a new volume: send --from a snapshot that "
                                             "both have, receive under another name, or take what differs by --resync")
            return None
        base = None if volume is None else self._replicas.find(begin.from_guid, volume.id)
        if base is None:
            raise LunetteError("not_found", f"{name} has not the snapshot that the stream is told from (GUID {begin.from_guid})")
        _check_blocks(base, begin)
        return base

    async def _before_resync(self, volume: ObjectInfo, begin: Begin) -> ObjectInfo:
        """A snapshot of what the volume holds: the newest, if nothing was written since, or a new one. LunetteError."""
        _check_blocks(volume, begin)
        prefix = f"{volume.name}{BEFORE_RESYNC}"
        for info in self._replicas.snapshots(volume.id):
            if info.name.startswith(prefix) and await self._same(info, volume):
                return info
        at = f"{prefix}{datetime.now(UTC):%Y%m%dT%H%M%S}Z"
        name = next(each for number in itertools.count(1) if self._pool.lookup(each := at + f"-{number}" * (number > 1)) is None)
        try:
            (made,) = await self._pool.call("snapshot", pairs=[(volume.id, name)])
        except PoolError as error:
            raise pool_error(error.code, f"snapshot {name}") from None
        kept = self._pool.info(made)
        if kept is None:
            raise LunetteError("gone", f"{name} was deleted")
        self._published([kept])
        log.warning("%s is compared with what comes: what it held is %s", volume.name, name)
        return kept

    async def _same(self, snapshot: ObjectInfo, volume: ObjectInfo) -> bool:
        """Whether a volume still is what its snapshot holds."""
        if snapshot.size_bytes != volume.size_bytes:
            return False
        try:
            return not await self._pool.call("diff", a_id=snapshot.id, b_id=volume.id, limit=1)
        except PoolError as error:
            raise pool_error(error.code, f"compare {snapshot.name}") from None

    async def _stage_new(self, name: str, volume_id: int, base: ObjectInfo | None, begin: Begin, size_bytes: int, *,
                         keep: bool) -> Partial:
        number = secrets.token_hex(6)
        partial = Partial(number, name, volume_id, 0 if base is None else base.id, 0, begin, size_bytes, 0, 0, self._now())
        hidden = f"{HIDDEN}receive.{number}"
        if base is None:
            staged = await self._call(partial, "create", name=hidden, size_bytes=size_bytes, block_bytes=begin.block_bytes,
                                      checksum=begin.checksum, physical_block_bytes=begin.physical_block_bytes)
        else:
            staged = await self._call(partial, "clone", source_id=base.id, name=hidden)
        try:
            if base is not None and base.size_bytes != size_bytes:
                await self._call(partial, "resize", object_id=staged, size_bytes=size_bytes)
            partial = replace(partial, staged_id=staged)
            return await self._replicas.save(partial) if keep else partial
        except LunetteError:
            await self._delete(staged)
            raise

    def _item(self, partial: Partial) -> Json:
        """What is published of one, as the pool wants it."""
        begin = partial.begin
        base_id = partial.base_id
        if base_id and self._pool.info(base_id) is None:
            base_id = 0                 # deleted meanwhile: whether the volume may follow cannot be told
        volume = self._pool.info(partial.volume_id) if partial.volume_id else None
        name = partial.name if volume is None else volume.name      # it may have been renamed meanwhile
        return {"staged_id": partial.staged_id, "volume_id": partial.volume_id, "volume_name": name,
                "snapshot_name": f"{name}@{begin.label}", "base_id": base_id, "props": write_labels(begin.labels),
                "created_us": begin.created_us}

    # -- inside --------------------------------------------------------------------------------------------------
    async def _call(self, partial: Partial, op: str, **args: Any) -> Any:
        what = f"receive {partial.name}@{partial.begin.label}"
        try:
            return await self._pool.call(op, **args)
        except PoolError as error:
            raise pool_error(error.code, what) from None

    async def _drop(self, partial: Partial) -> None:
        await self._replicas.forget(partial)
        await self._delete(partial.staged_id)

    async def _delete(self, object_id: int) -> None:
        try:
            if self._pool.info(object_id) is not None:
                await self._pool.call("delete", object_id=object_id)
        except PoolError as error:      # a pool that cannot be written keeps it until the next start
            log.warning("what was received in part stays: %s", error)

    async def _expire(self) -> None:
        while True:
            for each in self._replicas.partials():
                if each.name not in self._active and self._now() - each.updated_s > EXPIRES_SECONDS:
                    log.warning("%s@%s came in part and was not gone on with: it is deleted", each.name, each.begin.label)
                    try:
                        await self._drop(each)
                    except LunetteError as error:
                        log.warning("%s", error)
            await asyncio.sleep(LOOK_SECONDS)


def _check_blocks(there: ObjectInfo, begin: Begin) -> None:
    if there.block_bytes != begin.block_bytes:
        name = there.name.partition("@")[0]
        raise LunetteError("invalid", f"the blocks of {name} have {there.block_bytes} bytes, those of the stream "
                                      f"{begin.block_bytes}")


def _keys_of_all(replicas: Replicas, partials: Sequence[Partial], more: KeysOf | None) -> KeysOf:
    """What of a publication is kept, from the ids of all that it makes."""
    def keys(ids: list[int]) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        at = 0
        for each in partials:
            count = 1 if each.volume_id else 2
            found |= replicas.keys(each)(ids[at:at + count])
            at += count
        return {**found, **(more(ids) if more is not None else {})}
    return keys


def _told(taken: Taken) -> LunetteError:
    """What the sender says in its ERROR."""
    try:
        document = json.loads(taken.payload)
        message = str(document["message"])[:500]
    except (ValueError, KeyError, TypeError):
        message = "it does not say why"
    return LunetteError("aborted", f"the sender gave up: {message}")
