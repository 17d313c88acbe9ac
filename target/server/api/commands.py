"""Every management command: one table row each, with what it reads and writes by name so that a batch may overlap them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakValueDictionary

from target.config import format_size, round_up
from target.errors import LunetteError
from target.scsi import MEDIUM_STATES, AccessState
from target.server.api import guard
from target.server.api.renames import Renames
from target.server.api.served import Served
from target.server.arguments import Arguments, Json, take
from target.server.iscsi.nexus import NexusSession
from target.volumes.catalog import (
    Chap,
    Host,
    Redirect,
    Thresholds,
    check_initiator,
    check_snapshot_name,
    check_volume_name,
    read_labels,
    write_labels,
)
from target.volumes.gateway import ObjectInfo, PoolError, pool_error
from target.volumes.lineage import Lineage, volume_part
from target.volumes.luns import EVERYONE, Connection

MOVE_SECONDS = 3  # that an initiator has to log out before it is redirected
ACCESS_STATES = {"optimized": AccessState.ACTIVE_OPTIMIZED, "non-optimized": AccessState.ACTIVE_NON_OPTIMIZED,
                 "standby": AccessState.STANDBY, "unavailable": AccessState.UNAVAILABLE,
                 "transitioning": AccessState.TRANSITIONING}
STATE_NAMES = {state: name for name, state in ACCESS_STATES.items()}
MAX_VOLUME_BYTES = 1 << 56  # what a map of four levels spans
BLOCK_BYTES = 4096          # what the pool allocates; volumes are whole blocks
PHYSICAL_BLOCK_BYTES = 4096  # that new volumes report, unless told otherwise (decision 7)


@dataclass(frozen=True, slots=True)
class Touches:
    """Names a command depends on. Two commands may overlap unless one writes what the other names."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One command: its coroutine and, for batches, what it touches."""

    run: Callable[[Arguments], Awaitable[Any]]
    touches: Callable[[Arguments], Touches]


def check_physical_block(physical_block_bytes: int, block_bytes: int) -> None:
    """LunetteError invalid for a physical block that no disk of such logical blocks reports."""
    if physical_block_bytes not in (512, 4096) or physical_block_bytes < block_bytes:
        raise LunetteError("invalid", "a physical block has 512 or 4096 bytes, not fewer than a logical one")


def volume_size(args: Arguments) -> int:
    """The size asked for, rounded up to whole blocks of the pool; LunetteError invalid for none that a volume has."""
    size_bytes = round_up(take(args, "size_bytes", int), BLOCK_BYTES)
    if not 0 < size_bytes <= MAX_VOLUME_BYTES:
        raise LunetteError("invalid", "a volume's size is more than 0 and at most 64P")
    return size_bytes


def names(args: Arguments, key: str = "names") -> list[str]:
    """A non-empty list of names."""
    value = args.get(key)
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise LunetteError("invalid", f"{key} must be a list of names")
    return value


def _named(args: Arguments, *keys: str) -> frozenset[str]:
    """The names in these arguments, one or a list each; what is neither is refused when the command runs."""
    found: set[str] = set()
    for key in keys:
        value = args.get(key)
        found.update(each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))
    return frozenset(found)


