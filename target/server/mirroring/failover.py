"""Failover: who is primary changes here and nowhere else: demote, promote, resolve, and what a primary finds when it comes back.

All of it asks the peer first. Nothing is overwritten: what one side alone has stays, as its contents or as a snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from target.errors import LunetteError
from target.models.peering import GiveWay
from target.server.command import Json
from target.server.mirroring.contact import Contact, Contacts
from target.server.mirroring.keeping import Keeping
from target.server.mirroring.rounds import Diverged, Rounds, There, ask, check_lineage
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError, pool_error
from target.volumes.mirrors import Common, Mirror, Mirrors, Reign, compare, pack_lineage, unpack_lineage

log = logging.getLogger("lunette.mirror")

RETURN_SECONDS = 5.0        # that a peer has to answer before the old primary serves what it served
MOST_GUIDS = 2000
Refuse = Callable[[ObjectInfo, str], None]


class Failover:
    """Of the mirrors of one daemon."""

    def __init__(self, pool: AsyncPool, mirrors: Mirrors, keeping: Keeping, rounds: Rounds, contacts: Contacts, *,
                 changing: asyncio.Lock, stands: Callable[[int], None], quiesce: Callable[[int], Awaitable[None]],
                 reverted: Callable[[int], None], check_unused: Refuse) -> None:
        """`stands` is told of volumes that are served as something else now; `quiesce` waits until what writes to one is over.

        `check_unused`: LunetteError when initiators use a volume, with what --force does to them.
        """
        self._pool = pool
        self._mirrors = mirrors
        self._keeping = keeping
        self._rounds = rounds
        self._contacts = contacts
        self._changing = changing
        self._stands = stands
        self._quiesce = quiesce
        self._reverted = reverted
        self._check_unused = check_unused

    # -- demote --------------------------------------------------------------------------------------------------
    async def demote(self, mirrors: Sequence[Mirror]) -> None:
        """Volumes of one group: nobody writes to them any more, the rest is sent, the peer may be promoted. LunetteError."""
        for each in mirrors:
            if each.role not in ("primary", "demoting"):
                raise LunetteError("invalid", f"{self._name(each)} is {each.role} already")
        await self._become(mirrors, "demoting")
        try:
            for each in mirrors:
                await self._quiesce(each.volume_id)
            await self._rounds.round([self._now(each) for each in mirrors], complete=True)
        except LunetteError:
            await self._back(mirrors)
            raise
        for each in mirrors:
            self._stands(each.volume_id)

    async def _back(self, mirrors: Sequence[Mirror]) -> None:
        """It could not be demoted: initiators write again, unless the peer may have what it takes to be promoted."""
        with contextlib.suppress(LunetteError):
            async with asyncio.timeout(RETURN_SECONDS):
                async with self._contacts.to(mirrors[0].peer) as contact:
                    theres = await ask(contact, [each.volume_guid for each in mirrors])
                if not any(there.complete for there in theres.values()):
                    await self._become(mirrors, "primary")
                    return
        raise LunetteError("unreachable", f"{self._name(mirrors[0])} could not be demoted, and whether its replica has all of it "
                                          "is not known: it stays read-only; demote it again, or promote it --force")

    async def _become(self, mirrors: Sequence[Mirror], role: str) -> None:
        async with self._changing:
            await self._mirrors.save(*(replace(self._now(each), role=role) for each in mirrors))    # type: ignore[arg-type]
        for each in mirrors:
            self._stands(each.volume_id)

    # -- promote -------------------------------------------------------------------------------------------------
    async def promote(self, mirror: Mirror, *, force: bool) -> Json:
        """Make it primary; what is lost by that, and how old it is. LunetteError."""
        name = self._name(mirror)
        if mirror.role == "primary":
            raise LunetteError("exists", f"{name} is primary already")
        lost = mirror.role == "replica" and not mirror.complete
        note = ""
        try:
            async with self._contacts.to(mirror.peer) as contact:
                there = (await ask(contact, [mirror.volume_guid]))[mirror.volume_guid]
                lost = self._check_promotion(mirror, there, contact.peer.name, force=force)
                promoted = self._now(mirror).promoted(self._contacts.pool_uuid)
                if there.role == "replica":
                    await contact.request("follow", volume=mirror.volume_guid, lineage=pack_lineage(promoted.lineage))
        except LunetteError as error:
            if error.code != "unreachable":
                raise
            if lost and not force:
                raise LunetteError("needs_force", f"{error}; --force promotes {name} as it was {_age(mirror)}: what was written "
                                                  "since is lost") from None
            note = str(error)
            promoted = self._now(mirror).promoted(self._contacts.pool_uuid)
        async with self._changing:
            await self._mirrors.save(promoted)
        self._stands(mirror.volume_id)
        if lost:
            log.warning("%s was promoted as it was %s", name, _age(mirror))
        return {"name": name, "role": "primary", "epoch": len(promoted.lineage), "lost_s": _age_s(mirror) if lost else 0.0,
                "note": "; ".join(filter(None, [
                    f"what was written in the last {_age_s(mirror):.1f} s before is lost" if lost else "", note])) or None}

    def _check_promotion(self, mirror: Mirror, there: There, peer: str, *, force: bool) -> bool:
        """Whether something is lost by it, as a peer that answers knows. LunetteError busy, needs_force."""
        name = self._name(mirror)
        if there.role in ("primary", "demoting") and compare(mirror.lineage, there.lineage) != "apart":
            raise LunetteError("busy", f"{peer} answers, and is {there.role} of {name}: demote it there, and nothing is lost")
        newest = "" if mirror.newest is None else mirror.newest.guid
        if mirror.complete or (there.complete and there.newest == newest) or mirror.role == "demoting":
            return False
        if not force:
            raise LunetteError("needs_force", f"{peer} is {there.role or 'no mirror'} of {name}, which was not demoted: --force "
                                              f"promotes it as it was {_age(mirror)}")
        return True

    # -- resolve -------------------------------------------------------------------------------------------------
    async def resolve(self, mirror: Mirror, *, keep: str, force: bool) -> Json:
        """End a divergence. The side that is not kept has a snapshot of what it held. LunetteError."""
        name = self._name(mirror)
        async with self._contacts.to(mirror.peer) as contact:
            there = (await ask(contact, [mirror.volume_guid]))[mirror.volume_guid]
            if there.role == "replica" and mirror.role == "primary" and self._agrees(mirror, there):
                raise LunetteError("invalid", f"{name} has not diverged from its replica")
            if keep == "there":
                if there.role != "primary":
                    raise LunetteError("invalid", f"{contact.peer.name} is {there.role or 'no mirror'} of {name}: it is to be "
                                                  "primary there")
                safety = await self.give_way(mirror, sorted(there.snapshots), there.lineage, force=force)
                return {"name": name, "role": "replica", "safety": safety, "where": "here"}
            return await self._keep_here(contact, mirror, there, force=force)

    async def _keep_here(self, contact: Contact, mirror: Mirror, there: There, *, force: bool) -> Json:
        common = self._keeping.common(mirror, there.snapshots)
        if common is None:
            raise LunetteError("not_found", f"{self._name(mirror)} has no snapshot in common with {contact.peer.name}")
        kept = mirror if mirror.role == "primary" else self._now(mirror).promoted(self._contacts.pool_uuid)
        answer = await contact.request(
            "give_way", seconds=300.0, volume=mirror.volume_guid, lineage=pack_lineage(kept.lineage), force=force,
            snapshots=self._keeping.guids(mirror.volume_id, MOST_GUIDS))
        async with self._changing:
            await self._mirrors.save(replace(kept, role="primary", complete=False))
        self._stands(mirror.volume_id)
        return {"name": self._name(mirror), "role": "primary", "safety": answer.get("safety"), "where": contact.peer.name}

    def _agrees(self, mirror: Mirror, there: There) -> bool:
        try:
            check_lineage(mirror, there, mirror.peer)
        except Diverged:
            return False
        return True

    async def asked_to_give_way(self, mirror: Mirror, args: GiveWay) -> str:
        """The peer keeps its contents."""
        return await self.give_way(mirror, args.snapshots, unpack_lineage(args.lineage), force=args.force)

    async def give_way(self, mirror: Mirror, guids: Sequence[str], lineage: tuple[Reign, ...], *, force: bool) -> str:
        """Go back to the newest common snapshot and follow that lineage; the name of the snapshot of what was there."""
        volume = self._volume(mirror)
        common = self._keeping.common(mirror, guids)
        if common is None:
            raise LunetteError("not_found", f"{volume.name} has no snapshot in common with the other side")
        if not force:
            self._check_unused(volume, f"--force takes it from them: what it holds stays as {volume.name}@diverged-...")
        await self._become([mirror], "superseded")
        await self._quiesce(volume.id)
        safety = f"{volume.name}@diverged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"[:-3] + "Z"
        try:
            await self._pool.call("revert", volume_id=volume.id, snapshot_id=common.id, safety_name=safety)
        except PoolError as error:
            raise pool_error(error.code, f"go back to {common.name}") from None
        self._reverted(volume.id)
        await self._follow(mirror, common, lineage)
        log.warning("%s went back to %s and follows %s; what it held is %s", volume.name, common.name, mirror.peer, safety)
        return safety

    async def _follow(self, mirror: Mirror, common: ObjectInfo, lineage: tuple[Reign, ...]) -> None:
        """A replica from now on, which holds that snapshot's contents."""
        point = Common(self._keeping.guid(common), int(common.created_s * 1e6))
        async with self._changing:
            await self._mirrors.save(self._now(mirror).published(point, role="replica", lineage=lineage, complete=False))
        await self._keeping.hold(common, mirror.peer)
        self._stands(mirror.volume_id)

    # -- coming back ---------------------------------------------------------------------------------------------
    async def returning(self) -> None:
        """Ask the peers of the primaries here, before anybody is served. Who does not answer in time is not waited for."""
        by_peer: dict[str, list[Mirror]] = {}
        for each in self._mirrors.all():
            if each.role in ("primary", "demoting"):
                by_peer.setdefault(each.peer, []).append(each)

        async def one(peer: str, mirrors: list[Mirror]) -> None:
            try:
                async with asyncio.timeout(RETURN_SECONDS), self._contacts.to(peer) as contact:
                    theres = await ask(contact, [each.volume_guid for each in mirrors])
                    for each in mirrors:
                        await self._returned(each, theres[each.volume_guid])
            except (LunetteError, TimeoutError) as error:
                log.warning("peer %s cannot be asked whether it was promoted: %s; what was primary here is served as before",
                            peer, error or "it does not answer")

        await asyncio.gather(*(one(peer, mirrors) for peer, mirrors in by_peer.items()))

    async def _returned(self, mirror: Mirror, there: There) -> None:
        """What a primary is when it comes back."""
        relation = compare(mirror.lineage, there.lineage)
        if there.role == "replica" and relation == "same" and there.complete:
            await self._become([mirror], "replica")         # it was demoted, and the answer was lost
            return
        if mirror.role == "demoting" and there.role == "replica" and not there.complete:
            await self._become([mirror], "primary")
            return
        if there.role != "primary" or relation != "behind":
            return                      # what is apart goes on on both sides, and rounds say so
        base = self._keeping.common(mirror, [there.lineage[len(mirror.lineage)].base])
        if base is not None and await self._unchanged(mirror, base):
            await self._follow(mirror, base, there.lineage)
            log.warning("%s is a replica from now on: %s was promoted, and nothing was written here since", self._name(mirror),
                        mirror.peer)
            return
        await self._become([mirror], "superseded")
        log.error("%s is not served: %s was promoted, and here is what it has not; lunette mirror resolve %s --keep here|there",
                  self._name(mirror), mirror.peer, self._name(mirror))

    async def _unchanged(self, mirror: Mirror, base: ObjectInfo) -> bool:
        volume = self._volume(mirror)
        if volume.size_bytes != base.size_bytes:
            return False
        at: int | None = 0
        while at is not None:
            rows, at = await self._pool.call("changes", since_id=base.id, object_id=volume.id, offset_bytes=at, limit=1)
            if rows:
                return False
        return True

    # -- inside --------------------------------------------------------------------------------------------------
    def _now(self, mirror: Mirror) -> Mirror:
        return self._mirrors.find(self._volume(mirror))

    def _volume(self, mirror: Mirror) -> ObjectInfo:
        info = self._pool.info(mirror.volume_id)
        if info is None:
            raise LunetteError("gone", "the volume was deleted")
        return info

    def _name(self, mirror: Mirror) -> str:
        return self._volume(mirror).name


def _age_s(mirror: Mirror) -> float:
    return 0.0 if mirror.newest is None else max(0.0, time.time() - mirror.newest.created_us / 1e6)


def _age(mirror: Mirror) -> str:
    return f"{_age_s(mirror):.1f} s ago"
