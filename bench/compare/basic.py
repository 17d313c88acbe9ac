"""Suites on plain LUNs: throughput by two initiators, queue-depth curve, latency, idle cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench import initiator, procstat, summary
from bench.clients import size_bytes
from bench.compare.lab import PAIR, Lab
from bench.fio import Job
from bench.measure import Record, Run
from bench.targets import Target, awake

NO_POLL = {"": (), "-nopoll": ("--poll-us", "0")}


@dataclass(frozen=True)
class Case:
    rw: str
    block: str
    depth: int
    key: bool = False       # a goal names it: measured more often

    def job(self, url: str, size_mib: int, **options: str | int) -> Job:
        return Job(url, self.rw, self.block, self.depth, f"{size_mib}m", options=options)

    def on(self, urls: dict[str, str], size_mib: int) -> Callable[[Target], list[Job]]:
        """This case as one job on the LUN of any target; urls by target label."""
        return lambda target: [self.job(urls[target.label], size_mib)]

    def repeats(self, run: Run) -> int:
        return run.plan.key_repeats if self.key else run.plan.repeats

    def native(self, url: str, size_mib: int, seconds: float) -> Record:
        """The same by the bench's own initiator."""
        return initiator.run([[url]], seconds, write_percent=100 if "write" in self.rw else 0, depth=self.depth,
                             block_bytes=size_bytes(self.block), size_mib=size_mib, sequential=not self.rw.startswith("rand"))


CASES = {
    "read-4k-qd1": Case("randread", "4k", 1, key=True),
    "read-4k-qd32": Case("randread", "4k", 32, key=True),
    "write-4k-qd32": Case("randwrite", "4k", 32, key=True),
    "read-128k-qd8": Case("read", "128k", 8, key=True),
    "write-128k-qd8": Case("write", "128k", 8, key=True),
    "write-4k-qd1": Case("randwrite", "4k", 1),
    "read-1m-qd4": Case("read", "1m", 4),
    "write-1m-qd4": Case("write", "1m", 4),
}


def throughput(run: Run) -> None:
    """The table of 4 KiB, 128 KiB and 1 MiB reads and writes on every medium."""
    for medium in run.media:
        with Lab(run, medium) as lab:
            urls = lab.luns(run.plan.size_mib)
            for name, case in CASES.items():
                run.compare(lab.targets, case.on(urls, run.plan.size_mib), repeats=case.repeats(run), case=name,
                            medium=medium)


def native(run: Run) -> None:
    """The goals' cases again with the bench's own initiator, which needs about 1 us of CPU an I/O."""
    for medium in run.media:
        with Lab(run, medium) as lab:
            urls = lab.luns(run.plan.size_mib)
            for name, case in CASES.items():
                if not case.key:
                    continue

                def body(target: Target, rep: int, name: str = name, case: Case = case,
                         urls: dict[str, str] = urls, medium: str = medium) -> None:
                    run.load(target.pid, partial(case.native, urls[target.label], run.plan.size_mib, run.plan.seconds),
                             case=name, medium=medium, target=target.label, rep=rep)
                run.interleave(lab.targets, body)


def depth(run: Run) -> None:
    """IOPS against queue depth, 4 KiB random, in memory."""
    with Lab(run, "tmpfs", only=PAIR) as lab:
        urls = lab.luns(run.plan.size_mib)
        for side in ("read", "write"):
            for queue_depth in run.plan.depths:
                case = Case(f"rand{side}", "4k", queue_depth)
                run.compare(lab.targets, case.on(urls, run.plan.size_mib), case=side, medium="tmpfs", x=queue_depth)


def latency(run: Run) -> None:
    """Percentiles one at a time, at 70 % of each target's own peak, at 70 % of tgt's peak; adaptive polling on and off."""
    with Lab(run, "tmpfs", variants=NO_POLL) as lab:
        urls = lab.luns(run.plan.size_mib)
        size = run.plan.size_mib
        deep = CASES["read-4k-qd32"]
        run.compare(lab.targets, CASES["read-4k-qd1"].on(urls, size), case="qd1", medium="tmpfs")
        run.compare(lab.targets, deep.on(urls, size), case="peak", medium="tmpfs")
        peaks = {t.label: summary.median([r for r in run.records if r["suite"] == run.suite and r["case"] == "peak"
                                          and r["target"] == t.label], "iops") for t in lab.targets}
        loads = {"load 70 % of own peak": peaks}
        if summary.BASELINE in peaks:
            loads["load 70 % of tgt's peak"] = dict.fromkeys(peaks, peaks[summary.BASELINE])
        for name, peak in loads.items():
            def offered(target: Target, peak: dict[str, float] = peak) -> list[Job]:
                return [deep.job(urls[target.label], size, rate_iops=int(peak[target.label] * 0.7),
                                 rate_process="poisson")]
            run.compare(lab.targets, offered, case=name, medium="tmpfs")


def idle(run: Run) -> None:
    """CPU and memory of a target with one logged-in, idle session."""
    with Lab(run, "tmpfs", variants=NO_POLL) as lab:
        urls = lab.luns(64)
        seconds = max(4.0, run.plan.seconds)
        for target in lab.targets:
            with awake(target.pid):
                sessions = initiator.idle([urls[target.label]], 1)
                before, started = procstat.cpu_seconds(target.pid), time.monotonic()
                time.sleep(seconds)
                used = procstat.cpu_seconds(target.pid) - before
                elapsed = time.monotonic() - started
                for session in sessions:
                    session.sock.close()
            run.add(case="idle", medium="tmpfs", target=target.label, rep=0,
                    idle_cpu=used / elapsed, rss_mib=procstat.rss_bytes(target.pid) / (1 << 20))
