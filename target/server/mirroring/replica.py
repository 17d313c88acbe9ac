"""What peers ask: how volumes stand here, snapshots to be taken and published, to follow one that was promoted, to give way.

Whoever asks is known by its certificate, and may what `peer add` allows it, of the volumes that are named there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from target.errors import LunetteError
from target.models.peering import PROTOCOL, Adopt, Ask, Deliver, Follow, GiveWay, Hashes, Hello, Lead, Publish, StandBy
from target.server.background.receiving import Receiving
from target.server.command import Json
from target.server.mirroring.comparing import FINE
from target.server.mirroring.keeping import Keeping, hold_tag
from target.server.mirroring.rounds import settings_of
from target.server.mirroring.visits import Visit, Visits, flowing
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError, pool_error
from target.volumes.holds import StoredHolds
from target.volumes.mirrors import Common, Mirror, Mirrors, compare, pack_lineage, unpack_lineage
from target.volumes.peers import Peer
from target.volumes.replicas import Origin, Partial, Replicas
from target.volumes.streams import Hashing

log = logging.getLogger("lunette.mirror")

MOST_GUIDS = 2000       # of an answer
GiveWayHere = Callable[[Mirror, GiveWay], Awaitable[str]]


class Replica:
    """Answers for the volumes of one daemon."""

    def __init__(self, pool: AsyncPool, mirrors: Mirrors, replicas: Replicas, holds: StoredHolds, keeping: Keeping,
                 receiving: Receiving, *, groups: Callable[[], list[int]], stands: Callable[[int], None],
                 give_way: GiveWayHere, lead: Callable[[Mirror], Awaitable[None]], promoting: Callable[[str], bool],
                 check_unused: Callable[[ObjectInfo, str], None], appeared: Callable[[ObjectInfo], Awaitable[None]]) -> None:
        """`stands` is told of volumes that are served as something else now, `appeared` of new ones; `promoting` says whether one
        is being promoted here, by its GUID.
        """
        self._pool = pool
        self._mirrors = mirrors
        self._replicas = replicas
        self._holds = holds
        self._keeping = keeping
        self._receiving = receiving
        self._groups = groups
        self._stands = stands
        self._give_way_here = give_way
        self._lead_here = lead
        self._promoting = promoting
        self._check_unused = check_unused
        self._appeared = appeared
        self._visits = Visits({
            "hello": (Hello, self._hello), "ask": (Ask, self._ask),
            "adopt": (Adopt, self._adopt), "hashes": (Hashes, self._hashes), "deliver": (Deliver, self._deliver),
            "publish": (Publish, self._publish), "stand_by": (StandBy, self._stand_by), "follow": (Follow, self._follow),
            "lead": (Lead, self._lead), "give_way": (GiveWay, self._give_way)})
        self.serve = self._visits.serve

    # -- requests ------------------------------------------------------------------------------------------------
    async def _hello(self, visit: Visit, args: Hello) -> Json:
        if args.protocol != PROTOCOL:
            raise LunetteError("newer", f"this daemon speaks version {PROTOCOL} with its peers, not {args.protocol}")
        if args.pool_uuid == self._pool.pool.uuid.hex():
            raise LunetteError("in_use", "both pools have the same identity: one is a copy of the other; "
                                         "lunette pool new-identity makes it a pool of its own")
        return {"protocol": PROTOCOL, "pool_uuid": self._pool.pool.uuid.hex(), "groups": self._groups()}

    async def _ask(self, visit: Visit, args: Ask) -> Json:
        for guid in args.volumes:
            await self._visits.begin(visit, guid)
        return {"volumes": {guid: self._describe(visit.peer, guid, MOST_GUIDS // max(1, len(args.volumes)))
                            for guid in args.volumes}}

    def _describe(self, peer: Peer, volume_guid: str, most: int) -> Json:
        """Nothing of a volume that the peer has no mirror with."""
        mirror = self._mirrors.with_guid(volume_guid, peer.name)
        volume_id = 0 if mirror is None else mirror.volume_id
        partial = [{"guid": each.begin.guid, "from": each.begin.from_guid, "offset": each.cursor}
                   for each in self._replicas.partials() if (each.volume_id, each.begin.volume_guid) == (volume_id, volume_guid)]
        if mirror is None:
            return {"role": "", "lineage": [], "snapshots": [], "partial": partial, "complete": False, "newest": ""}
        return {"role": mirror.role, "lineage": pack_lineage(mirror.lineage), "partial": partial, "complete": mirror.complete,
                "snapshots": self._keeping.guids(volume_id, most), "newest": "" if mirror.newest is None else mirror.newest.guid,
                "failed": bool(self._pool.failure())}

    async def _adopt(self, visit: Visit, args: Adopt) -> Json:
        async with self._mirrors.changing:
            self._visits.check(visit, args.volume)
            mirror = self._mirrors.with_guid(args.volume, visit.peer.name)
            volume = self._pool.lookup(args.name) if mirror is None else self._pool.info(mirror.volume_id)
            if volume is None or volume.kind == "snapshot":
                raise LunetteError("not_found", f"there is no volume {args.name}: leave --resync away")
            visit.peer.check("send", volume.name)
            lineage = unpack_lineage(args.lineage)
            if mirror is None:
                if (other := self._mirrors.of(volume.id)) is not None:
                    raise LunetteError("exists", f"{volume.name} is mirrored with {other.peer}")
                self._check_unused(volume, "end that first: it becomes a replica")
                mirror = settings_of(Mirror(volume.id, args.volume, visit.peer.name, "replica", lineage, 0.0), args.settings)
            self._check_replica(mirror)
            if compare(mirror.lineage, lineage) not in ("same", "behind"):
                raise LunetteError("diverged", f"{volume.name} was promoted apart from that primary")
            kept = await self._before_resync(volume, mirror)
        self._stands(mirror.volume_id)
        return {"snapshot": self._replicas.guid(kept)}

    async def _before_resync(self, volume: ObjectInfo, mirror: Mirror) -> ObjectInfo:
        """The snapshot of what a volume held when it became a replica: taken, with that, in one frame, unless it is there."""
        tag, prefix = hold_tag(mirror.peer), f"{volume.name}@before-resync-"
        if not mirror.common and self._mirrors.of(volume.id) is not None:
            for info in self._replicas.snapshots(volume.id):
                if info.name.startswith(prefix) and tag in self._holds.tags(info.id):
                    return info                     # of an earlier try
        origin = Origin(mirror.volume_guid, "", mirror.volume_guid, int(volume.created_s * 1e6))
        name = f"{prefix}{datetime.now(UTC):%Y%m%dT%H%M%S}Z"
        mirror = replace(mirror, common=())         # what there was is common no more
        try:
            (made,) = await self._pool.call("snapshot", pairs=[(volume.id, name)], keys=lambda ids: {
                **self._holds.keys(ids, tag), **self._mirrors.keys(mirror), **self._replicas.adoption(volume.id, origin)})
        except PoolError as error:
            raise pool_error(error.code, f"snapshot {name}") from None
        self._holds.made([made], tag)
        self._mirrors.stored(mirror)
        self._replicas.adopted(volume.id, origin)
        await self._keeping.hold(volume, mirror.peer)
        log.warning("%s is a replica from now on; what it held is %s", volume.name, name)
        kept = self._pool.info(made)
        if kept is None:
            raise LunetteError("gone", f"{name} was deleted")
        return kept

    async def _hashes(self, visit: Visit, args: Hashes) -> Json:
        mirror = self._known(visit, args.volume)
        visit.peer.check("send", self._volume(mirror).name)
        snapshot = self._replicas.find(args.snapshot, mirror.volume_id)
        if snapshot is None:
            raise LunetteError("not_found", "there is no such snapshot")
        if len(args.spans) > FINE or (args.spans and args.count):
            raise LunetteError("too_large", "so many hashes are not made at once")
        async with Hashing(self._pool, snapshot.id) as hashing:
            found = await (hashing.chunks(args.spans) if args.spans else hashing.spans(args.first, args.count))
        return {"digests": found.hex()}

    async def _deliver(self, visit: Visit, args: Deliver) -> Json:
        self._visits.check(visit, args.volume)
        mirror = self._mirrors.with_guid(args.volume, visit.peer.name)
        name = args.name
        if mirror is not None:
            self._check_replica(mirror)
            name = self._volume(mirror).name
        elif (there := self._pool.lookup(name)) is not None:
            raise LunetteError("exists", f"there is {there.name} already, and it is no replica of that volume: rename or delete "
                                         "one of the two")
        visit.peer.check("send", name)
        await visit.link.send({"ok": {}})
        async with flowing(visit.link):
            partial = await self._receiving.stage(name, visit.link.fileno())
        if partial.begin.volume_guid != args.volume:
            raise LunetteError("invalid", "the stream is of another volume than was said")
        visit.delivered[args.volume] = partial
        return {}

    async def _publish(self, visit: Visit, args: Publish) -> Json:
        for guid, snapshot in args.snapshots.items():
            partial = visit.delivered.get(guid)
            if partial is None or partial.begin.guid != snapshot:
                raise LunetteError("invalid", "what is to be published was not delivered")
        if not args.snapshots:
            raise LunetteError("invalid", "nothing is to be published")
        async with self._mirrors.changing:
            for guid in args.snapshots:
                self._visits.check(visit, guid)
            befores = {guid: self._as_published(visit, args, guid) for guid in args.snapshots}
            partials = [self._after_newest(visit.delivered[guid], visit.peer.name) for guid in args.snapshots]
            tag, mark = hold_tag(visit.peer.name), visit.peer.name
            made = await self._receiving.publish(partials, lambda ids: self._keys(partials, befores, ids, tag, mark))
            done = [replace(befores[partial.begin.volume_guid], volume_id=volume_id)
                    for partial, (volume_id, _, _) in zip(partials, made, strict=True)]
            self._mirrors.stored(*done)
            self._mirrors.marks_stored([snapshot_id for _, snapshot_id, _ in made], mark)
            self._holds.made([snapshot_id for _, snapshot_id, _ in made], tag)
            self._holds.made([volume_id for partial, (volume_id, _, _) in zip(partials, made, strict=True)
                              if not partial.volume_id], tag)
        for partial, mirror, (_, _, follows) in zip(partials, done, made, strict=True):
            del visit.delivered[mirror.volume_guid]
            if not partial.volume_id:
                await self._appeared(self._volume(mirror))
            elif not follows:
                log.error("%s was changed here and follows no more: lunette mirror resolve", self._volume(mirror).name)
            self._stands(mirror.volume_id)
            await self._keeping.tidy(mirror)
        return {"follows": {mirror.volume_guid: follows or not partial.volume_id
                            for partial, mirror, (_, _, follows) in zip(partials, done, made, strict=True)}}

    def _after_newest(self, partial: Partial, peer: str) -> Partial:
        """As what follows the snapshot that was published last, whichever it was sent as a difference from: the volume holds that
        one, and follows unless somebody wrote to it since.
        """
        mirror = self._mirrors.with_guid(partial.begin.volume_guid, peer)
        newest = None if mirror is None or mirror.newest is None else self._replicas.find(mirror.newest.guid, mirror.volume_id)
        return partial if newest is None else replace(partial, base_id=newest.id)

    def _as_published(self, visit: Visit, args: Publish, guid: str) -> Mirror:
        """The mirror as it is once its snapshot stands. LunetteError: it has another role meanwhile."""
        begin = visit.delivered[guid].begin
        lineage = unpack_lineage(args.lineages.get(guid))
        mirror = self._mirrors.with_guid(guid, visit.peer.name)
        if mirror is None:
            mirror = Mirror(0, guid, visit.peer.name, "replica", lineage, 0.0)
        else:
            self._check_replica(mirror)
            if compare(mirror.lineage, lineage) not in ("same", "behind"):
                raise LunetteError("diverged", f"{self._volume(mirror).name} was promoted apart from that primary")
        mirror = settings_of(mirror, args.settings.get(guid, {}))
        return mirror.published(Common(begin.guid, begin.created_us), lineage=lineage, complete=args.complete)

    def _keys(self, partials: list[Partial], mirrors: Mapping[str, Mirror], ids: list[int], tag: str,
              mark: str) -> dict[str, bytes | None]:
        """Of the new objects of a publication: roles and lineages, marks, holds."""
        found: dict[str, bytes | None] = {}
        at = 0
        for partial in partials:
            volume_id = partial.volume_id or ids[at]
            at += 1 if partial.volume_id else 2
            found |= {} if partial.volume_id else self._holds.keys([volume_id], tag)
            found |= self._mirrors.keys(replace(mirrors[partial.begin.volume_guid], volume_id=volume_id))
            found |= self._mirrors.mark_keys([ids[at - 1]], mark) | self._holds.keys([ids[at - 1]], tag)
        return found

    async def _stand_by(self, visit: Visit, args: StandBy) -> Json:
        """Nothing is complete here any more: whoever were promoted without asking would lose what the asker is about to write."""
        async with self._mirrors.changing:
            self._visits.check(visit, args.volume)
            mirror = self._known(visit, args.volume)
            if self._promoting(args.volume) or mirror.role != "replica":
                raise LunetteError("busy", f"{self._volume(mirror).name} is being promoted on the other side at this moment")
            await self._mirrors.save(replace(mirror, complete=False))
        return {}

    async def _follow(self, visit: Visit, args: Follow) -> Json:
        lineage = unpack_lineage(args.lineage)
        async with self._mirrors.changing:
            self._visits.check(visit, args.volume)
            mirror = self._known(visit, args.volume)
            self._check_replica(mirror)
            if compare(mirror.lineage, lineage) not in ("same", "behind"):
                raise LunetteError("diverged", f"{self._volume(mirror).name} was promoted apart from that side")
            await self._mirrors.save(replace(mirror, lineage=lineage, complete=False))
        return {}

    async def _lead(self, visit: Visit, args: Lead) -> Json:
        self._visits.check(visit, args.volume)
        mirror = self._known(visit, args.volume)
        visit.peer.check("receive", self._volume(mirror).name)
        if mirror.role == "superseded":
            await self._lead_here(mirror)
        return {}

    async def _give_way(self, visit: Visit, args: GiveWay) -> Json:
        self._visits.check(visit, args.volume)
        mirror = self._known(visit, args.volume)
        visit.peer.check("send", self._volume(mirror).name)
        return {"safety": await self._give_way_here(mirror, args)}

    # -- inside --------------------------------------------------------------------------------------------------
    def _known(self, visit: Visit, volume_guid: str) -> Mirror:
        mirror = self._mirrors.with_guid(volume_guid, visit.peer.name)
        if mirror is None:
            raise LunetteError("not_found", "there is no such mirror here")
        return mirror

    def _volume(self, mirror: Mirror) -> ObjectInfo:
        info = self._pool.info(mirror.volume_id)
        if info is None:
            raise LunetteError("gone", "the volume was deleted")
        return info

    def _check_replica(self, mirror: Mirror) -> None:
        if mirror.role != "replica":
            raise LunetteError("diverged", f"{self._volume(mirror).name} is {mirror.role} here")
