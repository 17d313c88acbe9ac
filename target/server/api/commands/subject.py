"""What commands of every subject do: operations of the pool and changes of the catalog, with errors for people; descriptions."""

from __future__ import annotations

from typing import Any

from target.errors import LunetteError
from target.models.hosts import HostSet
from target.models.objects import Set
from target.server.api.served import Served
from target.server.command import Json
from target.volumes.gateway import ObjectInfo, PoolError, pool_error
from target.volumes.lineage import Lineage
from target.volumes.luns import EVERYONE, Connection
from target.volumes.rates import OBJECT


class Subject:
    """Commands of one subject, on the parts of a daemon."""

    def __init__(self, served: Served, lineage: Lineage) -> None:
        self._served = served
        self._pool = served.pool
        self._catalog = served.catalog
        self.lineage = lineage

    def describe(self, info: ObjectInfo) -> Json:
        """An object as commands that make or change one return it."""
        connections = self._catalog.connections_of(info.id)
        lun = connections[0].lun if connections else None
        return {"name": info.name, "kind": info.kind, "id": info.id, "size_bytes": info.size_bytes, "lun": lun,
                "url": None if lun is None else self._served.access.url(lun), **self.limits(OBJECT, info.id), "note": None}

    def limits(self, kind: str, number: int) -> Json:
        """What an object or host may do a second; null: any."""
        rates = self._served.limits.rates(kind, number)
        return {"iops": rates.iops or None if rates else None,
                "bandwidth_bytes": rates.bandwidth_bytes or None if rates else None,
                "burst_seconds": rates.burst_seconds if rates else None}

    @staticmethod
    def _limits_given(args: Set | HostSet) -> bool:
        return any(each is not None for each in (args.iops, args.bandwidth_bytes, args.burst_seconds))

    async def _set_limits(self, kind: str, number: int, args: Set | HostSet) -> None:
        if self._limits_given(args):
            await self._served.limits.set(kind, number, iops=args.iops, bandwidth_bytes=args.bandwidth_bytes,
                                          burst_seconds=args.burst_seconds)

    def _current(self, info: ObjectInfo) -> ObjectInfo:
        return self._pool.info(info.id) or info

    async def _connect(self, info: ObjectInfo, host_id: int = EVERYONE, lun: int | None = None) -> Connection:
        """Connect an object; a number is not chosen while a session that sees this table takes it for something else."""
        table, initiators = self._served.table, None
        if host_id != EVERYONE:
            initiators = self._catalog.host(self._catalog.host_name(host_id)).initiators
        connection = await self._catalog.connect(info, host_id, lun, lambda number: table.holds(number, initiators))
        table.refresh()
        return connection

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
