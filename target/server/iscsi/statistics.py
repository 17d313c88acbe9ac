"""Counts of the data plane by object: commands, bytes, errors, how long they took; summed over reactors, since the start."""

from __future__ import annotations

import time
from typing import Any

from target.scsi import IOStatistics
from target.server.iscsi.sessions import SessionTable
from target.volumes.gateway import AsyncPool

COUNTS = ("fast_reads", "fast_writes", "fast_other", "slow", "read_bytes", "write_bytes", "errors", "delayed", "delayed_us",
          "in_flight")
FRESH_SECONDS = 0.2
Latency = dict[str, tuple[list[int], int]]      # direction -> (commands by bucket, sum of microseconds); core/wire/latency.pyx


class Statistics:
    """Reads the reactors' counters; for initiators that ask again and again, at most every FRESH_SECONDS."""

    def __init__(self, table: SessionTable, pool: AsyncPool) -> None:
        self._table = table
        self._pool = pool
        self._objects: dict[int, dict[str, int]] = {}
        self._loops: list[dict[str, int]] = []
        self._connections: list[dict[str, Any]] = []
        self._read_s = 0.0

    def objects(self) -> dict[int, dict[str, int]]:
        """Object id -> COUNTS."""
        self._refresh()
        return self._objects

    def latencies(self) -> dict[int, Latency]:
        """Object id -> how long its commands took, of objects that were used."""
        found: dict[int, Latency] = {}
        for reactor in self._table.reactors:
            for object_id, latency in reactor.latencies().items():
                sums = found.get(object_id)
                found[object_id] = latency if sums is None else {
                    name: ([a + b for a, b in zip(sums[name][0], counts, strict=True)], sums[name][1] + sum_us)
                    for name, (counts, sum_us) in latency.items()}
        return found

    async def forget_object(self, object_id: int) -> None:
        """A deleted object counts no more."""
        for reactor in self._table.reactors:
            reactor.forget_object(object_id)

    def loops(self) -> list[dict[str, int]]:
        """Each reactor's own counters."""
        self._refresh()
        return self._loops

    def connections(self) -> list[dict[str, Any]]:
        """Every connection's counters, with its reactor's index."""
        self._refresh()
        return self._connections

    def of_object(self, object_id: int) -> IOStatistics:
        """For the SCSI log page: commands and blocks."""
        self._refresh(FRESH_SECONDS)
        counts = self._objects.get(object_id)
        info = self._pool.info(object_id)
        if counts is None or info is None:
            return IOStatistics()
        return IOStatistics(read_commands=counts["fast_reads"], write_commands=counts["fast_writes"],
                            read_blocks=counts["read_bytes"] // info.block_bytes,
                            written_blocks=counts["write_bytes"] // info.block_bytes)

    def _refresh(self, old_enough_seconds: float = 0.0) -> None:
        now = time.monotonic()
        if now - self._read_s < old_enough_seconds:
            return
        self._read_s = now
        self._objects, self._loops, self._connections = {}, [], []
        for index, reactor in enumerate(self._table.reactors):
            stats = reactor.stats()
            self._loops.append(dict(stats["loop"]))
            self._connections += [{"reactor": index, **each} for each in stats["connections"]]
            for row in stats["objects"]:
                sums = self._objects.setdefault(row["object_id"], dict.fromkeys(COUNTS, 0))
                for name in COUNTS:
                    sums[name] += row[name]  # type: ignore[literal-required]
