"""Suites of space that comes back beside writers: deletes, UNMAP and shrinks; and an everyday schedule of snapshots."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bench import initiator
from bench.compare.lab import Lab
from bench.measure import Record, Run
from bench.targets import MIB, Lunette

WRITERS: Record = {"write_percent": 100, "block_bytes": 4096, "depth": 32}
UNMAP_BLOCKS = 128          # single blocks freed by one UNMAP command
IDLE_LIMIT_S = 60.0         # so long a pause is waited for until all is back
EVERYDAY: Record = {"write_percent": 30, "block_bytes": 4096, "depth": 16}
EVERY_S, KEPT = 5, 6        # a snapshot each so many seconds, so many kept


def reclaim(run: Run) -> None:
    """4 KiB random writes beside a delete of a snapshot, scattered UNMAP and a shrink; then a pause, until all is back."""
    places = [(medium, False) for medium in run.media] + [(medium, True) for medium in run.media if medium != "tmpfs"]
    size = run.plan.size_mib // 2
    for medium, direct in places:
        shown = f"{medium}, O_DIRECT" if direct else medium
        for case, (prepare, begin) in KINDS.items():
            with Lab(run, medium, pool_mib=size * 6, only=("lunette",), direct=direct) as lab:
                for target in lab.lunettes():
                    beside(run, target, size, prepare, begin, case=case, medium=shown)


def beside(run: Run, target: Lunette, size: int, prepare: Callable[[Lunette, int], None],
           begin: Callable[[Lunette, int], None], *, case: str, medium: str) -> None:
    """One kind: the rate of writers before, from the moment on in which space is freed, and how fast it comes back."""
    key = {"medium": medium, "target": target.label, "rep": 0}
    url = target.add_lun("v", size)
    seconds = run.plan.seconds * 2
    prepare(target, size)               # before the session begins, which would be told of new LUNs
    with initiator.Load([[url]]) as load:
        def measured(name: str) -> Record:
            return run.load(target.pid, lambda: load.drive(seconds, size_mib=size, **WRITERS), again=False,
                            case=f"{case}, {name}", **key)

        load.drive(seconds, size_mib=size, **WRITERS)       # first writes, where what was prepared is a snapshot
        steady = measured("steady")
        before = punched_mib(target)
        with ThreadPoolExecutor(1) as pool:
            freeing = pool.submit(begin, target, size)
            during = measured("beside")
            freeing.result()
        back = punched_mib(target) - before
        during |= {"to_steady": during["iops"] / steady["iops"], "p99_to_steady": during["p99_us"] / steady["p99_us"],
                   "back_mib_s": back / seconds}
    run.add(case=f"{case}, in a pause", **key, **pause(target))


def pause(target: Lunette) -> Record:
    """Until nothing is left to give back: how much came back, and how fast."""
    before, began = punched_mib(target), time.monotonic()
    while int(target.stats()["punch_runs"]) and time.monotonic() - began < IDLE_LIMIT_S:
        time.sleep(0.05)
    took = time.monotonic() - began
    back = punched_mib(target) - before
    return {"back_mib": back, "back_s": took, "back_mib_s": back / took}


def punched_mib(target: Lunette) -> float:
    return float(target.stats()["punched_bytes"]) / MIB


def scattered(target: Lunette, size: int) -> None:
    """A volume `d` of which about two blocks in five are written, here and there."""
    url = target.add_lun("d", size, fill=False)
    initiator.run([[url]], 60, size_mib=size, most=size * 128, **WRITERS)


def unmap_scattered(target: Lunette, size: int) -> None:
    """Every second block of `d`, by single blocks."""
    initiator.unmap(target.url("d"), range(0, size * 256, 2), blocks_each=UNMAP_BLOCKS)


Step = Callable[[Lunette, int], None]
KINDS: dict[str, tuple[Step, Step]] = {
    "delete a snapshot": (lambda target, size: void(target.cli("snapshot", "v@s")),
                          lambda target, size: void(target.cli("delete", "v@s"))),
    "UNMAP block by block": (lambda target, size: void(target.add_lun("d", size)), unmap_scattered),
    "shrink": (scattered, lambda target, size: void(target.cli("resize", "d", "4M", "--force"))),
}


def void(_: object) -> None:
    """A step has no result."""


# -- a schedule --------------------------------------------------------------------------------------------------------

def schedule(run: Run) -> None:
    """70/30 random 4 KiB at depth 16 with a snapshot every 5 s of which six are kept, second by second; before, without."""
    size = run.plan.size_mib
    rounds = 6 if run.plan.mode == "quick" else KEPT + 3        # two of them with as many as are kept: a minute a medium
    for medium in run.media:
        with Lab(run, medium, pool_mib=size * (KEPT + 3), only=("lunette",)) as lab:    # each may keep a copy of nearly all
            for target in lab.lunettes():
                url = target.add_lun("v", size)
                with initiator.Load([[url]]) as load:
                    def second(load: initiator.Load = load) -> Record:
                        return load.drive(1.0, size_mib=size, **EVERYDAY)

                    key = {"medium": medium, "target": target.label, "rep": 0}
                    for _ in range(4):
                        second()
                    without = [second() for _ in range(10)]
                    with rolling(target, rounds) as taking:
                        seconds: list[Record] = []
                        while not taking():
                            seconds.append(second())
                    kept = seconds[(KEPT + 1) * EVERY_S:-1] if rounds > KEPT else seconds
                    base = run.add(case="without snapshots", **key, **over(without))
                    run.add(case=f"a snapshot every {EVERY_S} s", **key, **over(kept, base))


@contextmanager
def rolling(target: Lunette, rounds: int) -> Iterator[Callable[[], bool]]:
    """Takes a snapshot every few seconds beside the block, and deletes the oldest when there are too many."""
    def take() -> None:
        began = time.monotonic()
        for number in range(rounds):
            time.sleep(max(0.0, began + number * EVERY_S - time.monotonic()))
            target.command(f"snapshot v@s{number}")
            if number >= KEPT:
                target.command(f"delete v@s{number - KEPT}")
        time.sleep(max(0.0, began + rounds * EVERY_S - time.monotonic()))

    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(take)
        yield taking.done
        taking.result()


def over(seconds: list[Record], base: Record | None = None) -> Record:
    """The median second; the worst one, and all of it beside `base`."""
    middle = statistics.median(s["iops"] for s in seconds)
    worst = min(s["iops"] for s in seconds)
    p99 = statistics.median(s["p99_us"] for s in seconds)
    found: Record = {"iops": middle, "p99_us": p99, "worst_iops": worst, "worst_p99_us": max(s["p99_us"] for s in seconds),
                     "seconds": [round(s["iops"]) for s in seconds]}
    if base is not None:
        found |= {"to_steady": middle / base["iops"], "worst_to_steady": worst / base["iops"],
                  "p99_to_steady": p99 / base["p99_us"]}
    return found
