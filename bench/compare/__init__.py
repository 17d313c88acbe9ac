"""Side by side with peers: the suites by name; each is a function that adds records to a run."""

from collections.abc import Callable
from typing import NamedTuple

from bench.compare import basic, cow, durable, many, parts
from bench.measure import Run


class Suite(NamedTuple):
    body: Callable[[Run], None]
    quick: bool     # part of --quick


SUITES: dict[str, Suite] = {
    "throughput": Suite(basic.throughput, True),
    "depth": Suite(basic.depth, False),
    "latency": Suite(basic.latency, False),
    "idle": Suite(basic.idle, False),
    "first-write": Suite(cow.first_write, True),
    "snapshots": Suite(cow.snapshots, True),
    "micro": Suite(parts.micro, True),
    "sync": Suite(durable.sync, False),
    "digests": Suite(many.digests, False),
    "sessions": Suite(many.sessions, False),
    "direct": Suite(durable.direct, False),
}
