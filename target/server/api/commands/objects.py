"""Commands on volumes, snapshots and clones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from weakref import WeakValueDictionary

from target.config import round_up
from target.errors import LunetteError
from target.models.objects import (
    Clone,
    Create,
    Delete,
    Hold,
    Release,
    Rename,
    Resize,
    Revert,
    Set,
    SetLabels,
    Snapshot,
)
from target.server.api import guard
from target.server.api.commands.subject import Subject
from target.server.api.renames import Renames
from target.server.api.served import Served
from target.server.caller import CALLER
from target.server.command import Command, Json, Touches, everything, listed, touches
from target.volumes.catalog import check_snapshot_name, check_volume_name, read_labels, write_labels
from target.volumes.gateway import KeysOf, ObjectInfo
from target.volumes.lineage import Lineage, volume_part
from target.volumes.rates import OBJECT

BLOCK_BYTES = 4096           # what the pool allocates; volumes are whole blocks
PHYSICAL_BLOCK_BYTES = 4096  # that new volumes report, unless told otherwise (decision 7)


def check_physical_block(physical_block_bytes: int, block_bytes: int) -> None:
    """LunetteError invalid for a physical block that no disk of such logical blocks reports."""
    if physical_block_bytes < block_bytes:
        raise LunetteError("invalid", "a physical block has 512 or 4096 bytes, not fewer than a logical one")


def _snapshot_touched(args: Snapshot) -> Touches:
    made = frozenset(listed(args.names))
    return Touches(frozenset(volume_part(each) for each in made), made)


def _clone_touched(args: Clone) -> Touches:
    return Touches(frozenset({args.source, volume_part(args.source)}), frozenset({args.name}))   # whose the source is gets told


class ObjectCommands(Subject):
    """Objects are made, changed and deleted here."""

    def __init__(self, served: Served, lineage: Lineage, forgetting: Sequence[Callable[[int], Awaitable[None]]]) -> None:
        """Each of `forgetting` is called with the id of an object that was deleted."""
        super().__init__(served, lineage)
        self._forgetting = forgetting
        self.renames = Renames(self._pool, self._catalog, lineage)
        self._labelling: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()   # by object

    def commands(self) -> list[Command]:
        return [
            Command("create", Create, self.create, touches=touches(writes=("name",)), answer="Made"),
            Command("snapshot", Snapshot, self.snapshot, touches=_snapshot_touched, answer="list[Made]"),
            Command("clone", Clone, self.clone, touches=_clone_touched, answer="Made"),
            Command("delete", Delete, self.delete, touches=touches(writes=("names",)), answer="None"),
            Command("hold", Hold, self.hold, touches=touches(writes=("name",)), answer="Made"),
            Command("release", Release, self.release, touches=touches(writes=("name",)), answer="Made"),
            Command("revert", Revert, self.revert, touches=self._revert_touched, answer="Made"),
            Command("resize", Resize, self.resize, touches=touches(writes=("name",)), answer="Made"),
            Command("rename", Rename, self.rename, touches=everything, answer="Made"),
            Command("label", SetLabels, self.label, touches=touches(writes=("name",)), answer="Labelled"),
            Command("set", Set, self.set, touches=touches(writes=("name",)), answer="Made"),
        ]

    async def create(self, args: Create) -> Json:
        name = check_volume_name(args.name)
        size_bytes = round_up(args.size_bytes, BLOCK_BYTES)
        block_bytes = args.block_bytes
        physical_block_bytes = args.physical_block_bytes or PHYSICAL_BLOCK_BYTES
        check_physical_block(physical_block_bytes, block_bytes)
        object_id = await self._call(
            f"create {name}", "create", name=name, size_bytes=size_bytes, block_bytes=block_bytes,
            checksum=args.checksum, quota_bytes=args.quota_bytes,
            reserve_bytes=args.reserve_bytes,
            physical_block_bytes=physical_block_bytes, props=write_labels(args.labels))
        return {**await self.made(object_id), "asked_bytes": args.size_bytes}

    async def snapshot(self, args: Snapshot) -> list[Json]:
        """One or several volumes at one instant."""
        return await self.take_snapshots(listed(args.names))

    async def take_snapshots(self, names: Sequence[str], keys: KeysOf | None = None) -> list[Json]:
        """Snapshots by their names; `keys` are stored in the same frame of the journal."""
        pairs = []
        for name in names:
            volume, _ = check_snapshot_name(name)
            source = self._catalog.find(volume)
            taken = self._pool.lookup(name)
            if taken is not None and taken.origin_id != source.id:
                raise LunetteError("exists", f"there is {name} already: {self.lineage.not_its_own(taken)}")
            pairs.append((source.id, name))
        if len({source for source, _ in pairs}) != len(pairs):
            raise LunetteError("invalid", "a group snapshot names each volume once")
        made = await self._call(f"snapshot {' '.join(name for _, name in pairs)}", "snapshot", pairs=pairs, keys=keys)
        infos = [info for info in map(self._pool.info, made) if info is not None]
        self.lineage.named(infos)
        return [self.describe(info) for info in infos]

    async def clone(self, args: Clone) -> Json:
        source = self._catalog.find(args.source)
        name = check_volume_name(args.name)
        object_id = await self._call(f"clone {source.name} {name}", "clone", source_id=source.id, name=name)
        return await self.made(object_id, self.lineage.not_its_own(source))

    async def delete(self, args: Delete) -> None:
        force = args.force
        found = [self._catalog.find(name) for name in listed(args.names)]
        with self._served.stored_holds.ending(found):
            for info in found:
                if not force:
                    self.check_delete(info)
            if len(found) == 1:
                await self._delete(found[0])
            else:
                await asyncio.gather(*(self._delete(info) for info in found))
        self._served.reclaiming.watch([info.name for info in found])

    def check_delete(self, info: ObjectInfo) -> None:
        """LunetteError held, busy or in_use: why it does not go unless it is forced, or at all."""
        self._served.stored_holds.check_delete(info)
        self._served.holds.check_delete(info)
        guard.check_delete(info, self._served.table.users(info.id))

    async def delete_unused(self, info: ObjectInfo) -> None:
        """What nobody asked for by name: never with force. LunetteError as `check_delete`."""
        with self._served.stored_holds.ending([info]):
            self.check_delete(info)
            await self._delete(info)

    async def _delete(self, info: ObjectInfo) -> None:
        await self._call(f"delete {info.name}", "delete", object_id=info.id)
        self._served.table.withdraw(info.id)
        self._served.units.forget(info.id)
        await self._catalog.forget_object(info.id)
        for forget in self._forgetting:
            await forget(info.id)

    async def hold(self, args: Hold) -> Json:
        """Keep an object from being deleted, by force too, until the tag is released."""
        info = self._catalog.find(args.name)
        await self._served.stored_holds.hold(info, args.tag)
        return self._held(info)

    async def release(self, args: Release) -> Json:
        info = self._catalog.find(args.name)
        await self._served.stored_holds.release(info, args.tag)
        return self._held(info)

    def _held(self, info: ObjectInfo) -> Json:
        return {**self.describe(self._current(info)), "holds": self._served.stored_holds.tags(info.id)}

    async def revert(self, args: Revert) -> Json:
        """The volume that the snapshot was taken of gets its contents again, whatever both are called."""
        name = args.name
        snapshot = self._catalog.find(name)
        volume = self.lineage.owner(snapshot)
        if volume is None:
            raise self.lineage.without_volume(snapshot)
        CALLER.get().check_names([volume.name])
        self._served.mirrors.check_change(volume, "reverted")
        safety = args.safety
        safety_name = f"{volume.name}@{safety}" if safety else ""
        if safety:
            check_snapshot_name(safety_name)
        if not args.force:
            guard.check_revert(volume, snapshot, self._served.table.users(volume.id), safety_name)
        made = await self._call(f"revert {name}", "revert", volume_id=volume.id, snapshot_id=snapshot.id,
                                safety_name=safety_name)
        self.lineage.named([self._pool.info(made)])
        self._served.units.reverted(volume.id)
        return {**self.describe(self._current(volume)), "safety": safety_name or None}

    async def resize(self, args: Resize) -> Json:
        info = self._catalog.find(args.name)
        size_bytes = round_up(args.size_bytes, BLOCK_BYTES)
        if info.kind == "snapshot":
            raise LunetteError("protected", f"{info.name} is a snapshot: its size is fixed")
        self._served.mirrors.check_change(info, "resized")
        if not args.force:
            guard.check_shrink(info, size_bytes, self._served.table.users(info.id))
        await self._call(f"resize {info.name}", "resize", object_id=info.id, size_bytes=size_bytes)
        self._served.units.resized(info.id)
        return {**self.describe(self._current(info)), "asked_bytes": args.size_bytes}

    async def rename(self, args: Rename) -> Json:
        """A volume's own snapshots follow it: they are named after it. Those of an earlier volume of its name do not."""
        info = self._catalog.find(args.name)
        new = args.new_name
        if info.kind == "snapshot":
            check_snapshot_name(new)
            self.lineage.check_rename(info, new)
        else:
            check_volume_name(new)
        await self.renames.rename(info, new)
        renamed = self._current(info)
        return {**self.describe(renamed), "note": self.lineage.not_of(renamed)}

    async def label(self, args: SetLabels) -> Json:
        info = self._catalog.find(args.name)
        async with self._labelling.setdefault(info.id, asyncio.Lock()):   # all labels are one value: read and written alone
            labels = read_labels(self._current(info))
            labels.update(args.set)
            for key in args.remove:
                labels.pop(key, None)
            await self._call(f"label {info.name}", "set", object_id=info.id, props=write_labels(labels))
        return {"name": info.name, "labels": labels}

    async def set(self, args: Set) -> Json:
        info = self._catalog.find(args.name)
        wanted = {"quota_bytes": args.quota_bytes, "reserve_bytes": args.reserve_bytes,
                  "physical_block_bytes": args.physical_block_bytes}
        changes = {key: value for key, value in wanted.items() if value is not None}
        if changes.get("physical_block_bytes", info.physical_block_bytes) != info.physical_block_bytes:
            check_physical_block(changes["physical_block_bytes"], info.block_bytes)
            users = self._served.table.users(info.id)
            if users:  # its partitions and file systems were laid out by what it said
                raise guard.in_use(info.name, users, "its physical block changes under no host")
        if not args.force:
            guard.check_quota(info, changes.get("quota_bytes", 0), self._served.table.users(info.id))
        if changes or not self._limits_given(args):
            await self._call(f"set {info.name}", "set", object_id=info.id, **changes)
            self._served.units.resized(info.id)
        await self._set_limits(OBJECT, info.id, args)
        return self.describe(self._current(info))

    def _revert_touched(self, args: Revert) -> Touches:
        """By name, as the lines before this one leave it; a snapshot named after another volume than its own waits for all."""
        volume, snapshot = volume_part(args.name), self._pool.lookup(args.name)
        owner = None if snapshot is None else self.lineage.owner(snapshot)
        if owner is not None and owner.name != volume:
            return Touches(everything=True)
        return Touches(frozenset({args.name}), frozenset({volume} | ({f"{volume}@{args.safety}"} if args.safety else set())))

    async def made(self, object_id: int, note: str | None = None) -> Json:
        """A new volume or clone, connected for everyone when access is open."""
        info = self._pool.info(object_id)
        if info is None:
            raise LunetteError("gone", "the object was deleted as soon as it was made")
        if self._served.access.open_access:
            await self._connect(info)
        return {**self.describe(info), "note": note or self.lineage.not_of(info)}
