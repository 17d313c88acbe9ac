"""Where snapshots came from, and what is being received: the pool's key store, and a copy of it in memory.

Keys, values JSON: `replica/OBJECT_ID` (an Origin: whose snapshot it is a copy of) and `receive/ID` (a Partial: how far a stream
has come, into which hidden object). A snapshot's GUID is its object's serial; that of a replica is its source's.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from target.errors import LunetteError
from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool, KeysOf, ObjectInfo, PoolError

EXPIRES_SECONDS = 7 * 86400     # a receive that nobody goes on with


@dataclass(frozen=True, slots=True)
class Begin:
    """What a stream says of the snapshot that follows: the JSON of a BEGIN frame. GUIDs are 32 hex digits, "" is none."""

    guid: str
    from_guid: str
    volume_guid: str
    pool_uuid: str
    volume: str
    label: str
    created_us: int
    block_bytes: int
    physical_block_bytes: int
    checksum: bool
    labels: dict[str, str]

    def pack(self) -> bytes:
        return json.dumps(_fields(self), separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, raw: bytes) -> Begin:
        """LunetteError invalid for anything that is not one. What it does not know it leaves."""
        try:
            document = json.loads(raw)
            found = cls(**{each.name: document[each.name] for each in fields(cls)})
        except (ValueError, KeyError, TypeError):
            raise LunetteError("invalid", "the stream does not say what it is of") from None
        texts = (found.guid, found.from_guid, found.volume_guid, found.pool_uuid, found.volume, found.label)
        numbers = (found.created_us, found.block_bytes, found.physical_block_bytes)
        sound = (all(isinstance(each, str) and len(each) <= 256 for each in texts)
                 and all(isinstance(each, int) and 0 <= each < 1 << 63 for each in numbers)
                 and all(_is_guid(each) for each in (found.guid, found.volume_guid))
                 and (found.from_guid == "" or _is_guid(found.from_guid)) and isinstance(found.checksum, bool)
                 and found.block_bytes in (512, 4096) and found.physical_block_bytes in (512, 4096)
                 and isinstance(found.labels, dict) and all(isinstance(each, str) for each in found.labels.values()))
        if not sound:
            raise LunetteError("invalid", "the stream says of itself what cannot be")
        return found


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a replica's snapshot or volume: the GUID that it has where it was made, and where that is."""

    guid: str
    pool_uuid: str
    volume_guid: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Partial:
    """A snapshot that has come in part: all before `cursor` bytes is in the hidden object, for good."""

    id: str
    name: str               # of the volume that it is for
    volume_id: int          # 0: there is none yet
    base_id: int            # 0: it comes whole
    staged_id: int
    begin: Begin
    size_bytes: int
    cursor: int
    received_bytes: int
    updated_s: float

    @property
    def is_resync(self) -> bool:
        """Whether a whole snapshot comes into a volume that was there: what is there is compared."""
        return self.base_id != 0 and not self.begin.from_guid

    @property
    def token(self) -> str:
        return Rest(self.begin.guid, self.begin.from_guid, self.cursor).token


