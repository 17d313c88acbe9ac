"""What the listings say: objects with their accounting, sessions, hosts, counters, the pool; all plain JSON values."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from target.server.api.commands import Commands
from target.volumes.catalog import read_labels
from target.volumes.damage import describe
from target.volumes.gateway import ObjectInfo, TraceEvent

if TYPE_CHECKING:
    from target.server.daemon import Daemon

Json = dict[str, Any]
EXACT_OBJECTS = 512        # up to so many objects, exclusive bytes are always computed anew
ACCOUNTING_SECONDS = 0.2   # beyond, for so long; the rest shows what was last known, or null
CHUNK = 256


def _event(event: TraceEvent) -> str:
    return f"{event.ago_s:.0f} s ago: {event.text}" + (f" ({event.times} times)" if event.times > 1 else "")


class Listing:
    """Reads the daemon's state for people and programs."""

    def __init__(self, daemon: Daemon, commands: Commands) -> None:
        self._daemon = daemon
        self._commands = commands
        self._exclusive: dict[int, int | None] = {}
        self._next_account = 0

    async def objects(self, name: str | None = None) -> AsyncIterator[list[Json]]:
        """All objects (or one) by name, some hundreds at a time: others get their turn between. LunetteError: not_found."""
        pool = self._daemon.pool
        names = sorted(pool.names()) if name is None else [self._daemon.catalog.find(name).name]
        exact = len(names) <= EXACT_OBJECTS
        first = 0 if exact else self._next_account   # where the last listing ran out of time
        spent_seconds = 0.0
        for at in range(0, len(names), CHUNK):
            infos = [info for info in map(pool.lookup, names[at:at + CHUNK]) if info is not None]
            if exact or (at >= first and spent_seconds < ACCOUNTING_SECONDS):
                started = time.monotonic()
                values = await pool.call("exclusive", object_ids=[info.id for info in infos])
                self._exclusive.update({info.id: values.get(info.id) for info in infos})     # None: a page cannot be had
                spent_seconds += time.monotonic() - started
                self._next_account = 0 if at + CHUNK >= len(names) else at + CHUNK
            yield self._rows(infos)
            await asyncio.sleep(0)
        if name is None and len(self._exclusive) > 2 * len(names):
            alive = set(pool.names().values())
            self._exclusive = {key: value for key, value in self._exclusive.items() if key in alive}

    def _rows(self, infos: Sequence[ObjectInfo]) -> list[Json]:
        """Each object's size, mapped and exclusive bytes, origin, LUN, URL and the rest."""
        catalog, lineage = self._daemon.catalog, self._commands.lineage
        used = {object_id for session in self._daemon.table.sessions() for object_id in session.used}
        url = self._daemon.url(0).removesuffix("0") if infos else ""
        damaged = Counter(page.object_id for page in self._daemon.pool.damage() if page.kind == "node")
        rows = []
        for info in infos:
            connections = catalog.connections_of(info.id)
            lun = connections[0].lun if connections else None
            rows.append({
                "name": info.name, "kind": info.kind, "size_bytes": info.size_bytes, "mapped_bytes": info.mapped_bytes,
                "exclusive_bytes": self._exclusive.get(info.id), "origin": lineage.origin(info) or None, "lun": lun,
                "url": None if lun is None else f"{url}{lun}", "id": info.id, "block_bytes": info.block_bytes,
                "origin_id": info.origin_id or None, "origin_deleted": lineage.origin_deleted(info),
                "orphan": lineage.is_orphan(info),
                "physical_block_bytes": info.physical_block_bytes,
                "created_s": info.created_s, "serial": info.serial, "labels": read_labels(info),
                "checksum": info.checksum, "quota_bytes": info.quota_bytes, "reserve_bytes": info.reserve_bytes,
                "holds": self._daemon.stored_holds.tags(info.id),
                "in_use": info.id in used, "damaged_pages": damaged[info.id],
                "connections": [{"host": catalog.host_name(each.host_id), "lun": each.lun} for each in connections],
            })
        return rows

    def sessions(self) -> list[Json]:
        """Normal sessions, oldest first."""
        rows = []
        for session in sorted(self._daemon.table.sessions(), key=lambda each: each.started_s):
            host = self._daemon.catalog.host_of(session.nexus.initiator_name)
            rows.append({
                "initiator": session.nexus.initiator_name, "isid": session.nexus.isid.hex(), "peer": session.peer,
                "host": host.name if host else None, "tsih": session.params.tsih, "started_s": session.started_s,
                "connections": len(session.connections), "luns": len(session.luns),
                "in_use": sorted(lun for lun, each in session.luns.items() if each in session.used),
                "header_digest": session.params.header_digest, "data_digest": session.params.data_digest,
                "authenticated": session.params.authenticated, "reactor": self._daemon.reactors.index(session.reactor),
                "slow_commands_running": len(session.running)})
        return rows

    def hosts(self) -> list[Json]:
        return [self._commands.describe_host(host) for host in self._daemon.catalog.hosts()]

    def stats(self) -> Json:
        """Counters per LUN, the pool's and the reactors'."""
        pool = self._daemon.pool
        counts = self._daemon.statistics.objects()
        rows = []
        for object_id in sorted(counts):
            info = pool.info(object_id)
            if info is not None:
                connections = self._daemon.catalog.connections_of(object_id)
                row = counts[object_id]
                rows.append({"name": info.name, "lun": connections[0].lun if connections else None,
                             "fast": row["fast_reads"] + row["fast_writes"] + row["fast_other"], **row})
        return {"luns": rows, "pool": self.pool(), "reactors": self._daemon.statistics.loops(),
                "sessions": len(self._daemon.table.sessions()), "connections": self._daemon.portals.connections,
                "logins": dict(self._daemon.portals.counts), "uptime_s": time.time() - self._daemon.started_s}

    def _ownership(self) -> Json:
        """Who this process is in the pool's ownership record, and who else on this machine goes by the pool's identity."""
        record = getattr(self._daemon.device, "owner", None)
        shared = self._daemon.shared_identity
        return {**({"owner": record.describe(), "lease_seconds": record.lease_s} if record is not None else {}),
                **({"shared_identity": shared} if shared else {})}

    def pool(self) -> Json:
        """The pool: its name, state and all numbers the engine keeps."""
        native = self._daemon.pool.pool
        objects, logical = self._daemon.pool.provisioned()
        stats = self._daemon.pool.stats()
        return {"name": native.name, "uuid": native.uuid.hex(), **self._ownership(), "size_bytes": native.size_bytes,
                "read_only": bool(native.read_only or stats.get("failed")), "objects": objects, "provisioned_bytes": logical,
                "overcommit": round(logical / native.size_bytes, 3) if native.size_bytes else None,
                "target": self._daemon.target_name, "portals": [str(each) for each in self._daemon.access.portals],
                "open": self._daemon.access.open_access, "space": self._daemon.monitor.state,
                "failure": self._daemon.pool.failure(),
                "cut_off_bytes": self._daemon.monitor.missing_bytes,
                "events": [_event(event) for event in self._daemon.pool.trace()],
                "damage": [describe(page, self._daemon.pool.info) for page in self._daemon.pool.damage()],
                **asdict(self._daemon.catalog.thresholds), **stats}
