"""Failover: who is primary changes here and nowhere else: demote, promote, resolve, and what a primary finds when it comes back.

All of it asks the peer first. Nothing is overwritten: what one side alone has stays, as its contents or as a snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
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
                 stands: Callable[[int], None], quiesce: Callable[[int], Awaitable[None]],
                 reverted: Callable[[int], None], check_unused: Refuse) -> None:
        """`stands` is told of volumes that are served as something else now; `quiesce` waits until what writes to one is over.

        `check_unused`: LunetteError when initiators use a volume, with what --force does to them.
        """
        self._pool = pool
        self._mirrors = mirrors
        self._keeping = keeping
        self._rounds = rounds
        self._contacts = contacts
        self._stands = stands
        self._quiesce = quiesce
        self._reverted = reverted
        self._check_unused = check_unused
        self._promoting: set[str] = set()       # GUIDs of volumes

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
        async with self._mirrors.changing:
            await self._mirrors.save(*(replace(self._now(each), role=role) for each in mirrors))    # type: ignore[arg-type]
        for each in mirrors:
            self._stands(each.volume_id)

    # -- promote -------------------------------------------------------------------------------------------------
    async def promote(self, mirror: Mirror, *, force: bool) -> Json:
        """Make it primary; what is lost by that, and how old it is. LunetteError."""
        name = self._name(mirror)
        if mirror.role == "primary":
            raise LunetteError("exists", f"{name} is primary already")
        with self._promotion(mirror.volume_guid):
            try:
                async with self._contacts.to(mirror.peer) as contact:
                    there = (await ask(contact, [mirror.volume_guid]))[mirror.volume_guid]
                    lost = self._check_promotion(mirror, there, contact.peer.name, force=force)
                    if there.role == "replica":
                        await contact.request("stand_by", volume=mirror.volume_guid)
                    promoted = await self._begin_reign(mirror)
                    note = await self._told(contact, there, promoted)
            except LunetteError as error:
                if error.code != "unreachable" or self._now(mirror).writable:
                    raise
                lost = self._check_alone(mirror, error, force=force)
                promoted, note = await self._begin_reign(mirror), str(error)
        if lost:
            log.warning("%s was promoted as it was %s", name, _age(mirror))
        return {"name": name, "role": "primary", "epoch": len(promoted.lineage), "lost_s": _age_s(mirror) if lost else 0.0,
                "note": "; ".join(filter(None, [
                    f"what was written in the last {_age_s(mirror):.1f} s before is lost" if lost else "", note])) or None}

    def is_promoting(self, volume_guid: str) -> bool:
        """Whether that volume is being promoted at this moment: of two sides that are at once, neither is."""
        return volume_guid in self._promoting

    @contextlib.contextmanager
    def _promotion(self, volume_guid: str) -> Iterator[None]:
        self._promoting.add(volume_guid)
        try:
            yield
        finally:
            self._promoting.discard(volume_guid)

    def _check_promotion(self, mirror: Mirror, there: There, peer: str, *, force: bool) -> bool:
        """Whether something is lost by it, as a peer that answers knows. LunetteError busy, needs_force."""
        name = self._name(mirror)
        if there.role in ("primary", "demoting") and not there.failed:
            how = (f"lunette mirror resolve {name}" if compare(mirror.lineage, there.lineage) == "apart"
                   else "demote it there, and nothing is lost")
            raise LunetteError("busy", f"{peer} answers, and is {there.role} of {name}: {how}")
        newest = "" if mirror.newest is None else mirror.newest.guid
        if mirror.complete or (there.complete and there.newest == newest) or mirror.role == "demoting":
            return False
        if not force:
            why = "and its pool is read-only after a failure" if there.failed else "which was not demoted"
            raise LunetteError("needs_force", f"{peer} is {there.role or 'no mirror'} of {name}, {why}: --force promotes it as "
                                              f"it was {_age(mirror)}")
        return True

    def _check_alone(self, mirror: Mirror, error: LunetteError, *, force: bool) -> bool:
        """Whether something is lost by a promotion of which the peer knows nothing. LunetteError needs_force."""
        name = self._name(mirror)
        if mirror.complete:
            return False
        if not force:
            what = (f"promotes {name} as it was {_age(mirror)}: what was written since is lost" if mirror.role == "replica" else
                    f"promotes {name} though {mirror.peer} may have been promoted meanwhile")
            raise LunetteError("needs_force", f"{error}; --force {what}")
        return mirror.role == "replica"

    async def _begin_reign(self, mirror: Mirror) -> Mirror:
        async with self._mirrors.changing:
            promoted = self._now(mirror).promoted(self._contacts.pool_uuid)
            await self._mirrors.save(promoted)
        self._stands(mirror.volume_id)
        return promoted

    async def _told(self, contact: Contact, there: There, promoted: Mirror) -> str:
        """Let the peer know whom it follows; why it does not know, which it will by the first round."""
        if there.role != "replica":
            return ""
        try:
            await contact.request("follow", volume=promoted.volume_guid, lineage=pack_lineage(promoted.lineage))
        except LunetteError as error:
            return str(error)
        return ""

    # -- resolve -------------------------------------------------------------------------------------------------
    async def resolve(self, mirror: Mirror, *, keep: str, force: bool) -> Json:
        """End a divergence. The side that is not kept has a snapshot of what it held. LunetteError."""
        name = self._name(mirror)
        async with self._contacts.to(mirror.peer) as contact:
            there = (await ask(contact, [mirror.volume_guid]))[mirror.volume_guid]
            if await self._agrees(mirror, there):
                raise LunetteError("invalid", f"{name} has not diverged: {contact.peer.name} is {there.role}, here is "
                                              f"{mirror.role}, and one follows the other")
            if keep == "there":
                if there.role == "superseded":
                    self._check_may_give_way(mirror, there.snapshots, force=force)
                    await contact.request("lead", volume=mirror.volume_guid)
                    there = (await ask(contact, [mirror.volume_guid]))[mirror.volume_guid]
                if there.role != "primary":
                    raise LunetteError("invalid", f"{contact.peer.name} is {there.role or 'no mirror'} of {name}: it is to be "
                                                  "primary there")
                safety = await self.give_way(mirror, sorted(there.snapshots), there.lineage, force=force)
                return {"name": name, "role": "replica", "safety": safety, "where": "here"}
            return await self._keep_here(contact, mirror, there, force=force)

    async def _keep_here(self, contact: Contact, mirror: Mirror, there: There, *, force: bool) -> Json:
        common = self._keeping.common(mirror, there.snapshots)
        if common is None:
            raise LunetteError("not_found", f"{self._name(mirror)} has no snapshot in common with {contact.peer.name} any "
                                            "more: lunette mirror rm, then mirror add --resync on the side that is kept")
        kept = mirror if mirror.role == "primary" else self._now(mirror).promoted(self._contacts.pool_uuid)
        answer = await contact.request(
            "give_way", volume=mirror.volume_guid, lineage=pack_lineage(kept.lineage), force=force,
            snapshots=self._keeping.guids(mirror.volume_id, MOST_GUIDS))
        async with self._mirrors.changing:
            await self._mirrors.save(replace(kept, role="primary", complete=False))
        self._stands(mirror.volume_id)
        return {"name": self._name(mirror), "role": "primary", "safety": answer.get("safety"), "where": contact.peer.name}

    async def _agrees(self, mirror: Mirror, there: There) -> bool:
        """Whether one side follows the other as it should."""
        if (mirror.role, there.role) == ("replica", "primary"):
            newest = None if mirror.newest is None else self._keeping.common(mirror, [mirror.newest.guid])
            return (compare(there.lineage, mirror.lineage) in ("same", "ahead") and newest is not None
                    and await self._unchanged(mirror, newest))
        try:
            check_lineage(mirror, there, mirror.peer)
            self._rounds.check_known(mirror, there, mirror.peer)
        except Diverged:
            return False
        return mirror.role == "primary" and there.role == "replica"

    async def asked_to_give_way(self, mirror: Mirror, args: GiveWay) -> str:
        """The peer keeps its contents."""
        return await self.give_way(mirror, args.snapshots, unpack_lineage(args.lineage), force=args.force)

    async def give_way(self, mirror: Mirror, guids: Sequence[str], lineage: tuple[Reign, ...], *, force: bool) -> str:
        """Go back to the newest common snapshot and follow that lineage; the name of the snapshot of what was there."""
        volume, common = self._volume(mirror), self._check_may_give_way(mirror, guids, force=force)
        safety = f"{volume.name}@diverged-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"[:-3] + "Z"
        await self._become([mirror], "superseded")          # nobody writes to it
        try:
            await self._quiesce(volume.id)
            await self._go_back(mirror, common, lineage, safety)
        except LunetteError:
            await self._become([mirror], mirror.role)
            raise
        self._reverted(volume.id)
        self._stands(volume.id)
        log.warning("%s went back to %s and follows %s; what it held is %s", volume.name, common.name, mirror.peer, safety)
        return safety

    def _check_may_give_way(self, mirror: Mirror, guids: Iterable[str], *, force: bool) -> ObjectInfo:
        """The snapshot to go back to. LunetteError not_found, in_use."""
        volume = self._volume(mirror)
        common = self._keeping.common(mirror, guids)
        if common is None:
            raise LunetteError("not_found", f"{volume.name} has no snapshot in common with the other side any more: "
                                            "lunette mirror rm, then mirror add --resync on the side that is kept")
        if not force:
            self._check_unused(volume, f"--force takes it from them: what it holds stays as {volume.name}@diverged-...")
        return common

    async def lead(self, mirror: Mirror) -> None:
        """Be primary again with what was superseded."""
        await self._begin_reign(mirror)

    async def _go_back(self, mirror: Mirror, common: ObjectInfo, lineage: tuple[Reign, ...], safety: str) -> None:
        """The contents of a common snapshot, what was there in another one, and the role of a replica: in one frame."""
        async with self._mirrors.changing:
            follower, held = self._follower(mirror, common, lineage), self._keeping.hold_keys([common], mirror.peer)
            try:
                await self._pool.call("revert", volume_id=mirror.volume_id, snapshot_id=common.id, safety_name=safety,
                                      keys=lambda ids: {**self._mirrors.keys(follower), **held})
            except PoolError as error:
                raise pool_error(error.code, f"go back to {common.name}") from None
            self._mirrors.stored(follower)
            self._keeping.held([common], mirror.peer)

    async def _follow(self, mirror: Mirror, common: ObjectInfo, lineage: tuple[Reign, ...]) -> None:
        """A replica from now on, which holds that snapshot's contents already."""
        async with self._mirrors.changing:
            await self._mirrors.save(self._follower(mirror, common, lineage),
                                     beside=self._keeping.hold_keys([common], mirror.peer))
            self._keeping.held([common], mirror.peer)
        self._stands(mirror.volume_id)

    def _follower(self, mirror: Mirror, common: ObjectInfo, lineage: tuple[Reign, ...]) -> Mirror:
        point = Common(self._keeping.guid(common), int(common.created_s * 1e6))
        return self._now(mirror).published(point, role="replica", lineage=lineage, complete=False)

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
