"""The pool's target on a gateway that does not serve it: initiators log in, and see its LUNs in standby (SPC-4 §5.11.2.4).

What is answered is what the pool's owner has told (target/volumes/manifest.py), read again after each command and each login came
in, so nothing of it is stale. Whatever that does not say is answered NOT READY 04h/0Bh. The data plane under it has a pool of
nothing: no LUN is given to it, so every command comes to Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Iterable

from target.config import ServeConfig
from target.errors import LunetteError
from target.iscsi import AsyncEvent, SessionRegistry
from target.scsi import AccessState, Target, TargetPort, expire_tokens
from target.server.api.commands.target import ACCESS_STATES
from target.server.disks.frozen import FrozenMedia
from target.server.disks.relayed import relay_to_owner
from target.server.disks.units import Relay, Units
from target.server.iscsi.access import Access, addresses_of
from target.server.iscsi.dataplane import Reactor
from target.server.iscsi.limits import Limits
from target.server.iscsi.netlink import LocalAddresses
from target.server.iscsi.portal import Portals
from target.server.iscsi.sessions import SessionTable
from target.server.iscsi.tasks import TaskManagement
from target.volumes.catalog import Catalog
from target.volumes.gateway import pool_of_nothing
from target.volumes.manifest import WAITING, Manifest, NotToldError, Reading, ToldPool, Waiter, Waiters, waiting_note
from target.volumes.mirrors import Mirrors
from target.volumes.rates import RateStore
from target.volumes.replicas import Replicas

log = logging.getLogger("lunette.standby")

BEAT_SECONDS = 2.0
CACHE_BYTES = 1 << 20
WAIT2_SECONDS = 0           # after which initiators may log in again, where the pool is served now


class Standby:
    """One target in standby, from `start` to `stop`: shown whenever there is something to show."""

    def __init__(self, config: ServeConfig, reading: Reading | None = None) -> None:
        self._config = config
        self._reading = reading or Reading(str(config.pool_path))
        self._pool = ToldPool()
        self._shown: Manifest | None = None
        self._reads: asyncio.Task[None] | None = None       # the one that has not begun
        self._running: asyncio.Task[None] | None = None
        self._front: _Front | None = None
        self._gateway = os.urandom(16).hex()
        self._said = False
        self._waiters = Waiters()
        self._others: dict[int, Waiter] = {}
        self._state = AccessState.STANDBY
        self._groups = {portal.group for portal in config.portals}

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="standby")

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        """Look again and again; the portals are open while the pool is told of and its groups are not this gateway's."""
        beat = 0
        why = ""
        try:
            while True:
                beat += 1
                try:
                    await self._look()
                    await self._say(beat)
                    if self._front is None:
                        self._front = _Front(self._config, self._pool, self.fresh, relay_to_owner(self._reading))
                        await self._front.start()
                        self._follow()
                        log.info("shows %s in standby", self._config.pool_path)
                    why = ""
                except (OSError, LunetteError) as error:
                    if str(error) != why:
                        log.info("shows nothing of %s: %s", self._config.pool_path, error)
                        why = str(error)
                    if isinstance(error, LunetteError):
                        await self._hide()
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            await self._hide()
            await asyncio.to_thread(self._leave)

    def transition(self) -> None:
        """This gateway has been told to take the pool: its ports say so, as long as it lasts."""
        self._state = AccessState.TRANSITIONING
        self._follow()

    async def fresh(self) -> None:
        """Return when what is shown was so at some moment after this call. OSError: nobody knows, or it is not ours to show."""
        try:
            await self._look()
        except LunetteError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from None

    async def _look(self) -> None:
        """OSError: nobody knows; LunetteError: it is not this gateway's to show."""
        if self._reads is None:
            self._reads = asyncio.create_task(self._read(self._running), name="manifest")
        await asyncio.shield(self._reads)

    async def _read(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._reads = self._reads, None
        try:
            found = await asyncio.to_thread(self._reading.read)
        except NotToldError as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from None
        if self._groups & found.groups.keys():
            raise LunetteError("in_use", f"its owner has portals of group {min(self._groups & found.groups.keys())} as well")
        if found is not self._shown:
            self._shown = found
            self._pool.take(found)
            if self._front is not None:
                self._front.changed()
                self._follow()

    async def _say(self, beat: int) -> None:
        """That this gateway waits; who else does. LunetteError: another one waits for this one's groups."""
        entries = await asyncio.to_thread(self._reading.all)
        found = self._waiters.look(entries)
        for group in self._groups & found.keys():
            other = found[group]
            if other.alive and other.gateway != self._gateway:
                raise LunetteError("in_use", f"another gateway waits with portals of group {group}: {' '.join(other.portals)}")
        portals = {group: [f"{each},{group}" for each in self._config.portals if each.group == group] for group in self._groups}
        await asyncio.to_thread(self._reading.apply, {
            f"{WAITING}{group}": waiting_note(self._gateway, listed, beat) for group, listed in portals.items()})
        self._said = True
        self._others = {group: each for group, each in found.items() if group not in self._groups}
        self._follow()

    def _follow(self) -> None:
        """Bring the states of all groups up to what is known."""
        if self._front is None or self._shown is None:
            return
        serving = self._reading.owner_lives and self._state is AccessState.STANDBY
        states = self._front.owner_states() if serving else {}
        elsewhere = {group: AccessState.STANDBY if each.alive else AccessState.UNAVAILABLE
                     for group, each in self._others.items()}
        elsewhere |= {group: states.get(group, AccessState.ACTIVE_OPTIMIZED) if serving else AccessState.UNAVAILABLE
                      for group in self._shown.groups}
        portals = [*self._shown.groups.values(), *(each.portals for each in self._others.values() if each.alive)]
        self._front.set_states(self._state, elsewhere, itertools.chain(*portals))

    def _leave(self) -> None:
        """Say that this gateway waits no more."""
        with contextlib.suppress(OSError):
            if self._said:
                self._reading.apply(dict.fromkeys(f"{WAITING}{group}" for group in self._groups))
        self._reading.close()

    async def _hide(self) -> None:
        if self._front is not None:
            front, self._front = self._front, None
            await front.stop()


class _Front:
    """The portals of a target in standby, and all below them."""

    def __init__(self, config: ServeConfig, pool: ToldPool, fresh: Callable[[], Awaitable[None]], relay: Relay) -> None:
        self._config = config
        self._pool = pool
        self._nothing, self._device = pool_of_nothing(CACHE_BYTES)
        self._reactor = Reactor(self._nothing, poll_us=0)
        head = pool.head
        self.addresses = LocalAddresses()
        catalog = Catalog(pool)
        self._mirrors = Mirrors(pool, Replicas(pool))
        self.access = Access(catalog, str(head["target"]), open_access=config.open_access, portals=config.portals,
                             addresses=self.addresses, advertise=config.advertise)
        self.target = Target(self.access.target_name, [TargetPort(tag, tag, tag) for tag in self.access.groups()],
                             str(head["own_name"]), passive=True)
        for group in self.target.own_groups():
            self.target.set_group_state(group, AccessState.STANDBY)
        registry = SessionRegistry(max_sessions=config.max_sessions,
                                   max_sessions_per_initiator=config.max_sessions_per_initiator)
        self.table = SessionTable(
            self.target, self.access, [self._reactor], registry, tasks=TaskManagement, before=fresh,
            limits=lambda table: Limits(RateStore(pool, ()), catalog, [self._reactor], table.sessions),
            units=lambda table: Units(
                pool, catalog, frozen=FrozenMedia(pool, functools.partial(expire_tokens, self.target)),
                background=table.background, gate_changed=table.gate_changed, abort_tasks=table.abort_for_preempt,
                quiesce=table.quiesce, attention_raised=table.attention_raised, keep_reservations=True, relay=relay,
                standing=lambda info: self._mirrors.standing(info)))
        self.units = self.table.units
        self.portals = Portals(config, self.access, self.table, before=fresh)

    async def start(self) -> None:
        """LunetteError: a portal cannot be had."""
        try:
            self._reactor.start()
            self.table.start()
            bound = self.portals.open()
            if any(portal.is_wildcard for portal in bound):
                await self.addresses.start()
            self.portals.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Whoever is logged in may do so again at once, and finds who serves the pool."""
        self.portals.close_listeners()
        for session in self.table.sessions():
            for conn, full in session.connections.items():
                drop = full.async_message(AsyncEvent.DROP_ALL_CONNECTIONS, parameters=(0, WAIT2_SECONDS, 0))
                self.table.send(session, conn, drop, close=True)
        await self.table.wait_empty(1.0)
        for session in self.table.sessions():
            self.table.end(session, "the gateway waits no more")
        await self.portals.stop()
        await self.addresses.stop()
        await self.table.background.stop(1.0)
        self.table.stop()
        await asyncio.to_thread(self._reactor.stop)
        self._reactor.events()
        await asyncio.to_thread(self._nothing.abandon)
        self._device.close()

    def changed(self) -> None:
        """The owner has told something new."""
        catalog = Catalog(self._pool)
        before = self.access.catalog
        self._mirrors = Mirrors(self._pool, Replicas(self._pool))
        self.access.catalog = self.units.catalog = catalog
        self.table.refresh()
        for connection in before.connections():
            unit = self.units.known(connection.object_id)
            if unit is None:
                continue
            if self._pool.info(connection.object_id) is None:
                self.units.forget(connection.object_id)
                continue
            state = catalog.unit_state(connection.object_id)
            if state != before.unit_state(connection.object_id):
                unit.follow(state)
            self.units.resized(connection.object_id)
            self.units.stands(self.target, connection.object_id)

    def owner_states(self) -> dict[int, AccessState]:
        """What an administrator has set for groups of the owner."""
        states = self.access.catalog.group_states()
        return {group: ACCESS_STATES[state] for group, state in states.items() if state in ACCESS_STATES}

    def set_states(self, own: AccessState, elsewhere: dict[int, AccessState], portals: Iterable[str]) -> None:
        """The states of this gateway's groups and of the others', and where those are."""
        for group in self.target.own_groups():
            if self.target.group_states[group] != own:
                self.target.set_group_state(group, own)
        self.target.set_elsewhere(elsewhere)
        self.access.elsewhere = addresses_of(portals)
