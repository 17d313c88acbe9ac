"""Suites of what copy-on-write costs: first touches, and the curve over the number of snapshots and clones."""

import dataclasses
import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import fio, initiator
from bench.compare.basic import CASES
from bench.compare.lab import PAIR, Lab
from bench.fio import Job
from bench.measure import Record, Run
from bench.targets import Lunette, Target

GROW_STEPS = 20     # writes and snapshots run side by side in so many pieces
PROBES = 20         # snapshots made and deleted one by one at each point of the curve
WITH, WITHOUT = "volume with snapshots", "volume without snapshots"
ALONE = "file alone"     # what a program writes to a file without a target: the kernel's share
FIRST_WRITES = (("4k", 32), ("128k", 8))


def touch_all(url: str, size_mib: int, block: str = "4k", depth: int = 32, **options: str | int) -> Job:
    """Every block of the LUN, or of a file, exactly once, 4 KiB in random order."""
    order: dict[str, str | int] = {"norandommap": 0, "random_generator": "lfsr"} if block == "4k" else {}
    return Job(url, "randwrite" if block == "4k" else "write", block, depth, f"{size_mib}m", options=order | options)


def first_write(run: Run) -> None:
    """Each block written once: over private blocks (steady), right after a snapshot, into a fresh thin volume.

    Beside it the same writes to a file of the same medium without any target: what is lost there the kernel takes.
    """
    size = run.plan.size_mib // 2
    for base, (block, depth), direct in itertools.product(run.media, FIRST_WRITES, (False, True)):
        if direct and base == "tmpfs":
            continue
        medium = f"{base}, O_DIRECT" if direct else base
        with Lab(run, base, pool_mib=size * 2 * (run.plan.repeats + 3), only=PAIR, direct=direct) as lab:
            urls = lab.luns(size)

            def passes(target: Target, rep: int, medium: str = medium, block: str = block, depth: int = depth,
                       urls: dict[str, str] = urls) -> None:
                def one(case: str, url: str) -> float:
                    return float(run.io(target.pid, [touch_all(url, size, block, depth)], whole=True, medium=medium,
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
            for rep in range(run.plan.repeats):
                file_alone(run, lab.directory / "alone", size, block, depth, direct=direct, medium=medium, rep=rep)


def file_alone(run: Run, path: Path, size_mib: int, block: str, depth: int, *, direct: bool, **key: Any) -> None:
    """A sparse file, each block written once and then once more, by fio: past the page cache by io_uring, else by pwrite.

    In the page cache blocks get their places when they are written back, so there a sync ends each pass and counts.
    """
    job = dataclasses.replace(touch_all(str(path), size_mib, block, depth, direct=int(direct), end_fsync=int(not direct)),
                              engine="io_uring" if direct else "psync")

    def one(case: str) -> Record:
        return run.load(None, lambda: fio.digest(fio.run([job], None)), again=False, case=f"{case} {block}", target=ALONE, **key)

    with path.open("wb") as made:
        made.truncate(size_mib << 20)
    fresh = one("fresh thin")
    fresh["to_steady"] = fresh["iops"] / one("steady")["iops"]
    path.unlink()


def snapshots(run: Run) -> None:
    """IOPS, p99, create, delete and list time, metadata bytes of one volume at 0, 1, 10 ... snapshots; then with clones.

    A second volume without snapshots is measured beside it at every point: the ratio is free of the machine's drift.
    The volume is written at random while its snapshots are taken, so that they have leaves of their own.
    """
    size = run.plan.size_mib // 2
    with Lab(run, "tmpfs", only=("lunette",), pool_mib=size * 24) as lab:
        for target in lab.lunettes():
            urls = {WITH: target.add_lun("v", size), WITHOUT: target.add_lun("w", size)}
            made = 0
            for count in run.plan.snapshots:
                new = {"batch_create_ms": grow(target, urls[WITH], made, count, size)} if count > made else {}
                made = count
                settle(run, target, urls[WITH], size, count)
                beside(run, target, urls, size, x=count)
                made_ms, deleted_ms = probe(target, "snapshot v@probe{}", "delete v@probe{}")
                run.add(case="snapshot", x=count, target=target.label, rep=0, **new, create_ms=made_ms,
                        delete_ms=deleted_ms, **state(target))
            if made:
                clones(run, target, urls, size, f"v@s{made - 1}")
                run.add(case="delete all", target=target.label, x=made, rep=0,
                        batch_delete_ms=target.batch([f"delete v@s{i}" for i in range(made)]) / made)


def clones(run: Run, target: Lunette, urls: dict[str, str], size: int, origin: str) -> None:
    """As many clones as the plan says of one snapshot: the volume again, a clone itself, create and delete."""
    count = run.plan.clones
    created = target.batch([f"clone {origin} c{i}" for i in range(count)]) / count
    settle(run, target, urls[WITH], size, count)
    beside(run, target, urls | {"a clone": target.url("c0")}, size, suffix=", with clones", x=count)
    made_ms, deleted_ms = probe(target, f"clone {origin} probe{{}}", "delete probe{}")
    run.add(case="clone", x=count, target=target.label, rep=0, batch_create_ms=created, create_ms=made_ms,
            delete_ms=deleted_ms, **state(target),
            batch_delete_ms=target.batch([f"delete c{i}" for i in range(count)]) / count)


def grow(target: Lunette, url: str, have: int, want: int, size: int) -> float:
    """Take snapshots until there are `want`, with a quarter of the volume written meanwhile; milliseconds a snapshot."""
    steps = min(want - have, GROW_STEPS)
    bounds = [have + (want - have) * i // steps for i in range(steps + 1)]
    taken_ms = 0.0
    with ThreadPoolExecutor(1) as pool, initiator.Load([[url]]) as load:
        for first, end in itertools.pairwise(bounds):
            taking = pool.submit(target.batch, [f"snapshot v@s{i}" for i in range(first, end)])
            load.drive(30, write_percent=100, block_bytes=4096, depth=1, size_mib=size, most=size * 64 // steps)
            taken_ms += taking.result()
    return taken_ms / (want - have)


def settle(run: Run, target: Lunette, url: str, size: int, x: int) -> None:
    """Make every block of the volume its own again: what follows is steady state. Its rate is that of first writes."""
    run.io(target.pid, [touch_all(url, size)], whole=True, case="first writes", x=x, target=WITH, rep=0)


def beside(run: Run, target: Lunette, urls: dict[str, str], size: int, *, x: int, suffix: str = "") -> None:
    """Reads and writes on the volume and on the one without snapshots, interleaved."""
    for name in ("read-4k-qd32", "write-4k-qd32"):
        def body(which: str, rep: int, name: str = name) -> None:
            run.io(target.pid, [CASES[name].job(urls[which], size)], case=name + suffix, medium="tmpfs", x=x, rep=rep,
                   target=which)
        run.interleave(list(urls), body)


def probe(target: Lunette, make: str, remove: str) -> tuple[float, float]:
    """Medians of milliseconds to make one and to delete it again, one command at a time."""
    made, removed = [], []
    for number in range(PROBES):
        made.append(target.command(make.format(number)))
        removed.append(target.command(remove.format(number)))
    return statistics.median(made), statistics.median(removed)


def state(target: Lunette) -> dict[str, float]:
    """What the number of objects costs besides: metadata, listing, start-up."""
    started = time.perf_counter()
    target.objects()
    list_ms = (time.perf_counter() - started) * 1e3
    metadata_bytes, start_s = target.metadata_bytes()
    return {"list_ms": list_ms, "metadata_bytes": metadata_bytes, "start_s": start_s}
