"""Rounds: what a primary does for its replica: a snapshot of each volume of a group, sent, published, and older ones let go.

A round that broke off is gone on with, with its snapshots and from where the replica's token says, before there is another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from target.errors import LunetteError
from target.models.answers import MirrorState
from target.server.background.sending import Sending
from target.server.background.transfers import Told, Transfers, untold
from target.server.command import Json
from target.server.mirroring.comparing import differences
from target.server.mirroring.contact import Contact, Contacts
from target.server.mirroring.keeping import Keeping, hold_tag
from target.volumes.gateway import AsyncPool, KeysOf, ObjectInfo
from target.volumes.holds import StoredHolds
from target.volumes.mirrors import Common, Mirror, Mirrors, Reign, compare, pack_lineage, unpack_lineage
from target.volumes.replicas import Replicas, Rest

log = logging.getLogger("lunette.mirror")

ROWS = 16384            # of a walk at once: start, length and kind, in blocks
BLOCK_BYTES = 4096


class Diverged(LunetteError):
    """Both sides have what the other has not. `theirs` is the peer's lineage, `role` what it is there."""

    def __init__(self, message: str, theirs: tuple[Reign, ...], role: str) -> None:
        super().__init__("diverged", message)
        self.theirs = theirs
        self.role = role


@dataclass(slots=True)
class Progress:
    """How the mirror of a volume does, since the daemon's start."""

    state: MirrorState = "waiting"
    error: str = ""
    rounds: int = 0
    skipped: int = 0
    round_s: float = 0.0
    sent_bytes: int = 0
    pending_bytes: int | None = None    # when it was last reckoned
    last_success_s: float = 0.0
    began_s: float = 0.0
    told: str = field(default="", repr=False)

    def failed(self, error: LunetteError, name: str) -> None:
        """Said loudly, once."""
        self.state, self.error = "diverged" if error.code == "diverged" else "failed", str(error)
        if self.told != self.error:
            self.told = self.error
            (log.error if self.state == "diverged" else log.warning)("mirror of %s: %s", name, error)

    def succeeded(self) -> None:
        self.state, self.error, self.told = "ok", "", ""
        self.rounds += 1
        self.last_success_s = time.time()


class TakeSnapshots(Protocol):
    """target/server/api/commands/objects.py."""

    def __call__(self, names: Sequence[str], keys: KeysOf | None = None) -> Awaitable[list[Json]]: ...


@dataclass(frozen=True, slots=True)
class There:
    """How a volume stands at the peer. `role` "": it is not there, or not in a mirror with us."""

    role: str
    lineage: tuple[Reign, ...]
    snapshots: frozenset[str]
    partial: tuple[Rest, ...]                       # snapshots that have come in part
    complete: bool
    newest: str
    failed: bool = False                            # its pool is read-only for good

    @classmethod
    def of(cls, value: Any) -> There:
        """LunetteError invalid."""
        try:
            partial = tuple(Rest(str(each["guid"]), str(each["from"]), int(each["offset"])) for each in value["partial"])
            lineage = unpack_lineage(value["lineage"]) if value["lineage"] else ()
            return cls(str(value["role"]), lineage, frozenset(map(str, value["snapshots"])), partial, bool(value["complete"]),
                       str(value["newest"]), bool(value.get("failed")))
        except (KeyError, TypeError, ValueError):
            raise LunetteError("invalid", "what the peer says of a volume makes no sense") from None


