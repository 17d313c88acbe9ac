"""One measurement: a load against one target, with the target's and the machine's CPU time around them."""

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench import clients, fio, procstat
from bench.targets import Target, awake

T = TypeVar("T")

Record = dict[str, Any]

FOREIGN_LIMIT = 0.20   # share of the machine that others may use before a run is repeated


@dataclass
class Plan:
    """How long and how often. `quick` ends within three minutes; `published` is what docs/benchmarks.md shows."""

    mode: str
    seconds: float              # of one timed run
    repeats: int
    key_repeats: int            # of the cases a goal names
    size_mib: int               # of a LUN
    snapshots: tuple[int, ...]
    clones: int
    depths: tuple[int, ...]
    retries: int


QUICK = Plan("quick", seconds=1.2, repeats=2, key_repeats=3, size_mib=512, snapshots=(0, 10, 100), clones=10,
             depths=(1, 8, 32), retries=0)
PUBLISHED = Plan("published", seconds=1.2, repeats=3, key_repeats=3, size_mib=1024,
                 snapshots=(0, 1, 10, 100, 1000, 10000), clones=1000, depths=(1, 4, 16, 32, 64), retries=1)


@dataclass
class Run:
    """A run of the benchmarks: its plan, its media and the records so far."""

    plan: Plan
    media: dict[str, Path]
    targets: dict[str, str]     # label in the results: kind (lunette, tgt, istgt, spdk) or URL,PID of a running target
    versions: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    suite: str = ""

    def add(self, **values: Any) -> Record:
        """Keep one record and show it."""
        record = {"suite": self.suite, **values}
        self.records.append(record)
        shown = " ".join(f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in record.items()
                         if k != "suite" and not isinstance(v, list))
        print(f"  {shown}", file=sys.stderr, flush=True)
        return record

    def note(self, text: str) -> None:
        """Something a reader of the results must know (a suite left out, an engine replaced)."""
        if text not in self.notes:
            self.notes.append(text)
            print(f"  note: {text}", file=sys.stderr, flush=True)

    def io(self, pid: int | None, jobs: Sequence[fio.Job], *, whole: bool = False, **key: Any) -> Record:
        """Run jobs for the plan's time, or (whole) once over their size, and keep the record."""
        seconds = None if whole else self.plan.seconds
        return self.load(pid, lambda: clients.run(jobs, seconds), again=not whole, **key)

    def load(self, pid: int | None, body: Callable[[], Record], *, again: bool = True, **key: Any) -> Record:
        """Measure body(); `again`: repeat while others disturb the machine, the least disturbed run counts."""
        best: Record = {}
        for attempt in range(self.plan.retries + 1 if again else 1):
            got = once(pid, body)
            if not best or got["foreign_cpu"] < best["foreign_cpu"]:
                best = got
            if got["foreign_cpu"] <= FOREIGN_LIMIT or attempt == self.plan.retries:
                break
        return self.add(**key, **best)

    def interleave(self, subjects: Sequence[T], body: Callable[[T, int], None], repeats: int = 0) -> None:
        """Call body(subject, repetition) A B, B A, A B ...: drift of the machine hits all alike."""
        for repetition in range(repeats or self.plan.repeats):
            for subject in subjects if repetition % 2 == 0 else reversed(subjects):
                body(subject, repetition)

    def compare(self, targets: Sequence[Target], jobs: Callable[[Target], list[fio.Job]], *, repeats: int = 0,
                **key: Any) -> None:
        """Interleave timed runs of jobs(target) over the targets; `key` names the case."""
        def body(target: Target, repetition: int) -> None:
            self.io(target.pid, jobs(target), target=target.label, rep=repetition, **key)
        self.interleave(targets, body, repeats)


def initiator_seconds() -> float:
    """CPU time of this process and of the children it has waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def once(pid: int | None, body: Callable[[], Record]) -> Record:
    """Call body(), target `pid` being awake; account for every CPU second: target, initiator (this process), others."""
    with awake(pid):
        machine0, own0, target0 = procstat.MachineTime.now(), initiator_seconds(), procstat.cpu_seconds(pid) if pid else 0.0
        started = time.monotonic()
        record = body()
        elapsed = time.monotonic() - started
        machine1, own1 = procstat.MachineTime.now(), initiator_seconds()
        target_cpu = (procstat.cpu_seconds(pid) if pid else 0.0) - target0
    own_cpu = own1 - own0
    foreign = machine1.busy - machine0.busy - target_cpu - own_cpu
    count = record.pop("ios")
    if pid:
        record["cpu_us_per_io"] = target_cpu / count * 1e6 if count else 0.0
    record |= {
        "initiator_cpu_us_per_io": own_cpu / count * 1e6 if count else 0.0,
        "foreign_cpu": max(0.0, foreign / elapsed / (os.cpu_count() or 1)),
        "steal": max(0.0, (machine1.steal - machine0.steal) / elapsed / (os.cpu_count() or 1)),
    }
    return record
