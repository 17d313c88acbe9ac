"""Limits as sessions have them: one of the data plane's for each volume and host that is limited, given to every LUN it concerns.

What the rates are is kept by target/volumes/rates.py; how they are held is core/wire/limit.pyx and core/wire/delay.pyx.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from target.server.iscsi.dataplane import Limit, Reactor
from target.server.iscsi.nexus import NexusSession
from target.volumes.catalog import Catalog
from target.volumes.rates import HOST, OBJECT, Rates, RateStore


class LunLimits(TypedDict):
    """Arguments of `Reactor.set_lun`."""

    volume_limit: Limit | None
    host_limit: Limit | None


class Limits:
    """Those of one daemon."""

    def __init__(self, store: RateStore, catalog: Catalog, reactors: list[Reactor],
                 sessions: Callable[[], Iterable[NexusSession]]) -> None:
        self._store = store
        self._catalog = catalog
        self._reactors = reactors
        self._sessions = sessions
        self._made: dict[tuple[str, int], Limit] = {}

    def rates(self, kind: str, number: int) -> Rates | None:
        """Of an object or a host; None: no limit."""
        return self._store.of(kind, number)

    def of_lun(self, initiator_name: str, object_id: int) -> LunLimits:
        """What an object's LUN in a session of this initiator keeps to."""
        host = self._catalog.host_of(initiator_name)
        return {"volume_limit": self._limit(OBJECT, object_id),
                "host_limit": None if host is None else self._limit(HOST, host.id)}

    async def set(self, kind: str, number: int, *, iops: int | None, bandwidth_bytes: int | None,
                  burst_seconds: float | None) -> None:
        """Change what is given, in the store and for whatever waits now. LunetteError."""
        before = self._store.of(kind, number) or Rates()
        rates = Rates(before.iops if iops is None else iops,
                      before.bandwidth_bytes if bandwidth_bytes is None else bandwidth_bytes,
                      before.burst_seconds if burst_seconds is None else burst_seconds)
        await self._store.save(kind, number, rates)
        self.apply(kind, number)

    def adopt(self, changes: Mapping[str, bytes | None]) -> None:
        """Take over what of these changes of the pool's store concerns limits, for whatever waits now, too."""
        self._store.adopt(changes)
        for key in (key for key in changes if key.startswith("rates/")):
            _, kind, number = key.split("/")
            self.apply(kind, int(number))

    def apply(self, kind: str, number: int) -> None:
        """Tell the data plane what the store says now."""
        rates = self._store.of(kind, number)
        limit = self._made.get((kind, number))
        if limit is not None and rates is not None:
            limit.change(ops_per_second=rates.iops, bytes_per_second=rates.bandwidth_bytes, burst_s=rates.burst_seconds)
            for reactor in self._reactors:
                reactor.limit_changed(limit)
            return
        self._made.pop((kind, number), None)
        for session in self._sessions():
            self.settle(session, None if kind == HOST else number)

    def settle(self, session: NexusSession, object_id: int | None = None) -> None:
        """Tell the data plane what the LUNs of a session (of one object) keep to now."""
        for lun, each in session.luns.items():
            if object_id in (None, each):
                session.reactor.set_lun_limits(session.number, lun, **self.of_lun(session.nexus.initiator_name, each))

    async def forget_object(self, object_id: int) -> None:
        await self._forget(OBJECT, object_id)

    async def forget_host(self, host_id: int) -> None:
        await self._forget(HOST, host_id)

    async def _forget(self, kind: str, number: int) -> None:
        self._made.pop((kind, number), None)
        if self._store.of(kind, number) is not None:
            await self._store.save(kind, number, Rates())

    def _limit(self, kind: str, number: int) -> Limit | None:
        rates = self._store.of(kind, number)
        if rates is None:
            return None
        made = self._made.get((kind, number))
        if made is None:
            made = self._made[kind, number] = Limit(ops_per_second=rates.iops, bytes_per_second=rates.bandwidth_bytes,
                                                    burst_s=rates.burst_seconds)
        return made
