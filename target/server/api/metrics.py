"""Prometheus metrics: what is known when they are asked for, as families with types, base units and help.

Names of volumes are labels; how many series that can become is bounded (target/server/api/volume_series.py).
"""

from __future__ import annotations

import asyncio
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from target.server.api.accounting import Accounting
from target.server.api.metric_names import POOL, REACTOR, VOLUME_COUNTERS, VOLUME_GAUGES, Name
from target.server.api.served import Served
from target.server.api.volume_series import OTHERS, VolumeSeries
from target.server.caller import CALLER
from target.server.iscsi.dataplane import DIRECTIONS, LATENCY_BOUNDS_US
from target.server.iscsi.portal import Portals
from target.server.iscsi.statistics import Statistics
from target.version import VERSION
from target.volumes.gateway import HIDDEN, ObjectInfo
from target.volumes.rates import OBJECT

CHUNK = 256                     # objects between which others get their turn
OTHERS_LABEL = "(others)"       # no volume is called so
BUCKETS = [*(repr(bound / 1e6) for bound in LATENCY_BOUNDS_US), "+Inf"]
Collect = Callable[[], Iterable[Metric]]


class Metrics:
    """The /metrics document of one daemon."""

    def __init__(self, served: Served, *, statistics: Statistics, portals: Portals, started_s: float) -> None:
        self._served = served
        self._statistics = statistics
        self._portals = portals
        self._started_s = started_s
        self._accounting = Accounting(served.pool)
        self._series = VolumeSeries()
        self._more: list[Collect] = []

    def add(self, collect: Collect) -> None:
        """Families of a part that is not always there."""
        self._more.append(collect)

    async def document(self, accept: str) -> tuple[bytes, str]:
        """The text in the format that the asker takes, and its Content-Type."""
        volumes, snapshots, kinds = await self._objects()
        self._series.settle(info.id for info in volumes)
        self._series.take(self._figures())
        own = [info for info in volumes if self._series.has_own(info.id)]
        accounting = self._accounting.round(len(own))
        for at in range(0, len(own), CHUNK):
            await accounting.look(own[at:at + CHUNK], at, CHUNK)
        self._accounting.keep({info.id for info in own})
        registry = CollectorRegistry(auto_describe=False)
        caller = CALLER.get()
        own = [info for info in own if caller.sees(info.name)]
        registry.register(_Collected([*self._sizes(own, snapshots), *self._work(own)] if caller.prefix else [
            *self._daemon(kinds, len(volumes) - len(own)), *self._pool(), *self._reactors(), *self._sizes(own, snapshots),
            *self._work(volumes), *(family for collect in self._more for family in collect())]))
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    async def _objects(self) -> tuple[list[ObjectInfo], Counter[int], Counter[str]]:
        """Volumes and clones, oldest first; how many snapshots each has; how many objects of each kind there are."""
        volumes: list[ObjectInfo] = []
        snapshots: Counter[int] = Counter()
        kinds: Counter[str] = Counter(volume=0, snapshot=0, clone=0)
        for number, object_id in enumerate(sorted(self._served.pool.names().values())):
            info = self._served.pool.info(object_id)
            if info is not None:
                kinds[info.kind] += 1
                if info.kind == "snapshot":
                    snapshots[info.origin_id] += 1
                else:
                    volumes.append(info)
            if number % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
        return volumes, snapshots, kinds

    def _figures(self) -> dict[int, tuple[ObjectInfo, list[int], int]]:
        """By object: its counters in the order of VOLUME_COUNTERS, then sum and buckets of each direction; what is in flight."""
        latencies = self._statistics.latencies()
        nothing = ([0] * len(BUCKETS), 0)
        found = {}
        for object_id, row in self._statistics.objects().items():
            info = self._served.pool.info(object_id)
            if info is not None and not info.name.startswith(HIDDEN):
                counts = [row[key] for key in VOLUME_COUNTERS]
                for direction in DIRECTIONS:
                    buckets, sum_us = latencies.get(object_id, {}).get(direction, nothing)
                    counts += [sum_us, *buckets]
                found[object_id] = info, counts, row["in_flight"]
        return found

    # -- families ------------------------------------------------------------------------------------------------
    def _daemon(self, kinds: Mapping[str, int], without: int) -> Iterable[Metric]:
        build = GaugeMetricFamily("lunette_build_info", "What runs: always 1.", labels=["version", "python", "pool"])
        build.add_metric([VERSION, platform.python_version(), self._served.pool.pool.name], 1)
        yield build
        yield _gauge("lunette_start_time_seconds", "When the daemon began to serve, in seconds since 1970.", self._started_s)
        yield _by("lunette_objects", "Objects in the pool, by kind.", "kind", kinds)
        yield _gauge("lunette_volumes_without_series", "Volumes and clones that have no series of their own, because there are "
                     f"so many: their work is summed under {OTHERS_LABEL}.", without)
        yield _gauge("lunette_sessions", "Normal iSCSI sessions.", len(self._served.table.sessions()))
        hosts = Counter({host.name: 0 for host in self._served.catalog.hosts()})
        for session in self._served.table.sessions():
            host = self._served.catalog.host_of(session.nexus.initiator_name)
            hosts["" if host is None else host.name] += 1
        yield _by("lunette_host_sessions", "iSCSI sessions of a host; those of initiators of no host under the empty name.",
                  "host", hosts)
        yield _gauge("lunette_connections", "Open TCP connections of initiators, in login or beyond.", self._portals.connections)
        logins = CounterMetricFamily("lunette_logins_total", "Connections that tried to log in, and how that ended.",
                                     labels=["result"])
        for result in ("logins", "refused", "failed"):
            logins.add_metric(["accepted" if result == "logins" else result], self._portals.counts[result])
        yield logins

    def _pool(self) -> Iterable[Metric]:
        pool = self._served.pool
        figures: dict[str, float] = dict(pool.stats())
        figures["size_bytes"] = pool.pool.size_bytes
        figures["read_only"] = bool(pool.pool.read_only or figures.get("failed"))
        figures["provisioned_bytes"] = pool.provisioned()[1]
        figures["cut_off_bytes"] = self._served.monitor.missing_bytes
        figures["lost_name"] = bool(self._served.monitor.lost_name)
        for name in POOL:
            if name.key in figures:
                yield _one(name, figures[name.key] * name.scale)
        thresholds = self._served.catalog.thresholds
        yield _by("lunette_pool_threshold_ratio", "How full the pool may be before initiators and logs are told.", "level",
                  {"soft": thresholds.soft_percent / 100, "hard": thresholds.hard_percent / 100})

    def _reactors(self) -> Iterable[Metric]:
        loops = self._statistics.loops()
        for name in REACTOR:
            family = name.family(["reactor"])
            for index, loop in enumerate(loops):
                family.add_metric([str(index)], loop[name.key] * name.scale)
            yield family

    def _sizes(self, volumes: Iterable[ObjectInfo], snapshots: Mapping[int, int]) -> Iterable[Metric]:
        families = {name.key: name.family(["volume"]) for name in VOLUME_GAUGES}
        for info in volumes:
            values = {"size_bytes": info.size_bytes, "mapped_bytes": info.mapped_bytes, "quota_bytes": info.quota_bytes,
                      "reserve_bytes": info.reserve_bytes, "exclusive_bytes": self._accounting.of(info.id),
                      "snapshots": snapshots[info.id], "iops": None, "bandwidth_bytes": None}
            rates = self._served.limits.rates(OBJECT, info.id)
            if rates is not None:
                values |= {"iops": rates.iops or None, "bandwidth_bytes": rates.bandwidth_bytes or None}
            for key, value in values.items():
                if value is not None:
                    families[key].add_metric([info.name], value)
        return families.values()

    def _work(self, volumes: Iterable[ObjectInfo]) -> Iterable[Metric]:
        """What commands did to volumes, and to the snapshots of each."""
        labels = ["volume", "source"]
        in_flight = GaugeMetricFamily("lunette_volume_commands_in_flight", "Commands that are not answered yet: the depth of the "
                                      "queue that initiators keep.", labels=labels)
        counters = [name.family(labels) for name in VOLUME_COUNTERS.values()]
        took = HistogramMetricFamily(
            "lunette_volume_command_duration_seconds", "From the arrival of a command's header to the sending of its answer, "
            "waits for data, for memory and for limits included.", labels=[*labels, "operation"])
        names = {info.id: info.name for info in volumes}
        names.update({} if CALLER.get().prefix else {OTHERS: OTHERS_LABEL})
        for (volume_id, source), sums in sorted(self._series.sums.items()):
            if volume_id not in names:
                continue                # another's than who asks may see
            where = [names[volume_id], source]
            in_flight.add_metric(where, sums.in_flight)
            for name, family, value in zip(VOLUME_COUNTERS.values(), counters, sums.counts, strict=False):
                family.add_metric(where, value * name.scale)
            width = len(BUCKETS) + 1
            for index, direction in enumerate(DIRECTIONS):
                sum_us, *buckets = sums.counts[len(counters) + index * width:len(counters) + (index + 1) * width]
                if any(buckets):
                    took.add_metric([*where, direction], list(zip(BUCKETS, accumulate(buckets), strict=True)), sum_us / 1e6)
        return [in_flight, *counters, took]


class _Collected:
    """Families that were made before, as a registry asks for them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families



def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _one(name: Name, value: float) -> Metric:
    family: Any = name.family([])
    family.add_metric([], value)
    return family  # type: ignore[no-any-return]
