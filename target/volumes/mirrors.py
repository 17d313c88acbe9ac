"""Mirrors: which volume is kept on which peer, as what, since when. The pool's key store, and a copy of it in memory.

Keys, values JSON: `mirror/VOLUME_ID` (a Mirror), `mirrored/SNAPSHOT_ID` (the round that took it: the mark of snapshots that
mirrors make, and alone may delete). A mirror's lineage is the list of its reigns, one more with each promotion: whose list is
the beginning of the other's has seen nothing that the other has not.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from target.errors import LunetteError
from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.replicas import Replicas

COMMON = 2              # snapshots that both sides keep
PREFIX, MARK = "mirror/", "mirrored/"
MOST_REIGNS = 1000

# primary: it is written here. demoting: it was, and the last of it is on its way. replica: it follows the peer.
# superseded: it was primary, the peer was promoted meanwhile, and both have what the other has not.
Role = Literal["primary", "demoting", "replica", "superseded"]
Relation = Literal["same", "behind", "ahead", "apart"]


@dataclass(frozen=True, slots=True)
class Reign:
    """From a promotion to the next: which pool is primary, and from which common snapshot on ("": from the beginning)."""

    id: str
    pool_uuid: str
    base: str


@dataclass(frozen=True, slots=True)
class Common:
    """A snapshot that both sides have."""

    guid: str
    created_us: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """One volume here. Both sides have the same `volume_guid`, settings and, when all is well, lineage.

    `common` are the last ones, oldest first. `complete`: the replica has all that its primary had when it was demoted.
    `resync`: where nothing is common, what differs is found by hashes.
    """

    volume_id: int
    volume_guid: str
    peer: str
    role: Role
    lineage: tuple[Reign, ...]
    rpo_s: float
    limit_bytes: int = 0
    group: str = ""
    standby: bool = False
    paused: bool = False
    common: tuple[Common, ...] = ()
    complete: bool = False
    resync: bool = False

    @property
    def newest(self) -> Common | None:
        return self.common[-1] if self.common else None

    @property
    def writable(self) -> bool:
        return self.role == "primary"

    def settings(self) -> dict[str, Any]:
        """What both sides keep alike, so that either can go on as the primary."""
        return {"rpo_s": self.rpo_s, "limit_bytes": self.limit_bytes, "group": self.group, "standby": self.standby}

    def published(self, common: Common, **changes: Any) -> Mirror:
        """With one more that both sides have."""
        kept = tuple(each for each in self.common if each.guid != common.guid)
        return replace(self, common=(*kept, common)[-COMMON:], resync=False, **changes)

    def promoted(self, pool_uuid: str) -> Mirror:
        """A new reign, of this pool."""
        base = "" if self.newest is None else self.newest.guid
        reign = Reign(secrets.token_hex(8), pool_uuid, base)
        return replace(self, role="primary", lineage=(*self.lineage, reign), complete=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """As what initiators are shown an object: by which serial; read-only, as a replica; not at all, as a path in standby."""

    serial: str
    replica: bool = False
    standby: bool = False


def compare(ours: Sequence[Reign], theirs: Sequence[Reign]) -> Relation:
    """How a lineage stands to another."""
    shorter = min(len(ours), len(theirs))
    if list(ours[:shorter]) != list(theirs[:shorter]):
        return "apart"
    return "same" if len(ours) == len(theirs) else "behind" if len(ours) < len(theirs) else "ahead"


def pack_lineage(lineage: Iterable[Reign]) -> list[dict[str, str]]:
    return [asdict(each) for each in lineage]


def unpack_lineage(value: Any) -> tuple[Reign, ...]:
    """LunetteError invalid for what is none."""
    try:
        found = tuple(Reign(**each) for each in value)
        texts = [text for each in found for text in (each.id, each.pool_uuid, each.base)]
        if not found or len(found) > MOST_REIGNS or not all(isinstance(each, str) and len(each) <= 64 for each in texts):
            raise ValueError
        return found
    except (ValueError, TypeError):
        raise LunetteError("invalid", "what the peer says of its lineage makes no sense") from None


class Mirrors:
    """The mirrors of one pool. Changes are durable when a coroutine returns."""

    def __init__(self, pool: AsyncPool, replicas: Replicas) -> None:
        self._pool = pool
        self._replicas = replicas
        self._mirrors: dict[int, Mirror] = {}
        self._marks: dict[int, str] = {}
        self.changing = asyncio.Lock()      # held from looking at records to storing what follows from them
        self._entries = Entries(pool, "mirrors", {"mirror": Kind(self._load_mirror), "mirrored": Kind(self._load_mark)})
        self._entries.load()

    def all(self) -> list[Mirror]:
        """Of the volumes that there are."""
        return [each for each in self._mirrors.values() if self._pool.info(each.volume_id) is not None]

    def of(self, volume_id: int) -> Mirror | None:
        return self._mirrors.get(volume_id)

    def find(self, volume: ObjectInfo) -> Mirror:
        """LunetteError not_found."""
        found = self.of(volume.id)
        if found is None:
            raise LunetteError("not_found", f"{volume.name} is not mirrored")
        return found

    def with_guid(self, volume_guid: str, peer: str) -> Mirror | None:
        """The one that a peer means."""
        return next((each for each in self.all() if (each.volume_guid, each.peer) == (volume_guid, peer)), None)

    def standing(self, info: ObjectInfo) -> Standing:
        """A superseded one is shown to nobody: who reads it would take what is gone for what is."""
        mirror = self.of(info.id)
        if mirror is None:
            return Standing(info.serial)
        return Standing(mirror.volume_guid if mirror.standby else info.serial, not mirror.writable,
                        mirror.role == "superseded" or (mirror.standby and not mirror.writable))

    def check_change(self, volume: ObjectInfo, what: str) -> None:
        """LunetteError busy: whoever changes a replica here parts it from its primary."""
        mirror = self.of(volume.id)
        if mirror is not None and not mirror.writable:
            raise LunetteError("busy", f"{volume.name} is {mirror.role} of a mirror with {mirror.peer} and is not {what} here: "
                                       f"lunette promote {volume.name}, or lunette mirror rm {volume.name}")

    def snapshots(self, volume_id: int) -> list[tuple[ObjectInfo, str]]:
        """A volume's own snapshots that mirrors took, with their rounds, oldest first."""
        found = [(info, mark) for object_id, mark in self._marks.items()
                 if (info := self._pool.info(object_id)) is not None and info.origin_id == volume_id]
        return sorted(found, key=lambda each: (each[0].created_s, each[0].id))

    def marked(self, object_id: int) -> bool:
        return object_id in self._marks

    # -- changes -------------------------------------------------------------------------------------------------
    def keys(self, *mirrors: Mirror) -> dict[str, bytes | None]:
        """For a frame that changes more than these records."""
        return {f"{PREFIX}{each.volume_id}": _json(_packed(each)) for each in mirrors}

    def mark_keys(self, object_ids: Iterable[int], mark: str) -> dict[str, bytes | None]:
        return {f"{MARK}{each}": _json(mark) for each in object_ids}

    def stored(self, *mirrors: Mirror) -> None:
        """They stand in the pool now."""
        self._mirrors.update({each.volume_id: each for each in mirrors})

    def marks_stored(self, object_ids: Iterable[int], mark: str) -> None:
        self._marks.update(dict.fromkeys(object_ids, mark))

    async def save(self, *mirrors: Mirror, beside: Mapping[str, bytes | None] | None = None) -> None:
        """All of them and the keys beside them, or none. LunetteError."""
        await self._entries.store({**self.keys(*mirrors), **(beside or {})})
        self.stored(*mirrors)

    async def forget(self, mirror: Mirror) -> None:
        """It is a volume like others from now on, and so are its snapshots."""
        marked = [info.id for info, _ in self.snapshots(mirror.volume_id)]
        await self._entries.store({f"{PREFIX}{mirror.volume_id}": None, **{f"{MARK}{each}": None for each in marked}})
        self._mirrors.pop(mirror.volume_id, None)
        for each in marked:
            self._marks.pop(each, None)

    async def forget_object(self, object_id: int) -> None:
        gone: dict[str, bytes | None] = {}
        if self._mirrors.pop(object_id, None) is not None:
            gone[f"{PREFIX}{object_id}"] = None
        if self._marks.pop(object_id, None) is not None:
            gone[f"{MARK}{object_id}"] = None
        if gone:
            await self._entries.store(gone)

    # -- inside --------------------------------------------------------------------------------------------------
    def _load_mirror(self, rest: str, value: Any) -> None:
        self._mirrors[int(rest)] = Mirror(**{
            **value, "volume_id": int(rest), "lineage": tuple(Reign(**each) for each in value["lineage"]),
            "common": tuple(Common(**each) for each in value["common"])})

    def _load_mark(self, rest: str, value: Any) -> None:
        self._marks[int(rest)] = str(value)


def _packed(mirror: Mirror) -> dict[str, Any]:
    value = asdict(mirror)
    del value["volume_id"]
    return value


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
