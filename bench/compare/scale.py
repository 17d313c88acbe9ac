"""Suites of size: two reactors on two cores against one, and a volume whose map is many times the cache."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

from bench import _micro, contention, initiator, procstat
from bench.compare.lab import Lab
from bench.measure import Record, Run
from bench.memory import GIB, MemoryPool
from bench.targets import Lunette

LUNS, LUN_MIB, DEPTH = 8, 64, 32
REACTORS = {"": ("--reactors", "1", "--poll-us", "0"), "-2": ("--reactors", "2", "--poll-us", "0")}
LABELS = {"": "1 reactor", "-2": "2 reactors"}
LOADS: dict[str, dict[str, Any]] = {
    "read 4k, data discarded": {"write_percent": 0, "discard": True},
    "read 4k": {"write_percent": 0},
    "write 4k": {"write_percent": 100},
}


def reactors(run: Run) -> None:
    """One core's reactor against two; the initiator shares the cores, so its cost and the best that leaves are shown.

    First without any initiator: the machine itself and the engine by two threads. `ideal` is the gain that perfect
    scaling would have with the costs of the run with one reactor: cores / (target + initiator) per I/O over 1 / target.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        run.note("reactors: left out, one core only")
        return
    alone(run)
    with Lab(run, "tmpfs", variants=REACTORS, only=("lunette",), pool_mib=LUNS * LUN_MIB * 2 + 512) as lab:
        targets: dict[str, Lunette] = {LABELS[s]: t for s, t in zip(REACTORS, lab.lunettes(), strict=True)}
        urls = {}
        for label, target in targets.items():
            urls[label] = [[target.add_lun(f"v{i}", LUN_MIB)] for i in range(LUNS)]
            for number, thread in enumerate(target.reactor_threads()):
                os.sched_setaffinity(thread, {cores[number % len(cores)]})
        for case, load in LOADS.items():
            by_rep: dict[int, Record] = {}

            def body(label: str, rep: int, case: str = case, load: dict[str, Any] = load,
                     by_rep: dict[int, Record] = by_rep) -> None:
                record = pinned(run, targets[label], urls[label], cores, load, {"case": case, "target": label, "rep": rep})
                other = by_rep.setdefault(rep, record)
                if other is not record:
                    one, two = (record, other) if label == LABELS[""] else (other, record)
                    two["gain"] = two["iops"] / one["iops"]
                    two["ideal"] = ideal(one, len(cores))
                    two["of_ideal"] = two["gain"] / two["ideal"]
            run.interleave(list(targets), body)
            more(run, case)


def more(run: Run, case: str) -> None:
    """Reckons what more cores would bring: what is locked is taken to cost what two threads at once have cost the engine."""
    direction = case.split()[0]
    command_us = [row["cpu_us_per_io"] for row in run.records if (row["case"], row["target"]) == (case, LABELS[""])]
    engine = (f"engine, no data: {direction} 4k", "2 threads")
    contended = [1e6 / row["iops"] for row in run.records if (row["case"], row["target"]) == engine]
    for reactors in contention.REACTORS if contended and command_us else ():
        gained = contention.gain(median(command_us), median(contended), reactors)
        run.add(case=f"{case}, reckoned", target=f"{reactors} reactors", rep=0, gain=gained, ideal=reactors,
                of_ideal=gained / reactors)


def pinned(run: Run, target: Lunette, urls: list[list[str]], cores: list[int], load: dict[str, Any],
           key: dict[str, Any]) -> Record:
    """Drive all sessions; with one reactor the initiator stays off its core, with several it may use all."""
    before = os.sched_getaffinity(0)
    alone_on = len(target.reactor_threads()) == 1
    threads = max(1, len(cores) - 1) if alone_on else len(cores)
    if alone_on:
        os.sched_setaffinity(0, set(cores[1:]))     # the threads that drive() makes inherit it
    try:
        with initiator.Load(urls) as sessions:
            return run.load(target.pid, partial(sessions.drive, run.plan.seconds, block_bytes=4096, depth=DEPTH,
                                                size_mib=LUN_MIB, threads=threads, **load), medium="tmpfs", **key)
    finally:
        os.sched_setaffinity(0, before)


