"""The daemon: one pool, its reactors, portals and API, from start to clean stop (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from target.config import Portal, ServeConfig, own_name, round_up, target_name
from target.errors import LunetteError
from target.iscsi import SessionRegistry
from target.models.pool import Move
from target.scsi import AccessState, Target, TargetPort, expire_tokens
from target.server import logs, rlimits
from target.server.api import guard
from target.server.api.commands.configuration import ConfigurationCommands
from target.server.api.commands.management import Management
from target.server.api.commands.streams import StreamCommands
from target.server.api.commands.target import ACCESS_STATES
from target.server.api.descriptors import Descriptors
from target.server.api.exports import Exports
from target.server.api.holds import Holds
from target.server.api.listing import Listing
from target.server.api.served import Served
from target.server.api.server import ApiServer
from target.server.background.jobs import Jobs
from target.server.background.monitor import SpaceMonitor
from target.server.background.receiving import Receiving
from target.server.background.reclaiming import Reclaiming
from target.server.background.schedules import Schedules
from target.server.background.sending import Sending
from target.server.background.transfers import Transfers
from target.server.command import Command
from target.server.disks.frozen import FrozenMedia
from target.server.disks.relayed import perform
from target.server.disks.units import Units
from target.server.iscsi.access import Access, addresses_of
from target.server.iscsi.dataplane import Reactor
from target.server.iscsi.limits import Limits
from target.server.iscsi.netlink import LocalAddresses
from target.server.iscsi.portal import Portals
from target.server.iscsi.sessions import SessionTable
from target.server.iscsi.statistics import Statistics
from target.server.iscsi.tasks import TaskManagement
from target.server.mirroring.mirroring import Mirroring
from target.server.notify import Notifier
from target.server.rereading import Rereading
from target.volumes.catalog import Catalog, parse_address
from target.volumes.gateway import POOL_GRAIN_BYTES, AsyncPool, ObjectInfo, PoolError, is_place, open_pool
from target.volumes.holds import StoredHolds
from target.volumes.identity import Presence
from target.volumes.manifest import Waiter
from target.volumes.mirrors import Mirrors
from target.volumes.owner import Opening, begin
from target.volumes.peers import Peers
from target.volumes.rates import RateStore
from target.volumes.relaying import Answering
from target.volumes.replicas import Replicas
from target.volumes.telling import Telling

if TYPE_CHECKING:
    from target.server.api.metrics import Metrics

log = logging.getLogger("lunette.daemon")

PROVE_SECONDS = 1.0
MOVE_SECONDS = 0.1

Prepare = Callable[["Daemon"], Awaitable[None]]
Yielded = Callable[[], Awaitable[None]]


class Daemon:
    """Everything that runs, wired together. `run` lives from readiness to the stop."""

    def __init__(self, config: ServeConfig, prepare: Prepare | None = None, opening: Opening | None = None,
                 read_again: Callable[[], ServeConfig] | None = None, yielded: Yielded | None = None) -> None:
        """`prepare` runs when commands work and nobody can log in yet. `opening` has begun to own the pool already.

        `read_again` makes the configuration anew, on SIGHUP. `yielded` is awaited before the portals are opened, or in the end:
        what this process had there has gone by then.
        """
        self.config = config
        self._opening = opening
        self._prepare = prepare
        self._read_again = read_again
        self._yielded = yielded
        self.started_s = time.time()
        self.notifier = Notifier()
        self._stopping = asyncio.Event()
        self._device: Any = None
        self._pool: Any = None
        self._wired = False                 # all of `wire` is there
        self._presence: Presence | None = None
        self.shared_identity = ""           # who serves a pool with the same identity on this machine
        self.reactors: list[Reactor] = []
        self.moved = False                  # the daemon is to wait once it has ended ...
        self.moved_to = ""                  # ... and logins are sent there
        self.telling: Telling | None = None
        self.answering: Answering | None = None
        self._waited_for = False            # by another gateway of the pool

    def start_pool(self) -> None:
        """Open the pool, start the reactors, read the catalog. LunetteError in one line when that cannot be."""
        config = self.config
        try:
            self._pool, self._device = open_pool(config.pool_path, cache_bytes=config.cache_bytes, direct=config.direct,
                                                 opening=self._opening)
            self._pool.order(config.defrag)
            for _ in range(config.reactors):
                reactor = Reactor(self._pool, poll_us=config.poll_us)
                self.reactors.append(reactor)   # before it starts: one that cannot gives back what it holds while there is a pool
                reactor.start()
        except OSError as error:
            raise rlimits.explain(error) from None
        self._meet_its_like()
        self.wire(self._pool)

    def _meet_its_like(self) -> None:
        """Refuse to be the second path to what initiators take for one disk, and is two. LunetteError in_use."""
        self._presence = Presence(self._pool.uuid)
        other = self._presence.other
        if other is None:
            return
        who = f"process {other}" if other else "a process that cannot be seen from here"
        if other and other == self._device.taken_from and not self._presence.answered:
            log.warning("%s, which the pool was taken from, is still there and says nothing", who)
        elif self.config.same_identity:
            self.shared_identity = who
            log.warning("%s serves a pool with the same identity: initiators that reach both take them for one disk", who)
        else:
            path = self.config.pool_path
            raise LunetteError("in_use", f"{path} has the identity of the pool that {who} serves on this machine: initiators "
                                         f"take them for one disk. If it is a copy, `lunette pool new-identity {path}` makes it "
                                         "a pool of its own; --same-identity serves it as it is")

    def wire(self, native_pool: Any) -> None:
        """Make everything that stands on an open pool and the reactors, without starting any of it."""
        self.pool = AsyncPool(native_pool, lambda: None if self._device is None else self._device.room_bytes())
        self.catalog = Catalog(self.pool)
        self.replicas = Replicas(self.pool)
        self.mirrors = Mirrors(self.pool, self.replicas)
        self._wire_iscsi(native_pool)
        served = self._wire_served()
        self._wire_commands(served)
        self.listing = Listing(served, self.management, statistics=self.statistics, portals=self.portals,
                               ownership=self.ownership, started_s=self.started_s)
        self.api = ApiServer(self.config.api_path, served, self.management, self.listing, self.schedules, self.mirroring,
                             self.transfers, self.exports, functools.partial(self._metrics, served), self.prove,
                             self.config.api_listener)
        self._wired = True

    def _wire_iscsi(self, native_pool: Any) -> None:
        """What initiators meet: the target, its sessions, units and portals."""
        config = self.config
        self.target_name = target_name(native_pool.name)
        self.addresses = LocalAddresses()
        self.access = Access(self.catalog, self.target_name, open_access=config.open_access,
                             portals=config.portals, addresses=self.addresses, advertise=config.advertise)
        self.target = Target(self.target_name, [TargetPort(tag, tag, tag) for tag in self.access.groups()],
                             own_name(native_pool.identity))
        for group, state in self.catalog.group_states().items():
            if group in self.target.groups() and state in ACCESS_STATES:
                self.target.set_group_state(group, ACCESS_STATES[state])
        self.registry = SessionRegistry(max_sessions=config.max_sessions,
                                        max_sessions_per_initiator=config.max_sessions_per_initiator)
        self.frozen = FrozenMedia(self.pool, functools.partial(expire_tokens, self.target), self.replicas.keeps)
        self.table = SessionTable(self.target, self.access, self.reactors, self.registry, units=self._units_of,
                                  limits=self._limits_of, tasks=TaskManagement)
        self.limits, self.units = self.table.limits, self.table.units
        self.statistics = Statistics(self.table, self.pool)
        self.portals = Portals(config, self.access, self.table, self.prove)

    def _limits_of(self, table: SessionTable) -> Limits:
        store = RateStore(self.pool, {host.id for host in self.catalog.hosts()})
        return Limits(store, self.catalog, self.reactors, table.sessions)

    def _units_of(self, table: SessionTable) -> Units:
        return Units(
            self.pool, self.catalog, frozen=self.frozen, background=table.background, gate_changed=table.gate_changed,
            abort_tasks=table.abort_for_preempt, quiesce=table.quiesce, attention_raised=table.attention_raised,
            statistics=lambda object_id: self.statistics.of_object(object_id),      # which are made of the table
            keep_reservations=self._device is not None and self._device.may_move, standing=self.mirrors.standing)

    def _wire_served(self) -> Served:
        """What commands and listings share."""
        self.holds = Holds()
        self.stored_holds = StoredHolds(self.pool)
        self.monitor = SpaceMonitor(self.pool, self.catalog, self.target.units,
                                    lambda: 0 if self._device is None else self._device.missing_bytes(),
                                    lambda: "" if self._device is None else self._device.lost_name())
        self.jobs = Jobs()
        return Served(pool=self.pool, catalog=self.catalog, target=self.target, access=self.access, table=self.table,
                      units=self.units, limits=self.limits, holds=self.holds, stored_holds=self.stored_holds,
                      monitor=self.monitor, jobs=self.jobs, mirrors=self.mirrors, replicas=self.replicas,
                      reclaiming=Reclaiming(self.pool, self.jobs))

    def _wire_commands(self, served: Served) -> None:
        """Who does what is commanded, and whom a deleted object concerns."""
        self.management = Management(served, self.enlarge)
        self.commands = self.management.table
        self.schedules = Schedules(self.pool, self.catalog, self.management.objects)
        self.transfers = Transfers(self.jobs)
        self.sending = Sending(self.pool, self.catalog, self.replicas, self.stored_holds)
        self.receiving = Receiving(self.pool, self.replicas, published=self.management.lineage.named,
                                   followed=self.units.reverted)
        self.mirroring = self._wire_mirroring()
        self.descriptors = Descriptors()
        self.exports = Exports(self.pool, self.catalog, self.stored_holds, self.replicas.guid)
        self.streams = StreamCommands(self.pool, self.mirrors, self.sending, self.receiving, self.descriptors,
                                      self.transfers, self.exports, self.management.objects.made)
        self.commands.add(*self.schedules.commands(), Command("move", Move, self._move, "admin"),
                          *ConfigurationCommands(served, self.management.lineage, self.schedules).commands(),
                          *self.mirroring.commands(), *self.streams.commands())
        for part in (self.schedules, self.mirrors, self.replicas, self.statistics, self.limits):
            self.commands.when_deleted(part.forget_object)

    def _wire_mirroring(self) -> Mirroring:
        """The mirrors, on parts that are wired already."""
        def check_unused(info: ObjectInfo, otherwise: str) -> None:
            users = self.table.users(info.id)
            if users:
                raise guard.in_use(info.name, users, otherwise)

        async def appeared(info: ObjectInfo) -> None:
            mirror = self.mirrors.of(info.id)
            if mirror is not None and mirror.standby:
                await self.management.objects.made(info.id)     # a path in standby, for whom all is open to

        objects = self.management.objects
        return Mirroring(
            self.pool, self.catalog, peers=Peers(self.pool), mirrors=self.mirrors, replicas=self.replicas,
            holds=self.stored_holds, sending=self.sending, receiving=self.receiving, transfers=self.transfers,
            take_snapshots=objects.take_snapshots,
            delete_unused=objects.delete_unused, stands=functools.partial(self.units.stands, self.target),
            quiesce=self.table.quiesce, reverted=self.units.reverted, check_unused=check_unused, appeared=appeared,
            groups=self.target.groups, portal=self.config.peer_portal)

    def _metrics(self, served: Served) -> Metrics:
        from target.server.api import mirror_metrics, transfer_metrics
        from target.server.api.metrics import Metrics  # its library is a good part of a start, and not always asked for

        made = Metrics(served, statistics=self.statistics, portals=self.portals, started_s=self.started_s)
        made.add(functools.partial(transfer_metrics.families, self.transfers))
        made.add(functools.partial(mirror_metrics.families, self.mirroring.rows))
        return made

    def ownership(self) -> dict[str, Any]:
        """Who this process is in the pool's ownership record, and who else on this machine goes by the pool's identity."""
        record = None if self._device is None else self._device.owner
        shared = self.shared_identity
        return {**({"owner": record.describe(), "lease_seconds": record.lease_s} if record is not None else {}),
                **({"shared_identity": shared} if shared else {})}

    def prove(self) -> None:
        """Return only if the pool is still this process's. What Python answers is proven so; reactors see to their own."""
        if self._device is not None:
            self._device.prove()

    def enlarge(self, size_bytes: int) -> int:
        """Make the pool's file as large as it is to grow to, in whole runs; that size. PoolError: invalid."""
        rounded = round_up(size_bytes, POOL_GRAIN_BYTES) if self._device.grows else size_bytes
        self._device.enlarge(rounded)
        return rounded

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`; prints the portals on stdout when ready."""
        self._check_open()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            rlimits.raise_limits()
            if not await self._waited():
                return
            self.start_pool()
            loop.add_signal_handler(signal.SIGHUP, self._reread, Rereading(self.config, self._read_again, self._live(),
                                                                           self.api.read_certificates))
            await self._yield()
            bound = self.portals.open()
            self.pool.attach()
            self.table.start()
            if self._presence is not None and self._presence.other is None:
                loop.add_reader(self._presence, self._presence.answer)
            if any(portal.is_wildcard for portal in bound):
                await self.addresses.start()
            self.monitor.start()
            await self.frozen.start()
            await self.management.objects.renames.finish()
            await self.sending.start()
            await self.api.start()
            self.descriptors.start(self.api.path)
            self.receiving.start()
            try:
                await self.mirroring.start()
                if self._prepare is not None:
                    await self._prepare(self)
                await self._tell(bound)
                self.portals.start()
                self.schedules.start()
                self.mirroring.begin()
                self._device.announce([str(each) for each in bound])
                self._announce(bound)
                await self._stay()
            finally:
                self.descriptors.stop()
                await self.mirroring.stop()
                self.receiving.stop()
                await self.streams.stop()
                await self.schedules.stop()
                await self._quiesce()
                await self.api.stop()
        finally:
            await self._yield()
            await self._close()

    async def _yield(self) -> None:
        if self._yielded is not None:
            yielded, self._yielded = self._yielded, None
            await yielded()

    async def _tell(self, bound: list[Portal]) -> None:
        """Tell gateways that wait what they may show, and follow which ones wait."""
        table = self._device.manifest()
        if table is None:
            return
        groups = {group: [f"{each},{group}" for each in bound if each.group == group] for group in self.access.groups()}
        self.telling = Telling(table, self.pool, {
            "owner": self._device.owner.owner.hex(), "pool": self._pool.uuid.hex(), "target": self.target_name,
            "own_name": self.target.own_name, "groups": groups}, self._waiting_gateways)
        await self.telling.start()
        self.answering = Answering(table, self._device.owner.owner.hex(), functools.partial(perform, self.target, self.units),
                                   lambda: self._waited_for)
        await self.answering.start()

    def _waiting_gateways(self, waiting: dict[int, Waiter]) -> None:
        self._waited_for = any(each.alive for each in waiting.values())
        self.target.set_elsewhere({group: AccessState.STANDBY if each.alive else AccessState.UNAVAILABLE
                                   for group, each in waiting.items()})
        self.access.elsewhere = addresses_of(portal for each in waiting.values() if each.alive for portal in each.portals)

    async def _waited(self) -> bool:
        """Wait for the pool to be ours, which may take longer than its last owner may be silent; False: a stop came first."""
        if self._opening is not None:
            self.notifier.waiting(f"waits until {self.config.pool_path} is its own")
            waits = [asyncio.ensure_future(each) for each in (beside(self._opening.wait), self._stopping.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            waits[1].cancel()
        return not self._stopping.is_set()

    async def _stay(self) -> None:
        """Until the stop. Where nobody asks for anything, too, the process does not outlive its lease."""
        while not self._stopping.is_set():
            self.prove()
            self.notifier.alive()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), PROVE_SECONDS)

    async def _move(self, args: Move) -> dict[str, Any]:
        if args.address is not None:
            parse_address(args.address)
        elif not is_place(self.config.pool_path):
            raise LunetteError("invalid", "where are logins to be sent? Only gateways of a pool on Ceph show its LUNs in standby")
        self.moved, self.moved_to = True, args.address or ""
        asyncio.get_running_loop().call_later(MOVE_SECONDS, self.stop)      # when this has been answered
        return {"pool": str(self.config.pool_path), "state": "moving", "moved_to": args.address}

    def stop(self) -> None:
        """Begin the clean stop."""
        self._stopping.set()

    def _reread(self, rereading: Rereading) -> None:
        with self.notifier.reloading():
            rereading.read()

    def _live(self) -> dict[str, Callable[[Any], None]]:
        """What of the configuration may change while it runs, and how."""
        return {
            "verbose": lambda value: logging.getLogger().setLevel(logging.DEBUG if value else logging.INFO),
            "advertise": lambda value: setattr(self.access, "advertise", value),
            "max_sessions": lambda value: setattr(self.registry, "max_sessions", value),
            "max_sessions_per_initiator": lambda value: setattr(self.registry, "max_sessions_per_initiator", value),
        }

    def _check_open(self) -> None:
        outside = [str(each) for each in self.config.portals if not each.is_loopback]
        if self.config.open_access and outside and not self.config.force_open:
            raise LunetteError("forbidden", f"--open lets every initiator in and {outside[0]} is not loopback; "
                                            "--force-open if that is meant")

    def _announce(self, bound: list[Portal]) -> None:
        with contextlib.suppress(BrokenPipeError):
            for portal in bound:
                print(f"{self.target_name} on {portal}{' (IPv4 too)' if portal.both_families else ''}", flush=True)
        objects = self.pool.stats()["objects"]
        self.notifier.ready(f"serves {objects} objects of {self.config.pool_path}")
        log.info("ready: %d objects, %d reactors", objects, len(self.reactors))

    async def _quiesce(self) -> None:
        """Take nothing new, ask initiators to log out, give them a moment."""
        self.notifier.stopping()
        self.portals.close_listeners()
        if self.table.sessions():
            self.table.ask_for_logout(max(1, int(self.config.shutdown_seconds)))
            await self.table.wait_empty(self.config.shutdown_seconds)
        for session in self.table.sessions():
            self.table.end(session, "the daemon stops")
        await self.portals.stop()

    async def _close(self) -> None:
        if self._wired:
            await self.monitor.stop()
            await self.frozen.stop()
            await self.addresses.stop()
        if self.answering is not None:
            await self.answering.stop()
        if self._wired:
            await self.table.background.stop(self.config.shutdown_seconds)
            with contextlib.suppress(Exception):
                self.table.stop()
        for reactor in reversed(self.reactors):
            await beside(reactor.stop)
            reactor.events()  # takes back what they hold of the pool, while there is one
        if self.telling is not None:
            await self.telling.stop()
        if self._wired:
            self.pool.detach()
        unclosed = None
        if self._pool is not None:
            try:
                await beside(self._pool.close)
            except PoolError as error:
                unclosed = error
        if self._presence is not None:
            asyncio.get_running_loop().remove_reader(self._presence)
            self._presence.close()
        if self._device is not None:
            self._device.close()
        elif self._opening is not None:
            self._opening.give_up()
        if unclosed is not None:
            raise LunetteError(unclosed.code, f"{self.config.pool_path} could not be closed: {unclosed}; what was flushed is "
                                              "there, and the next start recovers it")


async def beside(work: Callable[[], Any]) -> None:
    """Do what waits in a thread of its own; in this one where the system gives no more: a stop needs no limit's leave."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        loop.call_soon_threadsafe(done.set)

    try:
        threading.Thread(target=run).start()
    except RuntimeError:
        run()
    await done.wait()
    if failures:
        raise failures[0]


def serve(config: ServeConfig, prepare: Prepare | None = None, opening: Opening | None = None,
          read_again: Callable[[], ServeConfig] | None = None) -> int:
    """Run a daemon to its end; the exit status. LunetteError when it cannot start."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the loop runs; a shell that ends sends it to `serve ... &`
    logs.begin(verbose=config.verbose, as_json=config.log_json)

    async def main() -> None:
        begun, standby, moved_to, name = opening, config.standby, "", ""
        yielded: Yielded | None = None
        while True:
            if standby:
                from target.server.waiting import Waiting

                told = await Waiting(config, moved_to, name).run()
                if told is None:
                    return
                begun, yielded = told
            daemon = Daemon(config, prepare, begun or begin(config), read_again, yielded)
            await daemon.run()
            if not daemon.moved:
                return
            standby, moved_to, name = True, daemon.moved_to, daemon.target_name

    asyncio.run(main())
    return 0
