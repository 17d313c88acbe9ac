"""Suites on plain LUNs: throughput table, queue-depth curve, latency, idle cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import initiator, procstat, summary
from bench.compare.lab import Lab
from bench.fio import Job
from bench.measure import Run
from bench.targets import Target


@dataclass(frozen=True)
class Case:
    rw: str
    block: str
    depth: int

    def job(self, url: str, size_mib: int, **options: str | int) -> Job:
        return Job(url, self.rw, self.block, self.depth, f"{size_mib}m", options=options)

    def on(self, urls: dict[str, str], size_mib: int) -> Callable[[Target], list[Job]]:
        """This case as one job on the LUN of any target; urls by target label."""
        return lambda target: [self.job(urls[target.label], size_mib)]


CASES = {
    "read-4k-qd1": Case("randread", "4k", 1),
    "write-4k-qd1": Case("randwrite", "4k", 1),
    "read-4k-qd32": Case("randread", "4k", 32),
    "write-4k-qd32": Case("randwrite", "4k", 32),
    "read-128k-qd8": Case("read", "128k", 8),
    "write-128k-qd8": Case("write", "128k", 8),
    "read-1m-qd4": Case("read", "1m", 4),
    "write-1m-qd4": Case("write", "1m", 4),
}


def throughput(run: Run) -> None:
    """The table of 4 KiB, 128 KiB and 1 MiB reads and writes on every medium."""
    for medium in run.media:
        with Lab(run, medium) as lab:
            urls = lab.luns(run.plan.size_mib)
            for name, case in CASES.items():
                run.compare(lab.targets, case.on(urls, run.plan.size_mib), case=name, medium=medium)


def depth(run: Run) -> None:
    """IOPS against queue depth, 4 KiB random, in memory."""
    with Lab(run, "tmpfs") as lab:
        urls = lab.luns(run.plan.size_mib)
        for side in ("read", "write"):
            for queue_depth in run.plan.depths:
                case = Case(f"rand{side}", "4k", queue_depth)
                run.compare(lab.targets, case.on(urls, run.plan.size_mib), case=side, medium="tmpfs", x=queue_depth)


def latency(run: Run) -> None:
    """Percentiles one at a time, at 70 % of each target's own peak, at 70 % of tgt's peak; polling off and on."""
    with Lab(run, "tmpfs", polling=True) as lab:
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
    with Lab(run, "tmpfs", polling=True) as lab:
        urls = lab.luns(64)
        seconds = max(2.0, run.plan.seconds)
        for target in lab.targets:
            sessions = initiator.idle([urls[target.label]], 1)
            before, started = procstat.cpu_seconds(target.pid), time.monotonic()
            time.sleep(seconds)
            used = procstat.cpu_seconds(target.pid) - before
            for session in sessions:
                session.sock.close()
            run.add(case="idle", medium="tmpfs", target=target.label, rep=0,
                    idle_cpu=used / (time.monotonic() - started), rss_mib=procstat.rss_bytes(target.pid) / (1 << 20))
