"""Suites of what copy-on-write costs: first touches, and the curve over the number of snapshots."""

import statistics

from bench import fio
from bench.compare.basic import CASES
from bench.compare.lab import Lab
from bench.fio import Job
from bench.measure import Run
from bench.targets import Lunette, Target

WITH, WITHOUT = "volume with snapshots", "volume without snapshots"


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
                batch_ms = grow(target, urls[WITH], made, count, size)
                made = count
                curve_point(run, target, urls, count, size, batch_ms)
            if made:
                run.add(case="delete all", target=target.label, x=made, rep=0,
                        batch_delete_ms=target.batch([f"delete v@s{i}" for i in range(made)]) / made)


def grow(target: Lunette, url: str, have: int, want: int, size: int) -> float:
    """Take snapshots until there are `want`, with writes between them; milliseconds a snapshot (0: none taken)."""
    times: list[float] = []
    taken = want - have
    pace = -(-taken // 5)
    while have < want:
        step = min(pace, want - have)
        times.append(target.batch([f"snapshot v@s{i}" for i in range(have, have + step)]))
        have += step
        fio.run([Job(url, "randwrite", "4k", 32, f"{size}m", options={"number_ios": 5000, "norandommap": 1})], None)
    return sum(times) / taken if taken else 0.0


def curve_point(run: Run, target: Lunette, urls: dict[str, str], count: int, size: int, batch_ms: float) -> None:
    """Measure reads and writes on both volumes, one more snapshot's create and delete, and the metadata."""
    settle = [touch_all(url, size) for url in urls.values()]
    run.io(target.pid, settle[:1], whole=True, case="settle", x=count, target=target.label, rep=0)
    for name in ("read-4k-qd32", "write-4k-qd32"):
        def body(which: str, rep: int, name: str = name) -> None:
            run.io(target.pid, [CASES[name].job(urls[which], size)], case=name, medium="tmpfs", x=count, rep=rep,
                   target=which)
        run.interleave(list(urls), body)
    created, deleted = [], []
    for probe in range(20):
        created.append(target.command(f"snapshot v@probe{probe}"))
        deleted.append(target.command(f"delete v@probe{probe}"))
    metadata_bytes, start_s = target.metadata_bytes()
    taken = {"batch_create_ms": batch_ms} if batch_ms else {}
    run.add(case="snapshot", x=count, target=target.label, rep=0, **taken,
            create_ms=statistics.median(created), delete_ms=statistics.median(deleted),
            metadata_bytes=metadata_bytes, start_s=start_s)

