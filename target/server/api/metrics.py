"""Prometheus metrics, collected from the listings when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from target.server.api.listing import Listing

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LUN_COUNTERS = {
    "fast_reads": "READ commands answered by the data plane", "fast_writes": "WRITE commands answered by the data plane",
    "fast_other": "other commands answered by the data plane", "slow": "commands answered by the control plane",
    "read_bytes": "bytes read", "write_bytes": "bytes written", "errors": "commands that ended in an error",
}


class _Collector:
    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def collect(self) -> Iterable[Metric]:
        stats: dict[str, Any] = self._listing.stats()
        for key, help_text in LUN_COUNTERS.items():
            family = CounterMetricFamily(f"lunette_lun_{key}", help_text, labels=["name"])
            for row in stats["luns"]:
                family.add_metric([row["name"]], row[key])
            yield family
        for key, value in stats["pool"].items():
            if isinstance(value, (int, float)):
                yield GaugeMetricFamily(f"lunette_pool_{key}", f"pool: {key}", value=float(value))
        for key in sorted({key for loop in stats["reactors"] for key in loop}):
            gauge = GaugeMetricFamily(f"lunette_reactor_{key}", f"reactor: {key}", labels=["reactor"])
            for index, loop in enumerate(stats["reactors"]):
                gauge.add_metric([str(index)], loop.get(key, 0))
            yield gauge
        yield GaugeMetricFamily("lunette_sessions", "normal sessions", value=stats["sessions"])
        yield GaugeMetricFamily("lunette_connections", "open connections", value=stats["connections"])
        yield GaugeMetricFamily("lunette_uptime_seconds", "seconds since start", value=stats["uptime_s"])
        for key, value in stats["logins"].items():
            yield CounterMetricFamily(f"lunette_logins_{key}", f"logins: {key}", value=value)


class Metrics:
    """The /metrics text of one daemon."""

    def __init__(self, listing: Listing) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(listing))

    def text(self) -> bytes:
        return generate_latest(self._registry)