class Rest(NamedTuple):
    """What a receiver asks for: the rest of a snapshot. It is a request, and proves nothing."""

    guid: str
    from_guid: str          # of the base; "": it comes whole
    offset_bytes: int       # where it goes on

    @property
    def token(self) -> str:
        raw = json.dumps({"guid": self.guid, "from": self.from_guid, "offset": self.offset_bytes}, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    @classmethod
    def of_token(cls, token: str) -> Rest:
        """LunetteError invalid."""
        try:
            document = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            guid, base, offset = document["guid"], document["from"], document["offset"]
            if _is_guid(guid) and (base == "" or _is_guid(base)) and isinstance(offset, int) and 0 <= offset <= 1 << 56 and (
                    offset % 4096 == 0):
                return cls(guid, base, offset)
        except (ValueError, KeyError, TypeError, binascii.Error):
            pass
        raise LunetteError("invalid", "that is no token: lunette receive NAME --status prints it")


def _is_guid(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 32 and all(each in "0123456789abcdef" for each in text)


class Replicas:
    """Origins and partial receives of one pool. Changes are durable when a coroutine returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._origins: dict[int, Origin] = {}
        self._partials: dict[str, Partial] = {}
        self._entries = Entries(pool, "origins and receives", {
            "replica": Kind(self._load_origin), "receive": Kind(self._load_partial)})
        self._entries.load()

    def guid(self, info: ObjectInfo) -> str:
        """What a snapshot or volume is known by everywhere."""
        origin = self._origins.get(info.id)
        return info.serial if origin is None else origin.guid

    def origin(self, info: ObjectInfo) -> Origin | None:
        return self._origins.get(info.id)

    def find(self, guid: str, volume_id: int | None = None) -> ObjectInfo | None:
        """The snapshot with a GUID; of that volume, if one is named."""
        for info in self._pool.objects() if volume_id is None else self._pool.snapshots_of(volume_id):
            if info.kind == "snapshot" and self.guid(info) == guid:
                return info
        return None

    def snapshots(self, volume_id: int) -> list[ObjectInfo]:
        """A volume's own."""
        return self._pool.snapshots_of(volume_id)

    def partials(self, name: str | None = None) -> list[Partial]:
        """All, or those for a volume of that name, whatever it was called when they began."""
        return sorted((each for each in self._partials.values() if name is None or self._is_for(each, name)),
                      key=lambda each: each.updated_s)

    def _is_for(self, partial: Partial, name: str) -> bool:
        volume = self._pool.info(partial.volume_id) if partial.volume_id else None
        return name == (partial.name if volume is None else volume.name)

    def keeps(self, info: ObjectInfo) -> bool:
        """Whether a hidden object is one that is being received."""
        return any(each.staged_id == info.id for each in self._partials.values())

    def origins_of(self, partial: Partial, ids: Iterable[int]) -> dict[int, Origin]:
        """Of the new objects of a publication: the snapshot, and before it the volume where that is new, too."""
        begin = partial.begin
        *volume, snapshot = ids
        found = {each: Origin(begin.volume_guid, begin.pool_uuid, begin.volume_guid, begin.created_us) for each in volume}
        return {**found, snapshot: Origin(begin.guid, begin.pool_uuid, begin.volume_guid, begin.created_us)}

    def keys(self, partial: Partial) -> KeysOf:
        """For the frame that publishes: the receive is over, and whose the new objects are."""
        return lambda ids: {f"receive/{partial.id}": None, **{
            f"replica/{each}": _json(_fields(origin)) for each, origin in self.origins_of(partial, ids).items()}}

    def published(self, partial: Partial, ids: Iterable[int]) -> None:
        self._partials.pop(partial.id, None)
        self._origins.update(self.origins_of(partial, ids))

    def adoption(self, volume_id: int, origin: Origin) -> dict[str, bytes | None]:
        """For a frame by which a volume becomes a copy of another one. `adopted` afterwards."""
        return {f"replica/{volume_id}": _json(_fields(origin))}

    def adopted(self, volume_id: int, origin: Origin) -> None:
        self._origins[volume_id] = origin

    async def save(self, partial: Partial) -> Partial:
        """Keep how far a receive has come; what was written before is durable with it. LunetteError."""
        return await self.saving(partial)

    def saving(self, partial: Partial) -> asyncio.Future[Partial]:
        """As `save`, begun at once, without a task of its own: a stream goes on meanwhile."""
        saved: asyncio.Future[Partial] = asyncio.get_running_loop().create_future()

        def over(stored: asyncio.Future[Any]) -> None:
            error = stored.exception()
            if error is None:
                self._partials[partial.id] = partial
            if saved.cancelled():
                return
            if error is None:
                saved.set_result(partial)
            else:
                saved.set_exception(self._entries.refused(error) if isinstance(error, PoolError) else error)

        changes = {f"receive/{partial.id}": {**_fields(partial), "begin": _fields(partial.begin)}}
        try:
            self._entries.storing(changes).add_done_callback(over)
        except PoolError as error:
            saved.set_exception(self._entries.refused(error))
        return saved

    async def forget(self, partial: Partial) -> None:
        await self._entries.store({f"receive/{partial.id}": None})
        self._partials.pop(partial.id, None)

    async def forget_object(self, object_id: int) -> None:
        """A deleted object has no origin."""
        if self._origins.pop(object_id, None) is not None:
            await self._entries.store({f"replica/{object_id}": None})

    # -- inside --------------------------------------------------------------------------------------------------
    def _load_origin(self, rest: str, value: Any) -> None:
        if self._pool.info(int(rest)) is not None:
            self._origins[int(rest)] = Origin(**value)

    def _load_partial(self, rest: str, value: Any) -> None:
        self._partials[rest] = Partial(**{**value, "id": rest, "begin": Begin(**value["begin"])})


def _fields(value: Begin | Origin | Partial) -> dict[str, Any]:
    """As `asdict`, which would copy what is in them, too."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
