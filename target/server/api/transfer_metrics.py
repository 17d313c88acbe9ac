"""Families of transfers for Prometheus (target/server/background/transfers.py)."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from target.server.background.transfers import Transfers

KINDS = ("send", "receive", "mirror", "resync", "backup", "restore", "verify", "check", "gc")
RESULTS = ("done", "failed", "cancelled")


def families(transfers: Transfers) -> Iterable[Metric]:
    """Bytes, how many run, how they ended, and when one last succeeded for each volume."""
    moved = CounterMetricFamily("lunette_transfer_bytes", "Bytes of streams and backups.", labels=["kind"], unit="bytes")
    running = GaugeMetricFamily("lunette_transfers_running", "Streams and backups under way.", labels=["kind"])
    ended = CounterMetricFamily("lunette_transfers_ended", "Streams and backups that ended.", labels=["kind", "result"])
    last = GaugeMetricFamily("lunette_transfer_last_success_timestamp_seconds", "When one last succeeded, since the start.",
                             labels=["kind", "volume"], unit="seconds")
    for kind in KINDS:
        moved.add_metric([kind], transfers.moved_bytes()[kind])
        running.add_metric([kind], transfers.running()[kind])
        for result in RESULTS:
            ended.add_metric([kind, result], transfers.ended[kind, result])
    for (kind, volume), at_s in transfers.last_success_s.items():
        last.add_metric([kind, volume], at_s)
    return moved, running, ended, last
