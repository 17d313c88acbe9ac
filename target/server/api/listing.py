"""What the listings say: objects with their accounting, sessions, hosts, counters, the pool; all plain JSON values."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from typing import Any

from target.server.api.accounting import Accounting
from target.server.api.commands.management import Management
from target.server.api.served import Served
from target.server.caller import CALLER
from target.server.iscsi.dataplane import DIRECTIONS
from target.server.iscsi.portal import Portals
from target.server.iscsi.statistics import Statistics
from target.volumes.catalog import EVERYONE_NAME, read_labels
from target.volumes.damage import describe
from target.volumes.gateway import ObjectInfo, TraceEvent
from target.volumes.rates import OBJECT

Json = dict[str, Any]
CHUNK = 256
ANOTHER_HOST = "another host"       # no name: those have no spaces


def _seen(name: str) -> str | None:
    """A name that is told to who may see it."""
    return name if name and CALLER.get().sees(name) else None


def _seen_host(name: str) -> str:
    """Whom an object is connected to. Who may not see the host still sees that there is one."""
    return name if name == EVERYONE_NAME or CALLER.get().sees(name) else ANOTHER_HOST


def _event(event: TraceEvent) -> str:
    return f"{event.ago_s:.0f} s ago: {event.text}" + (f" ({event.times} times)" if event.times > 1 else "")


class Listing:
    """Reads the daemon's state for people and programs."""

    def __init__(self, served: Served, management: Management, *, statistics: Statistics, portals: Portals,
                 ownership: Callable[[], Json], started_s: float) -> None:
        """`ownership` says who serves the pool, for `pool`; `started_s` is when the daemon began."""
        self._served = served
        self._management = management
        self._statistics = statistics
        self._portals = portals
        self._ownership = ownership
        self._started_s = started_s
        self._accounting = Accounting(served.pool)

    async def objects(self, name: str | None = None, *, after: str = "", limit: int | None = None) -> AsyncIterator[list[Json]]:
        """All objects (or one) by name, some hundreds at a time: others get their turn between. LunetteError: not_found.

        Only those that the caller may see, behind a name, at most so many.
        """
        pool = self._served.pool
        sees = CALLER.get().sees
        names = [self._served.catalog.find(name).name] if name is not None else sorted(
            each for each in pool.names() if sees(each) and each > after)[:limit]
        accounting = self._accounting.round(len(names))
        for at in range(0, len(names), CHUNK):
            infos = [info for info in map(pool.lookup, names[at:at + CHUNK]) if info is not None]
            await accounting.look(infos, at, CHUNK)
            yield self._rows(infos)
            await asyncio.sleep(0)
        if name is None:
            self._accounting.keep(set(pool.names().values()))

    def _rows(self, infos: Sequence[ObjectInfo]) -> list[Json]:
        """Each object's size, mapped and exclusive bytes, origin, LUN, URL and the rest."""
        catalog, lineage = self._served.catalog, self._management.lineage
        used = {object_id for session in self._served.table.sessions() for object_id in session.used}
        url = self._served.access.url(0).removesuffix("0") if infos else ""
        damaged = Counter(page.object_id for page in self._served.pool.damage() if page.kind == "node")
        rows = []
        for info in infos:
            connections = catalog.connections_of(info.id)
            lun = connections[0].lun if connections else None
            rows.append({
                "name": info.name, "kind": info.kind, "size_bytes": info.size_bytes, "mapped_bytes": info.mapped_bytes,
                "exclusive_bytes": self._accounting.of(info.id), "origin": _seen(lineage.origin(info)), "lun": lun,
                "url": None if lun is None else f"{url}{lun}", "id": info.id, "block_bytes": info.block_bytes,
                "origin_id": info.origin_id or None, "origin_deleted": lineage.origin_deleted(info),
                "orphan": lineage.is_orphan(info),
                "physical_block_bytes": info.physical_block_bytes,
                "created_s": info.created_s, "serial": info.serial, "guid": self._served.replicas.guid(info),
                "labels": read_labels(info),
                "checksum": info.checksum, "quota_bytes": info.quota_bytes, "reserve_bytes": info.reserve_bytes,
                "holds": self._served.stored_holds.tags(info.id),
                **self._management.objects.limits(OBJECT, info.id), "in_use": info.id in used,
                "damaged_pages": damaged[info.id],
                "connections": [{"host": _seen_host(catalog.host_name(each.host_id)), "lun": each.lun} for each in connections],
            })
        return rows

    def sessions(self) -> list[Json]:
        """Normal sessions, oldest first."""
        rows = []
        for session in sorted(self._served.table.sessions(), key=lambda each: each.started_s):
            host = self._served.catalog.host_of(session.nexus.initiator_name)
            rows.append({
                "initiator": session.nexus.initiator_name, "isid": session.nexus.isid.hex(), "peer": session.peer,
                "host": host.name if host else None, "tsih": session.params.tsih, "started_s": session.started_s,
                "connections": len(session.connections), "luns": len(session.luns),
                "in_use": sorted(lun for lun, each in session.luns.items() if each in session.used),
                "header_digest": session.params.header_digest, "data_digest": session.params.data_digest,
                "authenticated": session.params.authenticated, "reactor": self._served.table.reactors.index(session.reactor),
                "slow_commands_running": len(session.running)})
        return rows

    def hosts(self) -> list[Json]:
        return [self._management.hosts.describe_host(host) for host in self._served.catalog.hosts()]

    def stats(self) -> Json:
        """Counters per LUN, the pool's and the reactors'; for who has a prefix those of its objects alone."""
        caller = CALLER.get()
        pool = self._served.pool
        counts = self._statistics.objects()
        rows = []
        for object_id in sorted(counts):
            info = pool.info(object_id)
            if info is not None and caller.sees(info.name):
                connections = self._served.catalog.connections_of(object_id)
                row = counts[object_id]
                rows.append({"name": info.name, "lun": connections[0].lun if connections else None,
                             "fast": row["fast_reads"] + row["fast_writes"] + row["fast_other"], **row})
        latency = {direction: {"commands": 0, "sum_us": 0} for direction in DIRECTIONS}
        for object_id, took in self._statistics.latencies().items():
            info = pool.info(object_id)
            if info is not None and caller.sees(info.name):
                for direction, (buckets, sum_us) in took.items():
                    latency[direction]["commands"] += sum(buckets)
                    latency[direction]["sum_us"] += sum_us
        if caller.prefix:
            return {"luns": rows, "pool": {}, "reactors": [], "sessions": 0, "connections": 0, "logins": {}, "latency": latency,
                    "uptime_s": time.time() - self._started_s}
        return {"luns": rows, "pool": self.pool(), "reactors": self._statistics.loops(),
                "sessions": len(self._served.table.sessions()), "connections": self._portals.connections,
                "logins": dict(self._portals.counts), "latency": latency, "uptime_s": time.time() - self._started_s}

    def pool(self) -> Json:
        """The pool: its name, state and all numbers the engine keeps. LunetteError forbidden for who has a prefix."""
        CALLER.get().check_whole()
        native = self._served.pool.pool
        objects, logical = self._served.pool.provisioned()
        stats = self._served.pool.stats()
        return {"name": native.name, "uuid": native.uuid.hex(), **self._ownership(), "size_bytes": native.size_bytes,
                "read_only": bool(native.read_only or stats.get("failed")), "objects": objects, "provisioned_bytes": logical,
                "overcommit": round(logical / native.size_bytes, 3) if native.size_bytes else None,
                "target": self._served.access.target_name, "portals": [str(each) for each in self._served.access.portals],
                "open": self._served.access.open_access, "space": self._served.monitor.state,
                "failure": self._served.pool.failure(),
                "cut_off_bytes": self._served.monitor.missing_bytes, "lost_name": self._served.monitor.lost_name,
                "events": [_event(event) for event in self._served.pool.trace()],
                "damage": [describe(page, self._served.pool.info) for page in self._served.pool.damage()],
                **asdict(self._served.catalog.thresholds), **stats}
