"""One measurement: fio jobs against one target, with the target's and the machine's CPU time around them."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench import fio, procstat
from bench.targets import Target

T = TypeVar("T")

Record = dict[str, Any]

FOREIGN_LIMIT = 0.20   # share of the machine that others may use before a run is repeated
MIB = 1 << 20


@dataclass
class Plan:
    """How long and how often. `quick` ends within three minutes, `full` is what gets published."""

    mode: str
    seconds: float
    repeats: int
    size_mib: int
    snapshots: tuple[int, ...]
    depths: tuple[int, ...]
    retries: int


QUICK = Plan("quick", seconds=1.2, repeats=3, size_mib=512, snapshots=(0, 1, 10, 100), depths=(1, 8, 32), retries=0)
NORMAL = Plan("normal", seconds=3, repeats=3, size_mib=1024, snapshots=(0, 1, 10, 100, 1000),
              depths=(1, 4, 16, 32, 64), retries=1)
FULL = Plan("full", seconds=4, repeats=5, size_mib=2048, snapshots=(0, 1, 10, 100, 1000, 10000),
            depths=(1, 2, 4, 8, 16, 32, 64, 128), retries=2)


@dataclass
class Run:
    """A run of the benchmarks: its plan, its media and the records so far."""

    plan: Plan
    media: dict[str, Path]
    targets: dict[str, str]     # label in the results: kind (tgt, lunette)
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
        """Run fio jobs for the plan's time, or (whole) once over their size, and keep the record."""
        seconds = None if whole else self.plan.seconds
        return self.load(pid, lambda: digest(fio.run(list(jobs), seconds)), again=not whole, **key)

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

    def interleave(self, subjects: Sequence[T], body: Callable[[T, int], None]) -> None:
        """Call body(subject, repetition) A B, B A, A B ...: drift of the machine hits all alike."""
        for repetition in range(self.plan.repeats):
            for subject in subjects if repetition % 2 == 0 else reversed(subjects):
                body(subject, repetition)

    def compare(self, targets: Sequence[Target], jobs: Callable[[Target], list[fio.Job]], **key: Any) -> None:
        """Interleave timed runs of jobs(target) over the targets; `key` names the case."""
        def body(target: Target, repetition: int) -> None:
            self.io(target.pid, jobs(target), target=target.label, rep=repetition, **key)
        self.interleave(targets, body)


def initiator_seconds() -> float:
    usage = os.times()
    return usage.children_user + usage.children_system + usage.user + usage.system


def once(pid: int | None, body: Callable[[], Record]) -> Record:
    """Call body() and account for every CPU second of the machine: target `pid`, initiator (this process), others."""
    machine0, own0, target0 = procstat.MachineTime.now(), initiator_seconds(), procstat.cpu_seconds(pid) if pid else 0.0
    started = time.monotonic()
    record = body()
    elapsed = time.monotonic() - started
    machine1, own1 = procstat.MachineTime.now(), initiator_seconds()
    target_cpu = (procstat.cpu_seconds(pid) if pid else 0.0) - target0
    own_cpu = own1 - own0
    foreign = machine1.busy - machine0.busy - target_cpu - own_cpu
    count = record.pop("ios")
    record |= {
        "cpu_us_per_io": target_cpu / count * 1e6 if count else 0.0,
        "initiator_cpu_us_per_io": own_cpu / count * 1e6 if count else 0.0,
        "foreign_cpu": max(0.0, foreign / elapsed / (os.cpu_count() or 1)),
        "steal": max(0.0, (machine1.steal - machine0.steal) / elapsed / (os.cpu_count() or 1)),
    }
    return record


def digest(jobs: list[dict[str, Any]]) -> Record:
    """IOPS, throughput and latency percentiles of fio's job dicts; with several jobs, sums and worst percentiles."""
    sides = [job[side] for job in jobs for side in ("read", "write") if job[side]["total_ios"]]
    record: Record = {
        "ios": sum(side["total_ios"] for side in sides),
        "iops": float(sum(side["iops"] for side in sides)),
        "mib_s": sum(side["bw_bytes"] for side in sides) / MIB,
    }
    for name, percentile in (("p50_us", "50.000000"), ("p99_us", "99.000000"), ("p999_us", "99.900000")):
        values = [side["clat_ns"]["percentile"][percentile] / 1e3 for side in sides if "percentile" in side["clat_ns"]]
        if values:
            record[name] = max(values)
    syncs = [job["sync"] for job in jobs if job.get("sync", {}).get("total_ios")]
    if syncs:
        record["syncs"] = sum(s["total_ios"] for s in syncs)
        record["sync_p50_us"] = statistics.median(s["lat_ns"]["percentile"]["50.000000"] / 1e3 for s in syncs)
        record["sync_p99_us"] = max(s["lat_ns"]["percentile"]["99.000000"] / 1e3 for s in syncs)
    if len(jobs) > 1:
        record["job_iops"] = [round(sum(job[side]["iops"] for side in ("read", "write"))) for job in jobs]
    return record
