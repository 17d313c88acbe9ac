"""Side by side with peers: the suites by name, in the order they run; each is a function that adds records to a run."""

from collections.abc import Callable
from typing import NamedTuple

from bench.compare import aging, basic, ceiling, cow, durable, lone, many, mirror, parts, protect, rbd, reclaim, scale
from bench.measure import Run


class Suite(NamedTuple):
    body: Callable[[Run], None]
    quick: bool         # part of --quick
    minutes: float      # of the published run, on two quiet cores


SUITES: dict[str, Suite] = {
    "throughput": Suite(basic.throughput, True, 7),
    "native": Suite(basic.native, True, 3),
    "ceiling": Suite(ceiling.ceiling, False, 2),
    "first-write": Suite(cow.first_write, True, 3),
    "snapshots": Suite(cow.snapshots, True, 4),
    "reclaim": Suite(reclaim.reclaim, False, 3),
    "schedule": Suite(reclaim.schedule, False, 3),
    "aging": Suite(aging.aging, False, 3),
    "latency": Suite(basic.latency, False, 2),
    "lone": Suite(lone.lone, False, 3),
    "tails": Suite(lone.tails, False, 2),
    "digests": Suite(many.digests, False, 2),
    "sync": Suite(durable.sync, False, 2),
    "direct": Suite(durable.direct, False, 2),
    "sessions": Suite(many.sessions, False, 3),
    "reactors": Suite(scale.reactors, False, 1),
    "depth": Suite(basic.depth, False, 3),
    "idle": Suite(basic.idle, False, 0.5),
    "tebibyte": Suite(scale.tebibyte, False, 1),
    "protect": Suite(protect.protect, False, 2.5),
    "mirror": Suite(mirror.mirror, False, 2.5),
    "rbd": Suite(rbd.rbd, False, 1.5),
    "micro": Suite(parts.micro, True, 1.5),
}