def ideal(one: Record, cores: int, reactors: int = 2) -> float:
    """The gain of `reactors` over one if neither got slower: bound by the reactors, or by all cores with the initiator."""
    target = float(one["cpu_us_per_io"])
    both = target + float(one["initiator_cpu_us_per_io"])
    if not target:
        return float("nan")
    return min(reactors / target, cores / both) / min(1 / target, cores / both)


def alone(run: Run) -> None:
    """Without network and initiator: operations a second by one thread and by two, on one pool (a volume each)."""
    memory = MemoryPool(2 * GIB)
    volumes = [memory.volume(f"v{i}", GIB // 4, fill="scattered") for i in range(2)]
    bodies: dict[str, Callable[[int, int], Any]] = {
        "the machine: CRC32C of 4 KiB": lambda which, count: _micro.checksums(count, 4096),
        "engine, no data: read 4k": lambda which, count: memory.run(volumes[which], "read", count),
        "engine, no data: write 4k": lambda which, count: memory.run(volumes[which], "write", count),
        "engine and copies: read 4k": lambda which, count: memory.run(volumes[which], "read", count, copy=True),
        "engine and copies: write 4k": lambda which, count: memory.run(volumes[which], "write", count, copy=True),
    }
    for case, body in bodies.items():
        count = 20_000
        started = time.monotonic()
        body(0, count)
        count = max(count, int(count * run.plan.seconds / 3 / max(time.monotonic() - started, 1e-4)))
        for rep in range(run.plan.repeats):
            rates = {threads: rate(body, count, threads) for threads in (1, 2)}
            for threads, iops in rates.items():
                record = run.add(case=case, target=f"{threads} thread{'s' * (threads > 1)}", rep=rep, iops=iops)
            record["gain"] = rates[2] / rates[1]
    memory.pool.abandon()


def rate(body: Callable[[int, int], Any], count: int, threads: int) -> float:
    """Operations a second of body(number of the thread, count) in `threads` threads at once."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: time.sleep(0.01), range(threads)))      # the threads exist before the clock runs
        started = time.perf_counter()
        list(pool.map(body, range(threads), [count] * threads))
        return threads * count / (time.perf_counter() - started)


BIG_MIB, SMALL_MIB, BIG_CACHE = 1 << 20, 512, "64M"
SLICES = 4


def tebibyte(run: Run) -> None:
    """4 KiB random writes and reads over 1 TiB with a 64 MiB cache for the map, beside a small volume of the same pool."""
    medium = next((name for name in run.media if name != "tmpfs"), "tmpfs")
    with Lab(run, medium, only=("lunette",), pool_mib=BIG_MIB * 3 // 2, variants={"": ("--cache", BIG_CACHE)}) as lab:
        for target in lab.lunettes():
            urls = {"1 TiB": (target.add_lun("big", BIG_MIB, fill=False), BIG_MIB),
                    "512 MiB": (target.add_lun("small", SMALL_MIB), SMALL_MIB)}
            loads = [(f"write, part {n}", 100) for n in range(1, SLICES + 1)] + [("read", 0)]
            for case, write_percent in loads:
                for label, (url, size) in urls.items():
                    record = run.load(target.pid, partial(
                        initiator.run, [[url]], run.plan.seconds * 2, write_percent=write_percent, block_bytes=4096,
                        depth=32, size_mib=size), again=False, case=case, medium=medium, target=label, rep=0)
                    record["rss_mib"] = procstat.rss_bytes(target.pid) / (1 << 20)
            mapped = next(o["mapped_bytes"] for o in target.objects() if o["name"] == "big")
            started = time.monotonic()
            metadata_bytes, start_s = target.metadata_bytes()
            run.add(case="afterwards", medium=medium, target="1 TiB", rep=0, mapped_mib=mapped / (1 << 20),
                    metadata_bytes=metadata_bytes, start_s=start_s, check_s=time.monotonic() - started - start_s)