class Rounds:
    """Runs them."""

    def __init__(self, pool: AsyncPool, mirrors: Mirrors, replicas: Replicas, holds: StoredHolds, keeping: Keeping,
                 sending: Sending, contacts: Contacts, take_snapshots: TakeSnapshots, transfers: Transfers) -> None:
        self._pool = pool
        self._mirrors = mirrors
        self._replicas = replicas
        self._holds = holds
        self._keeping = keeping
        self._sending = sending
        self._contacts = contacts
        self._take_snapshots = take_snapshots
        self._transfers = transfers
        self.progress: dict[int, Progress] = {}

    def of(self, volume_id: int) -> Progress:
        return self.progress.setdefault(volume_id, Progress())

    async def round(self, mirrors: Sequence[Mirror], *, complete: bool = False) -> None:
        """One round of mirrors that go together. `complete`: nothing is written any more, it is the last. LunetteError."""
        began = time.monotonic()
        for each in mirrors:
            self.of(each.volume_id).state, self.of(each.volume_id).began_s = "sending", time.time()
        async with self._contacts.to(mirrors[0].peer) as contact:
            for each in mirrors:
                contact.peer.check("receive", self._volume(each).name)
            theres = await ask(contact, [each.volume_guid for each in mirrors])
            for each in mirrors:
                check_lineage(each, theres[each.volume_guid], contact.peer.name)
                self.check_known(each, theres[each.volume_guid], contact.peer.name)
            mirrors = [await self._settled(each, theres[each.volume_guid]) for each in mirrors]
            snapshots = await self._snapshots(mirrors, theres, fresh=complete)
            for each in mirrors:
                await self._deliver(contact, each, theres[each.volume_guid], snapshots[each.volume_id])
            await self._publish(contact, mirrors, snapshots, complete=complete)
        for each in mirrors:
            progress = self.of(each.volume_id)
            progress.succeeded()
            progress.round_s = time.monotonic() - began
            await self._keeping.tidy(self._mirrors.find(self._volume(each)))

    async def pending_bytes(self, mirror: Mirror) -> int | None:
        """Bytes in which a volume differs from the last snapshot that its replica has; None: it has none. PoolError."""
        base = None if mirror.newest is None else self._replicas.find(mirror.newest.guid, mirror.volume_id)
        if base is None:
            return None
        found, at = 0, 0
        while at is not None:
            rows, at = await self._pool.call("changes", since_id=base.id, object_id=mirror.volume_id, offset_bytes=at, limit=ROWS)
            found += BLOCK_BYTES * sum(memoryview(rows).cast("Q")[1::3])
        return found

    # -- inside --------------------------------------------------------------------------------------------------
    def _volume(self, mirror: Mirror) -> ObjectInfo:
        info = self._pool.info(mirror.volume_id)
        if info is None:
            raise LunetteError("gone", "a mirrored volume was deleted")
        return info

    def check_known(self, mirror: Mirror, there: There, peer: str) -> None:
        """That what the replica has last came from here. Diverged: a copy of this pool gave it something else."""
        ours = {each.guid for each in mirror.common} | {self._replicas.guid(each)
                                                        for each in self._replicas.snapshots(mirror.volume_id)}
        if mirror.common and there.role == "replica" and there.newest and there.newest not in ours:
            raise Diverged(f"{peer} follows somebody else with this side's identity: is there a copy of the pool? Nothing is "
                           "overwritten; lunette mirror resolve NAME --keep here|there", there.lineage, there.role)

    async def _settled(self, mirror: Mirror, there: There) -> Mirror:
        """What was published and not noted, because the answer was lost, is noted now."""
        for info, _ in self._mirrors.snapshots(mirror.volume_id):
            guid = self._replicas.guid(info)
            if guid == there.newest and (mirror.newest is None or guid != mirror.newest.guid):
                async with self._mirrors.changing:
                    mirror = self._mirrors.find(self._volume(mirror)).published(Common(guid, int(info.created_s * 1e6)))
                    await self._mirrors.save(mirror)
        return mirror

    async def _snapshots(self, mirrors: Sequence[Mirror], theres: dict[str, There], *, fresh: bool) -> dict[int, ObjectInfo]:
        """Those of the round that broke off, if there is one and all are there; else new ones."""
        rounds: dict[str, dict[int, ObjectInfo]] = {}
        for mirror in mirrors:
            newest_us = 0 if mirror.newest is None else mirror.newest.created_us
            for info, mark in self._mirrors.snapshots(mirror.volume_id):
                there = theres[mirror.volume_guid].snapshots
                if int(info.created_s * 1e6) > newest_us and self._replicas.guid(info) not in there:
                    rounds.setdefault(mark, {})[mirror.volume_id] = info
        whole = [found for found in rounds.values() if len(found) == len(mirrors)]
        kept = None if fresh or not whole else max(whole, key=lambda found: max(each.created_s for each in found.values()))
        for found in rounds.values():
            if found is not kept:
                for info in found.values():         # of a group that is another now, or of a round that was given up
                    mirror = next(each for each in mirrors if each.volume_id == info.origin_id)
                    await self._keeping.discard(info, mirror.peer)
        return kept or await self._new_snapshots(mirrors)

    async def _new_snapshots(self, mirrors: Sequence[Mirror]) -> dict[int, ObjectInfo]:
        now = datetime.now(UTC)
        mark, tag = now.strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z", hold_tag(mirrors[0].peer)
        names = [f"{self._volume(each).name}@mirror-{each.peer}-{mark}" for each in mirrors]
        rows = await self._take_snapshots(names, lambda ids: {
            **self._mirrors.mark_keys(ids, mark), **self._holds.keys(ids, tag)})
        ids = [row["id"] for row in rows]
        self._mirrors.marks_stored(ids, mark)
        self._holds.made(ids, tag)
        infos = [info for info in map(self._pool.info, ids) if info is not None]
        return {each.origin_id: each for each in infos}

    async def _deliver(self, contact: Contact, mirror: Mirror, there: There, snapshot: ObjectInfo) -> None:
        guid, name = self._replicas.guid(snapshot), self._volume(mirror).name
        base, offset = self._keeping.common(mirror, there.snapshots), 0
        if base is None and mirror.resync:
            with self._transfers.run("resync", [name]) as transfer:
                await self._resync(contact, mirror, snapshot, name, transfer.told)
            return
        if base is None and there.role:
            raise LunetteError("not_found", f"{name} has no snapshot in common with its replica any more: mirror rm, then mirror "
                                            "add --resync")
        for rest in there.partial:
            if rest.guid == guid and (rest.from_guid == "") == (base is None):
                found = self._replicas.find(rest.from_guid, mirror.volume_id) if rest.from_guid else None
                if found is not None or not rest.from_guid:
                    base, offset = found, rest.offset_bytes

        async def deliver(told: Told) -> Json:
            return await contact.deliver(mirror.volume_guid, name, lambda fd: self._sending.send(
                [base, snapshot], offset, fd, compress="auto", limit_bytes=mirror.limit_bytes, told=told))

        if base is None:                # the first one takes its time; those after it come and go
            with self._transfers.run("mirror", [name]) as transfer:
                sent = await deliver(transfer.told)
        else:
            sent = await deliver(untold)
        self.of(mirror.volume_id).sent_bytes += sent["sent_bytes"]

    async def _resync(self, contact: Contact, mirror: Mirror, snapshot: ObjectInfo, name: str, told: Told) -> None:
        """Send where it differs from what the peer's volume holds, which stays there as a snapshot."""
        adopted = await contact.request("adopt", volume=mirror.volume_guid, name=name, lineage=pack_lineage(mirror.lineage),
                                        settings=mirror.settings())
        base_guid = str(adopted.get("snapshot"))
        rows = await differences(self._pool, contact, mirror.volume_guid, snapshot, base_guid)

        sent = await contact.deliver(mirror.volume_guid, name, lambda fd: self._sending.send_rows(
            snapshot, base_guid, rows, fd, compress="auto", limit_bytes=mirror.limit_bytes, told=told))
        self.of(mirror.volume_id).sent_bytes += sent["sent_bytes"]

    async def _publish(self, contact: Contact, mirrors: Sequence[Mirror], snapshots: dict[int, ObjectInfo], *,
                       complete: bool) -> None:
        await contact.request(
            "publish", complete=complete,
            snapshots={each.volume_guid: self._replicas.guid(snapshots[each.volume_id]) for each in mirrors},
            lineages={each.volume_guid: pack_lineage(each.lineage) for each in mirrors},
            settings={each.volume_guid: each.settings() for each in mirrors})
        done = []
        async with self._mirrors.changing:
            for each in mirrors:
                info, current = snapshots[each.volume_id], self._mirrors.find(self._volume(each))
                common = Common(self._replicas.guid(info), int(info.created_s * 1e6))
                done.append(current.published(common, **({"role": "replica", "complete": False} if complete else {})))
            await self._mirrors.save(*done)