def _names_touched(reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> Callable[[Arguments], Touches]:
    return lambda args: Touches(_named(args, *reads), _named(args, *writes))


def _snapshot_touched(args: Arguments) -> Touches:
    made = _named(args, "names")
    return Touches(frozenset(each.partition("@")[0] for each in made), made)


def _clone_touched(args: Arguments) -> Touches:
    source = _named(args, "source")
    return Touches(source | {volume_part(each) for each in source}, _named(args, "name"))   # whose the source is gets told


def _everything(args: Arguments) -> Touches:
    return Touches(everything=True)


class Commands:
    """The management commands on one daemon. Arguments and results are JSON values; failures are LunetteError."""

    def __init__(self, served: Served, enlarge: Callable[[int], int]) -> None:
        """`enlarge` makes the pool's file as large as it is given, rounded up; that size. PoolError, OSError."""
        self._served = served
        self._enlarge = enlarge
        self._pool = served.pool
        self._catalog = served.catalog
        self.lineage = Lineage(served.pool)
        self._forgetting: list[Callable[[int], Awaitable[None]]] = []
        self.renames = Renames(self._pool, self._catalog, self.lineage)
        self._labelling: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()   # by object
        self.table: dict[str, Row] = {
            "create": Row(self.create, _names_touched(writes=("name",))),
            "snapshot": Row(self.snapshot, _snapshot_touched),
            "clone": Row(self.clone, _clone_touched),
            "delete": Row(self.delete, _names_touched(writes=("names",))),
            "hold": Row(self.hold, _names_touched(writes=("name",))),
            "release": Row(self.release, _names_touched(writes=("name",))),
            "revert": Row(self.revert, self._revert_touched),
            "resize": Row(self.resize, _names_touched(writes=("name",))),
            "rename": Row(self.rename, _everything),
            "label": Row(self.label, _names_touched(writes=("name",))),
            "set": Row(self.set, _names_touched(writes=("name",))),
            "connect": Row(self.connect, _everything),
            "disconnect": Row(self.disconnect, _everything),
            "host_create": Row(self.host_create, _everything),
            "host_change": Row(self.host_change, _everything),
            "host_delete": Row(self.host_delete, _everything),
            "redirect": Row(self.redirect, _everything),
            "group": Row(self.group, _everything),
            "grow": Row(self.grow, _everything),
            "thresholds": Row(self.thresholds, _everything),
        }

    def add(self, commands: Mapping[str, Callable[[Arguments], Awaitable[Any]]],
            forget_object: Callable[[int], Awaitable[None]]) -> None:
        """Commands of others; in a batch they wait for all before them, and all wait for them.

        `forget_object` is called when an object was deleted.
        """
        self._forgetting.append(forget_object)
        self.table.update({name: Row(run, _everything) for name, run in commands.items()})

    async def run(self, command: str, args: Arguments) -> Any:
        """Run one command by its name."""
        row = self.table.get(command)
        if row is None:
            raise LunetteError("invalid", f"there is no command {command!r}")
        return await row.run(args)

    def describe(self, info: ObjectInfo) -> Json:
        """An object as commands that make or change one return it."""
        connections = self._catalog.connections_of(info.id)
        lun = connections[0].lun if connections else None
        return {"name": info.name, "kind": info.kind, "id": info.id, "size_bytes": info.size_bytes, "lun": lun,
                "url": None if lun is None else self._served.access.url(lun), "note": None}

    # -- objects -----------------------------------------------------------------------------------------------
    async def create(self, args: Arguments) -> Json:
        name = check_volume_name(take(args, "name", str))
        size_bytes = volume_size(args)
        block_bytes = take(args, "block_bytes", int, 512)
        if block_bytes not in (512, 4096):
            raise LunetteError("invalid", "a logical block has 512 or 4096 bytes")
        physical_block_bytes = take(args, "physical_block_bytes", int, PHYSICAL_BLOCK_BYTES)
        check_physical_block(physical_block_bytes, block_bytes)
        object_id = await self._call(
            f"create {name}", "create", name=name, size_bytes=size_bytes, block_bytes=block_bytes,
            checksum=take(args, "checksum", bool, False), quota_bytes=take(args, "quota_bytes", int, 0),
            reserve_bytes=take(args, "reserve_bytes", int, 0),
            physical_block_bytes=physical_block_bytes, props=write_labels(take(args, "labels", dict, {})))
        return {**await self._made(object_id), "asked_bytes": args["size_bytes"]}

    async def snapshot(self, args: Arguments) -> list[Json]:
        """One or several volumes at one instant."""
        pairs = []
        for name in names(args):
            volume, _ = check_snapshot_name(name)
            source = self._catalog.find(volume)
            taken = self._pool.lookup(name)
            if taken is not None and taken.origin_id != source.id:
                raise LunetteError("exists", f"there is {name} already: {self.lineage.not_its_own(taken)}")
            pairs.append((source.id, name))
        if len({source for source, _ in pairs}) != len(pairs):
            raise LunetteError("invalid", "a group snapshot names each volume once")
        made = await self._call(f"snapshot {' '.join(name for _, name in pairs)}", "snapshot", pairs=pairs)
        infos = [info for info in map(self._pool.info, made) if info is not None]
        self.lineage.named(infos)
        return [self.describe(info) for info in infos]

    async def clone(self, args: Arguments) -> Json:
        source = self._catalog.find(take(args, "source", str))
        name = check_volume_name(take(args, "name", str))
        object_id = await self._call(f"clone {source.name} {name}", "clone", source_id=source.id, name=name)
        return await self._made(object_id, self.lineage.not_its_own(source))

    async def delete(self, args: Arguments) -> None:
        force = take(args, "force", bool, False)
        found = [self._catalog.find(name) for name in names(args)]
        with self._served.stored_holds.ending(found):
            for info in found:
                if not force:
                    self.check_delete(info)
            await asyncio.gather(*(self._delete(info) for info in found))

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

    async def hold(self, args: Arguments) -> Json:
        """Keep an object from being deleted, by force too, until the tag is released."""
        info = self._catalog.find(take(args, "name", str))
        await self._served.stored_holds.hold(info, take(args, "tag", str))
        return self._held(info)

    async def release(self, args: Arguments) -> Json:
        info = self._catalog.find(take(args, "name", str))
        await self._served.stored_holds.release(info, take(args, "tag", str))
        return self._held(info)

    def _held(self, info: ObjectInfo) -> Json:
        return {**self.describe(self._current(info)), "holds": self._served.stored_holds.tags(info.id)}

    async def revert(self, args: Arguments) -> Json:
        """The volume that the snapshot was taken of gets its contents again, whatever both are called."""
        name = take(args, "name", str)
        check_snapshot_name(name)
        snapshot = self._catalog.find(name)
        volume = self.lineage.owner(snapshot)
        if volume is None:
            raise self.lineage.without_volume(snapshot)
        safety = take(args, "safety", str, "")
        safety_name = f"{volume.name}@{safety}" if safety else ""
        if safety:
            check_snapshot_name(safety_name)
        if not take(args, "force", bool, False):
            guard.check_revert(volume, snapshot, self._served.table.users(volume.id), safety_name)
        made = await self._call(f"revert {name}", "revert", volume_id=volume.id, snapshot_id=snapshot.id,
                                safety_name=safety_name)
        self.lineage.named([self._pool.info(made)])
        self._served.units.reverted(volume.id)
        return {**self.describe(self._current(volume)), "safety": safety_name or None}

    async def resize(self, args: Arguments) -> Json:
        info = self._catalog.find(take(args, "name", str))
        size_bytes = volume_size(args)
        if info.kind == "snapshot":
            raise LunetteError("protected", f"{info.name} is a snapshot: its size is fixed")
        if not take(args, "force", bool, False):
            guard.check_shrink(info, size_bytes, self._served.table.users(info.id))
        await self._call(f"resize {info.name}", "resize", object_id=info.id, size_bytes=size_bytes)
        self._served.units.resized(info.id)
        return {**self.describe(self._current(info)), "asked_bytes": args["size_bytes"]}

    async def rename(self, args: Arguments) -> Json:
        """A volume's own snapshots follow it: they are named after it. Those of an earlier volume of its name do not."""
        info = self._catalog.find(take(args, "name", str))
        new = take(args, "new_name", str)
        if info.kind == "snapshot":
            check_snapshot_name(new)
            self.lineage.check_rename(info, new)
        else:
            check_volume_name(new)
        await self.renames.rename(info, new)
        renamed = self._current(info)
        return {**self.describe(renamed), "note": self.lineage.not_of(renamed)}

    async def label(self, args: Arguments) -> Json:
        info = self._catalog.find(take(args, "name", str))
        async with self._labelling.setdefault(info.id, asyncio.Lock()):   # all labels are one value: read and written alone
            labels = read_labels(self._current(info))
            labels.update({str(key): str(value) for key, value in take(args, "set", dict, {}).items()})
            for key in take(args, "remove", list, []):
                labels.pop(str(key), None)
            await self._call(f"label {info.name}", "set", object_id=info.id, props=write_labels(labels))
        return {"name": info.name, "labels": labels}

    async def set(self, args: Arguments) -> Json:
        info = self._catalog.find(take(args, "name", str))
        changes = {key: take(args, key, int) for key in ("quota_bytes", "reserve_bytes", "physical_block_bytes")
                   if args.get(key) is not None}
        if any(value < 0 for value in changes.values()):
            raise LunetteError("invalid", "a quota or reservation is not negative")
        if changes.get("physical_block_bytes", info.physical_block_bytes) != info.physical_block_bytes:
            check_physical_block(changes["physical_block_bytes"], info.block_bytes)
            users = self._served.table.users(info.id)
            if users:  # its partitions and file systems were laid out by what it said
                raise guard.in_use(info.name, users, "its physical block changes under no host")
        if not take(args, "force", bool, False):
            guard.check_quota(info, changes.get("quota_bytes", 0), self._served.table.users(info.id))
        await self._call(f"set {info.name}", "set", object_id=info.id, **changes)
        self._served.units.resized(info.id)
        return self.describe(self._current(info))

    # -- connections and hosts ---------------------------------------------------------------------------------
    async def connect(self, args: Arguments) -> Json:
        info = self._catalog.find(take(args, "name", str))
        host = take(args, "host", str, None)
        host_id = EVERYONE if host is None else self._catalog.host(host).id
        if host is None and not self._served.access.open_access:
            raise LunetteError("forbidden", "this daemon serves hosts only: --host says which (or serve with --open)")
        lun = take(args, "lun", int, None)
        if lun is not None and self._catalog.may_connect(info, host_id, lun) is None and not take(args, "force", bool, False):
            lun_map, added = self._served.access.lun_map, Connection(host_id, lun, info.id)
            guard.check_luns(self._served.table.losses(lambda each: lun_map(each.nexus.initiator_name, added=added)),
                             self._pool, f"--force makes LUN {lun} {info.name} for them")
        connection = await self._connect(info, host_id, lun)
        return {**self.describe(info), "lun": connection.lun, "url": self._served.access.url(connection.lun), "host": host or "*",
                "note": self.lineage.not_its_own(info)}

    async def disconnect(self, args: Arguments) -> Json:
        info = self._catalog.find(take(args, "name", str))
        host = take(args, "host", str, None)
        gone = self._catalog.connections_of(info.id)
        if host is not None:
            host_id = self._catalog.host(host).id
            gone = [each for each in gone if each.host_id == host_id]
        if not gone:
            raise LunetteError("not_found", f"{info.name} is not connected" + (f" to {host}" if host else ""))
        if not take(args, "force", bool, False):
            lun_map = self._served.access.lun_map
            guard.check_luns(self._served.table.losses(lambda each: lun_map(each.nexus.initiator_name, without=gone)),
                             self._pool, "--force takes it from them all the same")
        await self._catalog_call(self._catalog.disconnect(gone))
        self._served.table.refresh()
        return self.describe(info)

    async def host_create(self, args: Arguments) -> Json:
        host = Host(0, take(args, "name", str), tuple(take(args, "initiators", list, [])), _chap(args, None),
                    take(args, "events", bool, False))
        if any(each.name == host.name for each in self._catalog.hosts()):
            raise LunetteError("exists", f"there is a host {host.name!r} already")
        made = await self._catalog_call(self._catalog.save_host(host))
        self._served.table.refresh()
        return self.describe_host(made)

    async def host_change(self, args: Arguments) -> Json:
        before = self._catalog.host(take(args, "name", str))
        removed = [check_initiator(each) for each in take(args, "remove", list, [])]
        for each in removed:
            if each not in before.initiators:
                raise LunetteError("not_found", f"{before.name} has no initiator {each!r}")
        initiators = [each for each in before.initiators if each not in removed]
        initiators += take(args, "add", list, [])
        chap = None if take(args, "no_chap", bool, False) else _chap(args, before.chap)
        changed = Host(before.id, take(args, "new_name", str, before.name), tuple(initiators), chap,
                       take(args, "events", bool, before.events))
        kept = {check_initiator(each) for each in initiators}
        leaving, joining = set(before.initiators) - kept, kept - set(before.initiators)
        if not take(args, "force", bool, False):
            guard.check_host(before, self._sessions_of(leaving))
            seen, opened = self._catalog.lun_map(before, open_access=self._served.access.open_access), self._served.table.losses
            guard.check_luns(opened(lambda each: seen if each.nexus.initiator_name in joining else each.luns),
                             self._pool, f"--force gives them the LUNs of {before.name}")
        made = await self._catalog_call(self._catalog.save_host(changed))
        self._end(self._sessions_of(leaving), f"its initiator was taken from host {before.name}")
        self._served.table.refresh()
        return self.describe_host(made)

    async def host_delete(self, args: Arguments) -> None:
        """Its sessions end, so none goes on with LUNs that are not its own any more."""
        host = self._catalog.host(take(args, "name", str))
        sessions = self._sessions_of(host.initiators)
        if not take(args, "force", bool, False):
            guard.check_host(host, sessions)
        await self._catalog_call(self._catalog.delete_host(host))
        self._end(self._sessions_of(host.initiators), f"host {host.name} was deleted")
        self._served.table.refresh()

    def _sessions_of(self, initiators: Collection[str]) -> list[NexusSession]:
        return [each for each in self._served.table.sessions() if each.nexus.initiator_name in initiators]

    def _end(self, sessions: Iterable[NexusSession], why: str) -> None:
        for each in sessions:
            self._served.table.end(each, why)

    async def redirect(self, args: Arguments) -> Json:
        """Send logins elsewhere, or (without an address) take them here again."""
        host, address = take(args, "host", str, None), take(args, "address", str, None)
        host_id = EVERYONE if host is None else self._catalog.host(host).id
        if address is None:
            await self._catalog_call(self._catalog.delete_redirect(host_id))
            return self.describe_target()
        redirect = Redirect(host_id, address, take(args, "permanent", bool, False))
        await self._catalog_call(self._catalog.save_redirect(redirect))
        if take(args, "move", bool, False):
            of = self._catalog.host_of
            moved = [each for each in self._served.table.sessions()
                     if self._catalog.redirect_of(of(each.nexus.initiator_name)) == redirect]
            self._served.table.ask_for_logout(MOVE_SECONDS, moved)
        return self.describe_target()

    async def group(self, args: Arguments) -> Json:
        """Set a target port group's access state for all LUNs, over what initiators set; they are told 2A/06."""
        group, name = take(args, "group", int), take(args, "state", str)
        if name not in ACCESS_STATES:
            raise LunetteError("invalid", f"{name!r} is not an access state: {', '.join(ACCESS_STATES)}")
        if group not in self._served.target.groups():
            raise LunetteError("not_found", f"no portal is in group {group}")
        if ACCESS_STATES[name] not in MEDIUM_STATES and not take(args, "force", bool, False):
            guard.check_luns(guard.cut_off(self._served.target, self._served.table.sessions(), group), self._pool,
                             f"group {group} is their only way to it: --force cuts it")
        if ACCESS_STATES[name] is not AccessState.TRANSITIONING:  # which is for a while only: a restart ends it
            await self._catalog_call(self._catalog.save_group_state(group, name))
        self._served.target.set_group_state(group, ACCESS_STATES[name])
        return self.describe_target()

    def describe_target(self) -> Json:
        """The target as a whole: its name, where it listens, who is sent elsewhere."""
        return {"name": self._served.access.target_name, "portals": [str(each) for each in self._served.access.portals],
                "groups": [{"group": group, "state": STATE_NAMES[self._served.target.group_states[group]],
                            "portals": [str(each) for each in self._served.access.portals if each.group == group]}
                           for group in self._served.target.groups()],
                "redirects": [{"host": self._catalog.host_name(each.host_id), "address": each.address,
                               "permanent": each.permanent} for each in self._catalog.redirects()]}

    def describe_host(self, host: Host) -> Json:
        """A host as listings show it: never its secrets."""
        luns = []
        for connection in self._catalog.connections(host.id):
            info = self._pool.info(connection.object_id)
            luns.append({"lun": connection.lun, "name": None if info is None else info.name})
        return {"name": host.name, "initiators": list(host.initiators), "chap": host.chap.name if host.chap else None,
                "mutual_chap": bool(host.chap and host.chap.mutual_secret), "events": host.events, "luns": luns}

    # -- pool --------------------------------------------------------------------------------------------------
    async def grow(self, args: Arguments) -> Json:
        size_bytes = take(args, "size_bytes", int)
        if size_bytes <= self._pool.pool.size_bytes:
            raise LunetteError("invalid", f"the pool has {format_size(self._pool.pool.size_bytes)} already")
        try:
            size_bytes = self._enlarge(size_bytes)
        except PoolError as error:
            raise LunetteError(error.code, str(error)) from None
        except OSError as error:
            raise LunetteError("io_write", f"cannot enlarge the pool: {error.strerror}") from None
        await self._call("grow", "grow", size_bytes=size_bytes)
        return {"name": "pool", "size_bytes": size_bytes, "asked_bytes": args["size_bytes"]}

    async def thresholds(self, args: Arguments) -> Json:
        """Set how full the pool may become before initiators are told; what is not named stays."""
        now = self._catalog.thresholds
        chosen = Thresholds(take(args, "soft_percent", int, now.soft_percent), take(args, "hard_percent", int, now.hard_percent))
        await self._catalog_call(self._catalog.save_thresholds(chosen))
        self._served.monitor.look()
        return {"space": self._served.monitor.state, **asdict(chosen)}

    # -- inside ------------------------------------------------------------------------------------------------
    async def _connect(self, info: ObjectInfo, host_id: int = EVERYONE, lun: int | None = None) -> Connection:
        """Connect an object; a number is not chosen while a session that sees this table takes it for something else."""
        table, initiators = self._served.table, None
        if host_id != EVERYONE:
            initiators = self._catalog.host(self._catalog.host_name(host_id)).initiators
        connection: Connection = await self._catalog_call(
            self._catalog.connect(info, host_id, lun, lambda number: table.holds(number, initiators)))
        table.refresh()
        return connection

    def _revert_touched(self, args: Arguments) -> Touches:
        """By name, as the lines before this one leave it; a snapshot named after another volume than its own waits for all."""
        name = str(args.get("name", ""))
        volume, snapshot = volume_part(name), self._pool.lookup(name)
        owner = None if snapshot is None else self.lineage.owner(snapshot)
        if owner is not None and owner.name != volume:
            return Touches(everything=True)
        writes = {volume} | {f"{volume}@{each}" for each in _named(args, "safety")}
        return Touches(frozenset({name}), frozenset(writes))

    async def _made(self, object_id: int, note: str | None = None) -> Json:
        """A new volume or clone, connected for everyone when access is open."""
        info = self._pool.info(object_id)
        if info is None:
            raise LunetteError("gone", "the object was deleted as soon as it was made")
        if self._served.access.open_access:
            await self._connect(info)
        return {**self.describe(info), "note": note or self.lineage.not_of(info)}

    def _current(self, info: ObjectInfo) -> ObjectInfo:
        return self._pool.info(info.id) or info

    async def _call(self, what: str, op: str, **args: Any) -> Any:
        try:
            started = self._pool.start(op, **args)
        except PoolError as error:
            if error.code in ("invalid", "no_space"):       # refused before it began: the pool says why
                raise LunetteError(error.code, f"{what}: {error}") from None
            raise pool_error(error.code, what) from None
        try:
            return await started
        except PoolError as error:
            raise pool_error(error.code, what) from None

    async def _catalog_call(self, change: Awaitable[Any]) -> Any:
        try:
            return await change
        except PoolError as error:
            raise pool_error(error.code, "keep the configuration") from None


def _chap(args: Arguments, before: Chap | None) -> Chap | None:
    """CHAP as the arguments change it; `secret` and `mutual_secret` come from a file or prompt of the client."""
    secret, mutual = take(args, "secret", str, None), take(args, "mutual_secret", str, None)
    if before is None and secret is None:
        if mutual is not None:
            raise LunetteError("invalid", "mutual CHAP needs a secret of the initiator too")
        return None
    name = take(args, "chap_name", str, None) or (before.name if before else "")
    if not name:
        initiators = args.get("initiators") or args.get("add") or [take(args, "name", str)]
        name = str(initiators[0])
    return Chap(name, secret.encode() if secret is not None else before.secret if before else b"",
                take(args, "mutual_name", str, None) or (before.mutual_name if before else "") or ("lunette" if mutual else ""),
                mutual.encode() if mutual is not None else before.mutual_secret if before else b"")
