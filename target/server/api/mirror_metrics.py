"""Metrics of mirrors: a series a mirrored volume and figure (docs/monitoring.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import get_args

from prometheus_client.core import Metric

from target.models.answers import MirrorState
from target.server.api.metric_names import Name
from target.server.command import Json

LABELS = ["volume", "peer", "role"]
STATES = get_args(MirrorState)
MIRROR = (
    Name("lag_s", "lunette_mirror_lag_seconds", "Since the last snapshot that both sides have was taken."),
    Name("rpo_s", "lunette_mirror_rpo_seconds", "From one snapshot to the next, as it is meant to be."),
    Name("pending_bytes", "lunette_mirror_pending_bytes", "Bytes that were written or unmapped since that snapshot."),
    Name("round_s", "lunette_mirror_round_seconds", "How long the last round took."),
    Name("last_success_s", "lunette_mirror_last_success_timestamp_seconds", "When a round last ended well, since the start."),
    Name("epoch", "lunette_mirror_epoch", "Times that a side was promoted, and one."),
    Name("rounds", "lunette_mirror_rounds_total", "Rounds that ended well."),
    Name("skipped", "lunette_mirror_skipped_rounds_total", "Rounds that were left out because the one before took too long."),
    Name("sent_bytes", "lunette_mirror_sent_bytes_total", "Bytes of streams sent to the replica."),
)
STATE = Name("state", "lunette_mirror_state", "1 for the state that it is in.")


def families(rows: Callable[[], list[Json]]) -> Iterable[Metric]:
    """Of all mirrors as they are listed."""
    found = rows()
    for name in MIRROR:
        family = name.family(LABELS)
        for row in found:
            if row[name.key] is not None:
                family.add_metric([row["name"], row["peer"], row["role"]], row[name.key])
        yield family
    states = STATE.family(["volume", "peer", "state"])
    for row in found:
        for state in STATES:
            states.add_metric([row["name"], row["peer"], state], float(row["state"] == state))
    yield states
