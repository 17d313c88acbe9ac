"""Logical units of pool objects: made once each, shared by every session, their gates told to the data plane (SAM-5 §4.6)."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from target.errors import LunetteError
from target.iscsi import normalize_name
from target.scsi import (
    BackendError,
    BlockBackend,
    Command,
    Gate,
    Identity,
    IOStatistics,
    ITNexus,
    LogicalUnit,
    Result,
    Target,
    UnitHooks,
)
from target.server.background.detached import Background
from target.server.disks.backend import PoolBackend
from target.server.disks.frozen import FrozenMedia
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.mirrors import Standing

log = logging.getLogger("lunette.units")

GateChanged = Callable[[int, ITNexus, Gate], None]
AttentionRaised = Callable[[LogicalUnit, int, ITNexus, int], None]
AbortTasks = Callable[[int, ITNexus], Coroutine[Any, Any, None]]
Quiesce = Callable[[int], Coroutine[Any, Any, None]]
Relay = Callable[[int, ITNexus, Command], Awaitable[Result | None]]


class _Hooks(UnitHooks):
    def __init__(self, units: Units, object_id: int) -> None:
        self._units = units
        self._object_id = object_id
        self.keeps_reservations = units.keep_reservations

    def gate_changed(self, unit: LogicalUnit, nexus: ITNexus, gate: Gate) -> None:
        self._units.gate_changed(self._object_id, nexus, gate)

    def attention_raised(self, unit: LogicalUnit, nexus: ITNexus, code: int) -> None:
        self._units.attention_raised(unit, self._object_id, nexus, code)

    async def persist(self, unit: LogicalUnit, state: bytes) -> None:
        try:
            await self._units.catalog.save_unit_state(self._object_id, state)
        except Exception as error:
            raise BackendError(getattr(error, "code", "io_write"), str(error)) from None

    async def abort_tasks(self, unit: LogicalUnit, nexus: ITNexus) -> None:
        await self._units.abort_tasks(self._object_id, nexus)

    async def quiesce(self, unit: LogicalUnit) -> None:
        await self._units.quiesce(self._object_id)

    async def relay(self, unit: LogicalUnit, nexus: ITNexus, command: Command) -> Result | None:
        return None if self._units.relay is None else await self._units.relay(self._object_id, nexus, command)

    async def freeze(self, unit: LogicalUnit) -> BlockBackend | None:
        return await self._units.frozen.freeze(unit.backend)

    async def thaw(self, unit: LogicalUnit, frozen: BlockBackend) -> None:
        await self._units.frozen.thaw(frozen)

    async def background(self, work: Coroutine[Any, Any, None]) -> None:
        self._units.background.spawn(work, f"background work on object {self._object_id}")

    def initiator_name(self, name: str) -> str:
        return normalize_name(name)

    def timestamp_ms(self) -> int:
        return time.time_ns() // 1_000_000


class Units:
    """Object id -> LogicalUnit. `gate_changed`, `attention_raised`, `abort_tasks` and `quiesce` are the session table's."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, *, frozen: FrozenMedia, background: Background,
                 gate_changed: GateChanged, abort_tasks: AbortTasks, quiesce: Quiesce,
                 attention_raised: AttentionRaised = lambda unit, object_id, nexus, code: None,
                 statistics: Callable[[int], IOStatistics] | None = None, keep_reservations: bool = False,
                 relay: Relay | None = None,
                 standing: Callable[[ObjectInfo], Standing] = lambda info: Standing(info.serial)) -> None:
        """`relay`: where another gateway serves the units. `standing`: as what an object is served."""
        self.pool = pool
        self.catalog = catalog
        self.frozen = frozen
        self.gate_changed = gate_changed
        self.attention_raised = attention_raised
        self.abort_tasks = abort_tasks
        self.quiesce = quiesce
        self.keep_reservations = keep_reservations
        self.relay = relay
        self._statistics = statistics
        self._standing = standing
        self._units: dict[int, LogicalUnit] = {}
        self.background = background

    def get(self, object_id: int) -> LogicalUnit | None:
        """The unit of an object, made at first need; None when there is no such object."""
        unit = self._units.get(object_id)
        if unit is None:
            info = self.pool.info(object_id)
            if info is not None:
                unit = self._units[object_id] = self._make(info)
        return unit

    def known(self, object_id: int) -> LogicalUnit | None:
        """The unit if someone has needed it."""
        return self._units.get(object_id)

    def object_id(self, unit: LogicalUnit) -> int:
        assert isinstance(unit.backend, PoolBackend)
        return unit.backend.object_id

    def resized(self, object_id: int) -> None:
        """The object may have a new size or physical block: initiators are told 2A/09."""
        unit = self._units.get(object_id)
        if unit is not None:
            assert isinstance(unit.backend, PoolBackend)
            before = unit.size_blocks, unit.backend.physical_block_bytes
            unit.backend.refresh()
            if (unit.size_blocks, unit.backend.physical_block_bytes) != before:
                unit.capacity_changed()

    def reverted(self, object_id: int) -> None:
        """The object's contents (and perhaps its size) were replaced: initiators are told 28/00."""
        unit = self._units.get(object_id)
        if unit is not None:
            unit.medium_changed()
            self.resized(object_id)

    def stands(self, target: Target, object_id: int) -> None:
        """What the object is served as may be something else now."""
        unit, info = self._units.get(object_id), self.pool.info(object_id)
        if unit is not None and info is not None:
            standing = self._standing(info)
            if unit.identity.serial != standing.serial:
                unit.identity = Identity(standing.serial, info.kind)
                unit.inquiry_changed()
            target.set_replica(unit, replica=standing.replica, standby=standing.standby)

    def forget(self, object_id: int) -> None:
        self._units.pop(object_id, None)

    def _make(self, info: ObjectInfo) -> LogicalUnit:
        hooks = _Hooks(self, info.id)
        standing = self._standing(info)
        identity = Identity(standing.serial, info.kind)
        backend = PoolBackend(self.pool, info, self._statistics)
        try:
            unit = LogicalUnit(identity, backend, hooks=hooks, state=self.catalog.unit_state(info.id))
            unit.replica, unit.standby = standing.replica, standing.standby
            return unit
        except ValueError as error:
            # Serving without its reservations could let a fenced host write: refuse the LUN instead.
            log.error("%s: its saved reservations and modes cannot be read: %s", info.name, error)
            raise LunetteError("damaged", f"{info.name}: its saved reservations and modes cannot be read") from None
