"""Suites of what copy-on-write costs: first touches, and the curve over the number of snapshots."""

import json
import statistics
import time
from typing import Any

from bench import fio, summary
from bench.compare.basic import CASES
from bench.compare.lab import Lab
from bench.fio import Job
from bench.measure import Run
from bench.targets import Lunette, Target, TargetError

WITH, WITHOUT = "volume with snapshots", "volume without"


def touch_all(url: str, size_mib: int, block: str = "4k", depth: int = 32) -> Job:
    """Every block of the LUN exactly once, in random order."""
    return Job(url, "randwrite" if block == "4k" else "write", block, depth, f"{size_mib}m",
               options={"norandommap": 0, "random_generator": "lfsr"} if block == "4k" else {})


def first_write(run: Run) -> None:
    """Each block written once: over private blocks (steady), right after a snapshot, into a fresh thin volume."""
    size = run.plan.size_mib // 2
    for block, depth in (("4k", 32), ("128k", 8)):
        with Lab(run, "tmpfs", pool_mib=size * 2 * (run.plan.repeats + 3)) as lab:
            urls = lab.luns(size)

            def passes(target: Target, rep: int, block: str = block, depth: int = depth,
                       urls: dict[str, str] = urls) -> None:
                def one(case: str, url: str) -> float:
                    return float(run.io(target.pid, [touch_all(url, size, block, depth)], whole=True, medium="tmpfs",
                                        case=f"{case} {block}", target=target.label, rep=rep)["iops"])
                steady = one("steady", urls[target.label])
                fresh = one("fresh thin", target.add_lun(f"thin{rep}", size, fill=False))
                run.records[-1]["to_steady"] = fresh / steady
                if isinstance(target, Lunette):
                    target.cli("snapshot", f"v@s{rep}")
                    run_after = one("after snapshot", urls[target.label])
                    run.records[-1]["to_steady"] = run_after / steady
                    target.cli("delete", f"v@s{rep}")
                    target.cli("delete", f"thin{rep}")
            run.interleave(lab.targets, passes)


def batch(target: Lunette, commands: list[str]) -> float:
    """Run commands over one connection; milliseconds a command."""
    return target.batch(commands) / len(commands)


def stats(target: Lunette) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(target.cli("stats", "--json"))
    return found


def snapshots(run: Run) -> None:
    """IOPS, p99, create and delete latency and metadata bytes of one volume at 0, 1, 10 ... snapshots.

    A second volume without snapshots is measured beside it at every point: the ratio is free of the machine's drift.
    Blocks are written between snapshots, so that every snapshot has a root and leaves of its own.
    """
    size = run.plan.size_mib // 2
    with Lab(run, "tmpfs", only="lunette", pool_mib=size * 12) as lab:
        for target in lab.lunettes():
            urls = {WITH: target.add_lun("v", size), WITHOUT: target.add_lun("w", size)}
            made = 0
            for count in run.plan.snapshots:
                create_ms = grow(target, urls[WITH], made, count, size)
                made = count
                curve_point(run, target, urls, count, size, create_ms)
            if made:
                started = time.perf_counter()
                run.add(case="delete all", target=target.label, x=made, rep=0,
                        delete_ms=batch(target, [f"delete v@s{i}" for i in range(made)]))
                run.records[-1]["seconds"] = time.perf_counter() - started


def grow(target: Lunette, url: str, have: int, want: int, size: int) -> float:
    """Take snapshots until there are `want`, with writes between them; milliseconds a snapshot (nan: none taken)."""
    times = []
    while have < want:
        step = min(max(1, (want - have) // 5), want - have)
        times.append((batch(target, [f"snapshot v@s{i}" for i in range(have, have + step)]), step))
        have += step
        fio.run([Job(url, "randwrite", "4k", 32, f"{size}m", options={"number_ios": 5000, "norandommap": 1})], None)
    return sum(ms * n for ms, n in times) / sum(n for _, n in times) if times else float("nan")


def curve_point(run: Run, target: Lunette, urls: dict[str, str], count: int, size: int, create_ms: float) -> None:
    """Measure reads and writes on both volumes, one more snapshot's create and delete, and the metadata."""
    settle = [touch_all(url, size) for url in urls.values()]
    run.io(target.pid, settle[:1], whole=True, case="settle", x=count, target=target.label, rep=0)
    for name in ("read-4k-qd32", "write-4k-qd32"):
        def body(which: str, rep: int, name: str = name) -> None:
            run.io(target.pid, [CASES[name].job(urls[which], size)], case=name, medium="tmpfs", x=count, rep=rep,
                   target=which)
        run.interleave(list(urls), body)
    created, deleted = [], []
    for probe in range(10):
        created.append(batch(target, [f"snapshot v@probe{probe}"]))
        deleted.append(batch(target, [f"delete v@probe{probe}"]))
    try:
        counters = stats(target)
    except (TargetError, ValueError):
        counters = {}
    pool = counters.get("pool", counters)
    run.add(case="snapshot", x=count, target=target.label, rep=0, batch_ms=create_ms,
            create_ms=statistics.median(created), delete_ms=statistics.median(deleted),
            metadata_bytes=int(pool.get("metadata_bytes", 0)))


def verdict(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows: with snapshots / without, per point of the curve."""
    found = []
    for key, by_target in summary.groups([r for r in records if r["suite"] == "snapshots"]).items():
        if {WITH, WITHOUT} <= set(by_target):
            found.append({"case": key[1], "x": key[3],
                          "ratio": summary.paired_ratio(by_target[WITH], by_target[WITHOUT])})
    return found
