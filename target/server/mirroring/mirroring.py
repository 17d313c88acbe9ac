"""The mirrors of one daemon: their loops, their commands, and what the listings and metrics say of them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from target.config import Portal
from target.errors import LunetteError
from target.models.answers import MirrorState
from target.models.mirrors import (
    Demote,
    MirrorAdd,
    MirrorPause,
    MirrorRemove,
    MirrorResolve,
    MirrorResume,
    PeerAdd,
    PeerCertificate,
    PeerRemove,
    Promote,
)
from target.server.background.receiving import Receiving
from target.server.background.sending import Sending
from target.server.background.transfers import Transfers
from target.server.command import Command, Json, touches
from target.server.mirroring.contact import Contacts
from target.server.mirroring.failover import Failover, Refuse
from target.server.mirroring.keeping import Keeping
from target.server.mirroring.listener import PeerListener
from target.server.mirroring.replica import Replica
from target.server.mirroring.rounds import Rounds, TakeSnapshots, There, ask, check_lineage, paced
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError
from target.volumes.holds import StoredHolds
from target.volumes.links import fingerprint
from target.volumes.mirrors import Mirror, Mirrors, Reign
from target.volumes.peers import Peer, Peers, parse_allowed, parse_certificate, pem_of
from target.volumes.replicas import Replicas

log = logging.getLogger("lunette.mirror")

RETRY_SECONDS = 1.0         # at most, after the first failure, then twice as long ...
RETRY_MOST_SECONDS = 30.0   # ... up to this
LATE = 2                    # times the RPO: what is further behind is late


class Mirroring:
    """All of it, wired together."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, *, peers: Peers, mirrors: Mirrors, replicas: Replicas,
                 holds: StoredHolds, sending: Sending, receiving: Receiving, transfers: Transfers, take_snapshots: TakeSnapshots,
                 delete_unused: Callable[[ObjectInfo], Awaitable[None]], stands: Callable[[int], None],
                 quiesce: Callable[[int], Awaitable[None]], reverted: Callable[[int], None], check_unused: Refuse,
                 appeared: Callable[[ObjectInfo], Awaitable[None]], groups: Callable[[], list[int]],
                 portal: Portal | None) -> None:
        """`groups` are the target port groups here; `portal` is where peers connect, None: nowhere. The rest is of the parts."""
        self._pool = pool
        self._catalog = catalog
        self.peers = peers
        self.mirrors = mirrors
        self._holds = holds
        self._contacts = Contacts(peers, pool.pool.uuid.hex(), groups)
        self._keeping = Keeping(mirrors, replicas, holds, delete_unused)
        self.rounds = Rounds(pool, mirrors, replicas, holds, self._keeping, sending, self._contacts, take_snapshots,
                             transfers)
        self._failover = Failover(pool, mirrors, self._keeping, self.rounds, self._contacts, stands=stands,
                                  quiesce=quiesce, reverted=reverted, check_unused=check_unused)
        self._stands = stands
        self._replica = Replica(pool, mirrors, replicas, holds, self._keeping, receiving, groups=groups, stands=stands,
                                give_way=self._failover.asked_to_give_way, lead=self._asked_to_lead,
                                promoting=self._failover.is_promoting, check_unused=check_unused, appeared=appeared)
        self.listener = None if portal is None else PeerListener(portal, peers, self._replica.serve)
        self._loops: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._wakes: dict[tuple[str, str], asyncio.Event] = {}

    async def start(self) -> None:
        """Before initiators are served. LunetteError: the listener's place is taken."""
        if self.listener is not None:
            await self.peers.credentials()
            self.listener.start()
        await self._failover.returning()

    def begin(self) -> None:
        """Rounds from now on."""
        for each in self.mirrors.all():
            self._look_after(each)

    async def stop(self) -> None:
        for task in self._loops.values():
            task.cancel()
        await asyncio.gather(*self._loops.values(), return_exceptions=True)
        self._loops.clear()
        if self.listener is not None:
            await self.listener.stop()

    # -- loops ---------------------------------------------------------------------------------------------------
    def _key(self, mirror: Mirror) -> tuple[str, str]:
        """What has its rounds together: a group, or one volume."""
        return mirror.peer, f"group {mirror.group}" if mirror.group else f"volume {mirror.volume_id}"

    def _members(self, key: tuple[str, str]) -> list[Mirror]:
        return [each for each in self.mirrors.all() if self._key(each) == key]

    def _look_after(self, mirror: Mirror) -> None:
        """See that there is a loop for it, and that it looks now."""
        key = self._key(mirror)
        wake = self._wakes.setdefault(key, asyncio.Event())
        if key not in self._loops or self._loops[key].done():
            self._loops[key] = asyncio.create_task(self._loop(key), name=f"mirror {key[1]}")
        wake.set()

    async def _loop(self, key: tuple[str, str]) -> None:
        failures = 0
        while self._members(key):
            async with self._lock(key):             # whoever changes roles has it, too: they are those of this moment
                active = [each for each in self._members(key) if each.role == "primary" and not each.paused]
                began = time.monotonic()
                try:
                    if active:
                        await self.rounds.round(active)
                    failures = 0
                except Exception as error:
                    failures += 1
                    self._failed(active, error)
            if not active:
                await self._wakes[key].wait()
                self._wakes[key].clear()
                continue
            rpo_s = min(each.rpo_s for each in active)
            pause_s = rpo_s - (time.monotonic() - began)
            if failures:
                pause_s = min(min(RETRY_SECONDS, rpo_s) * 2 ** (failures - 1), RETRY_MOST_SECONDS)
            elif pause_s < 0:
                for each in active:
                    self.rounds.of(each.volume_id).skipped += int(-pause_s / rpo_s) + 1
            await paced(pause_s, self._wakes[key])

    def _lock(self, key: tuple[str, str]) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _failed(self, mirrors: Sequence[Mirror], error: Exception) -> None:
        if not isinstance(error, LunetteError):
            log.exception("a round failed", exc_info=error)
            error = LunetteError("internal", f"{type(error).__name__}: {error}")
        for each in mirrors:
            info = self._pool.info(each.volume_id)
            if info is not None:
                self.rounds.of(each.volume_id).failed(error, info.name)

    # -- commands ------------------------------------------------------------------------------------------------
    def commands(self) -> list[Command]:
        several, one = touches(writes=("names",)), touches(writes=("name",))
        return [
            Command("peer_certificate", PeerCertificate, self._certificate, "admin", answer="PeerCertificateRow"),
            Command("peer_add", PeerAdd, self._peer_add, "admin", answer="PeerRow"),
            Command("peer_rm", PeerRemove, self._peer_remove, "admin", answer="None"),
            Command("mirror_add", MirrorAdd, self._add, "admin", several, answer="list[MirrorRow]"),
            Command("mirror_rm", MirrorRemove, self._remove, "admin", several, answer="None"),
            Command("mirror_pause", MirrorPause, self._pause, "admin", several, answer="list[MirrorRow]"),
            Command("mirror_resume", MirrorResume, self._resume, "admin", several, answer="list[MirrorRow]"),
            Command("mirror_resolve", MirrorResolve, self._resolve, "admin", one, answer="Resolved"),
            Command("promote", Promote, self._promote, "admin", one, answer="Promoted"),
            Command("demote", Demote, self._demote, "admin", one, answer="list[MirrorRow]"),
        ]

    async def _certificate(self, args: PeerCertificate) -> Json:
        certificate = (await self.peers.credentials(new=args.new)).certificate
        return {"certificate": pem_of(certificate), "fingerprint": fingerprint(certificate)}

    async def _peer_add(self, args: PeerAdd) -> Json:
        port = int(args.address.rpartition(":")[2])
        if not 0 < port < 65536:
            raise LunetteError("invalid", f"{args.address} has no port of 1 to 65535")
        peer = Peer(args.name, args.address, fingerprint(parse_certificate(args.certificate)), **parse_allowed(args.allow))
        await self.peers.save(peer)
        return peer.as_json()

    async def _peer_remove(self, args: PeerRemove) -> None:
        peer = self.peers.find(args.name)
        mirrored = [self._catalog_name(each) for each in self.mirrors.all() if each.peer == peer.name]
        if mirrored:
            raise LunetteError("in_use", f"{', '.join(mirrored[:3])} {'is' if len(mirrored) == 1 else 'are'} mirrored with peer "
                                         f"{peer.name}: lunette mirror rm first")
        await self.peers.forget(peer.name)

    async def _add(self, args: MirrorAdd) -> list[Json]:
        peer = self.peers.find(args.to)
        volumes = [self._volume(name) for name in dict.fromkeys(args.names)]
        for each in volumes:
            peer.check("receive", each.name)
            if (mirror := self.mirrors.of(each.id)) is not None:
                raise LunetteError("exists", f"{each.name} is {mirror.role} of a mirror with peer {mirror.peer} already")
        wanted = [Mirror(each.id, self._keeping.guid(each), peer.name, "primary", (self._first_reign(),), args.rpo_seconds,
                         args.limit_bytes, args.group or "", args.standby, resync=args.resync) for each in volumes]
        async with self._contacts.to(peer.name) as contact:
            both = set(contact.groups) & set(self._contacts.groups())
            if args.standby and both:
                raise LunetteError("invalid", f"both sides have portal group {min(both)}, and initiators would take them for "
                                              "one: serve one side with --listen ADDR:PORT,GROUP")
            theres = await ask(contact, [each.volume_guid for each in wanted])
            made = [self._joined(each, theres[each.volume_guid], peer.name) for each in wanted]
        await self._keep(volumes, made)
        for mirror in made:
            self.rounds.progress.pop(mirror.volume_id, None)
            self._look_after(mirror)
        return self.rows([each.volume_id for each in made])

    async def _keep(self, volumes: Sequence[ObjectInfo], made: Sequence[Mirror]) -> None:
        """New mirrors, and the holds of their volumes: all of it or nothing. LunetteError exists: somebody was quicker."""
        async with self.mirrors.changing:
            for info in volumes:
                if self.mirrors.of(info.id) is not None:
                    raise LunetteError("exists", f"{info.name} is mirrored already")
            await self.mirrors.save(*made, beside=self._keeping.hold_keys(volumes, made[0].peer))
            self._keeping.held(volumes, made[0].peer)

    def _joined(self, mirror: Mirror, there: There, peer: str) -> Mirror:
        """With the lineage of a replica that is there from an earlier mirror. LunetteError."""
        if not there.role:
            return mirror
        joined = replace(mirror, lineage=there.lineage)
        check_lineage(joined, there, peer)
        return joined

    async def _remove(self, args: MirrorRemove) -> None:
        found = [(info, self.mirrors.find(info)) for info in map(self._volume, args.names)]
        for info, mirror in found:
            async with self._lock(self._key(mirror)):
                await self._keeping.let_go(mirror, info)
                await self.mirrors.forget(mirror)
                self.rounds.progress.pop(info.id, None)
                self._stands(info.id)
            self._wakes.setdefault(self._key(mirror), asyncio.Event()).set()

    async def _pause(self, args: MirrorPause) -> list[Json]:
        return await self._paused(args.names, paused=True)

    async def _resume(self, args: MirrorResume) -> list[Json]:
        return await self._paused(args.names, paused=False)

    async def _paused(self, names: Sequence[str], *, paused: bool) -> list[Json]:
        async with self.mirrors.changing:
            found = [self.mirrors.find(info) for info in map(self._volume, names)]
            await self.mirrors.save(*(replace(each, paused=paused) for each in found))
        for each in found:
            self._look_after(each)
        return self.rows([each.volume_id for each in found])

    async def _resolve(self, args: MirrorResolve) -> Json:
        mirror = self.mirrors.find(self._volume(args.name))
        async with self._lock(self._key(mirror)):
            mirror = self.mirrors.find(self._volume(args.name))     # as it is after whatever was waited for
            answer = await self._failover.resolve(mirror, keep=args.keep, force=args.force)
        self._look_after(mirror)
        return answer

    async def _promote(self, args: Promote) -> Json:
        mirror = self.mirrors.find(self._volume(args.name))
        async with self._lock(self._key(mirror)):
            mirror = self.mirrors.find(self._volume(args.name))
            answer = await self._failover.promote(mirror, force=args.force)
        self._look_after(mirror)
        return answer

    async def _asked_to_lead(self, mirror: Mirror) -> None:
        """The peer gives way to what was superseded here."""
        await self._failover.lead(mirror)
        self._look_after(mirror)

    async def _demote(self, args: Demote) -> list[Json]:
        """All of its group: what was taken at one instant stays of one instant."""
        mirror = self.mirrors.find(self._volume(args.name))
        key = self._key(mirror)
        async with self._lock(key):
            members = [each for each in self._members(key) if each.role in ("primary", "demoting")] or [mirror]
            await self._failover.demote(members)
        return self.rows([each.volume_id for each in members])

    # -- what is told --------------------------------------------------------------------------------------------
    def rows(self, volume_ids: Sequence[int] | None = None) -> list[Json]:
        """Mirrors by volume."""
        found = [self._row(info, each) for each in self.mirrors.all() if (volume_ids is None or each.volume_id in volume_ids)
                 and (info := self._pool.info(each.volume_id)) is not None]
        return sorted(found, key=lambda row: str(row["name"]))

    async def look(self) -> None:
        """Reckon anew how much each primary is ahead of its replica."""
        for each in self.mirrors.all():
            if each.role == "primary":
                try:
                    self.rounds.of(each.volume_id).pending_bytes = await self.rounds.pending_bytes(each)
                except PoolError as error:          # deleted meanwhile, or it cannot be read now: as it was known last
                    log.debug("what is pending cannot be told: %s", error)

    def peer_rows(self) -> list[Json]:
        return [each.as_json() for each in self.peers.all()]

    def _row(self, info: ObjectInfo, mirror: Mirror) -> Json:
        progress, newest = self.rounds.of(info.id), mirror.newest
        lag_s = None if newest is None else max(0.0, time.time() - newest.created_us / 1e6)
        state: MirrorState = progress.state if mirror.role == "primary" else mirror.role
        if mirror.role == "primary" and mirror.paused and state != "sending":       # the round under way is not broken off
            state = "paused"
        late = lag_s is None or lag_s > LATE * mirror.rpo_s
        return {"name": info.name, "peer": mirror.peer, "role": mirror.role, "state": state, "epoch": len(mirror.lineage),
                "group": mirror.group or None, "rpo_s": mirror.rpo_s, "limit_bytes": mirror.limit_bytes,
                "standby": mirror.standby, "paused": mirror.paused, "complete": mirror.complete, "lag_s": lag_s, "late": late,
                "published_s": None if newest is None else newest.created_us / 1e6, "guid": mirror.volume_guid,
                "rounds": progress.rounds, "skipped": progress.skipped, "round_s": progress.round_s,
                "sent_bytes": progress.sent_bytes,
                "pending_bytes": progress.pending_bytes if mirror.role == "primary" else None,
                "last_success_s": progress.last_success_s or None,
                "problem": progress.error or None}

    # -- inside --------------------------------------------------------------------------------------------------
    def _first_reign(self) -> Reign:
        return Reign(secrets.token_hex(8), self._contacts.pool_uuid, "")

    def _volume(self, name: str) -> ObjectInfo:
        info = self._catalog.find(name)
        if info.kind == "snapshot":
            raise LunetteError("invalid", f"{name} is a snapshot: volumes are mirrored")
        return info

    def _catalog_name(self, mirror: Mirror) -> str:
        info = self._pool.info(mirror.volume_id)
        return "" if info is None else info.name