async def ask(contact: Contact, guids: Sequence[str]) -> dict[str, There]:
    """How volumes stand at a peer. LunetteError."""
    answer = await contact.request("ask", volumes=list(guids))
    volumes = answer.get("volumes")
    if not isinstance(volumes, dict) or volumes.keys() != set(guids):
        raise LunetteError("invalid", "what the peer says of its volumes makes no sense")
    return {guid: There.of(value) for guid, value in volumes.items()}


def check_lineage(mirror: Mirror, there: There, peer: str) -> None:
    """That the replica has seen nothing that its primary has not. Diverged."""
    if not there.role:
        return
    relation = compare(mirror.lineage, there.lineage)
    if there.role == "replica" and relation in ("same", "ahead"):
        return
    if relation in ("same", "ahead"):
        text = f"{peer} is {there.role}, too, since before this side was promoted"
    elif relation == "behind":
        text = f"{peer} was promoted while this side was primary"
    else:
        text = f"this side and {peer} were promoted apart from each other"
    raise Diverged(f"{text}: both go on, nothing is overwritten; lunette mirror resolve NAME --keep here|there", there.lineage,
                   there.role)


async def paced(seconds: float, wake: asyncio.Event) -> None:
    """Until it is time, or somebody wants it sooner."""
    wake.clear()
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            return


def settings_of(mirror: Mirror, value: dict[str, Any]) -> Mirror:
    """With the settings that a primary says. LunetteError invalid."""
    try:
        rpo_s, limit_bytes = float(value["rpo_s"]), int(value["limit_bytes"])
        group, standby = value["group"], value["standby"]
        if not (0 < rpo_s <= 1e7 and 0 <= limit_bytes <= 1 << 62 and isinstance(group, str) and len(group) <= 64
                and isinstance(standby, bool)):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise LunetteError("invalid", "what the peer says of a mirror's settings makes no sense") from None
    return replace(mirror, rpo_s=rpo_s, limit_bytes=limit_bytes, group=group, standby=standby)
