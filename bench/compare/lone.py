"""Suites of a command's time: one at a time beside peers on each medium, and the slowest of many beside checkpoints."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench import initiator, loops
from bench.compare.basic import CASES
from bench.compare.durable import SYNC_LUN_MIB
from bench.compare.lab import PAIR, Lab
from bench.fio import Job
from bench.measure import Record, Run
from bench.targets import Lunette, Target, TargetError, awake

SECONDS = 1.0               # of one timed run at most: there are many
LUN_MIB = 512               # of a LUN what is written and read
ALONE = ("read-4k-qd1", "write-4k-qd1")


def lone(run: Run) -> None:
    """One command at a time: a read, a write, a write and its sync; in memory, page-cached, O_DIRECT, XFS, a block device."""
    with ExitStack() as opened:
        disk = next((name for name in run.media if name != "tmpfs"), "")
        if disk:
            try:
                run.media["xfs"] = opened.enter_context(loops.xfs(run.media[disk], 4 * SYNC_LUN_MIB))
                opened.callback(run.media.pop, "xfs")
            except TargetError as error:
                run.note(f"lone: XFS left out: {error}")
        for medium in list(run.media):
            one_by_one(run, medium)
            if medium != "tmpfs":
                one_by_one(run, medium, direct=True)
        if disk:
            on_devices(run, disk)


def one_by_one(run: Run, medium: str, *, direct: bool = False) -> None:
    """Files of one medium. SPDK's lie past the page cache wherever there is a disk; in memory they are its own."""
    with Lab(run, medium, pool_mib=2 * SYNC_LUN_MIB, only=(*PAIR, "spdk"), direct=direct, spdk_files=medium != "tmpfs") as lab:
        urls = lab.luns(SYNC_LUN_MIB, fill=False)
        compared(run, lab.targets, urls, f"{medium}, O_DIRECT" if direct else medium)


def on_devices(run: Run, disk: str) -> None:
    """A loop device of its own for each target."""
    with ExitStack() as opened:
        lab = Lab(run, disk, pool_mib=2 * SYNC_LUN_MIB, only=(*PAIR, "spdk"), spdk_files=True)
        try:
            for kind in lab.only:
                path = run.media[disk] / f"{kind}-device.img"
                lab.devices[kind] = opened.enter_context(loops.device(path, SYNC_LUN_MIB * (2 if kind == "lunette" else 1)))
        except TargetError as error:
            run.note(f"lone: block devices left out: {error}")
            return
        with lab:
            compared(run, lab.targets, lab.luns(SYNC_LUN_MIB, fill=False), "block device")


def compared(run: Run, targets: list[Target], urls: dict[str, str], medium: str) -> None:
    """The three cases on LUNs of which the first part is written."""
    for target in targets:
        with awake(target.pid):
            initiator.fill(urls[target.label], LUN_MIB)
        target.settle()
    os.sync()                   # or the first syncs write all of that
    seconds = min(run.plan.seconds, SECONDS)
    for name in ALONE:
        def body(target: Target, rep: int, name: str = name) -> None:
            run.load(target.pid, partial(CASES[name].native, urls[target.label], LUN_MIB, seconds), case=name, medium=medium,
                     target=target.label, rep=rep)
        run.interleave(targets, body)
    run.compare(targets, lambda target: [Job(urls[target.label], "randwrite", "4k", 1, f"{LUN_MIB}m", options={"fsync": 1})],
                case="write and sync", medium=medium)


# -- the slowest beside checkpoints ------------------------------------------------------------------------------------

MIXED: Record = {"write_percent": 30, "block_bytes": 4096, "depth": 16}
EVERY_S, KEPT = 1.0, 3
WIDE_MIB = 64 << 10


def tails(run: Run) -> None:
    """p99.9 of 70/30 random 4 KiB at depth 16, of its p50: alone, beside a snapshot a second, and where each write is a first."""
    places = [(medium, False) for medium in run.media] + [(medium, True) for medium in run.media if medium != "tmpfs"]
    for medium, direct in places:
        shown = f"{medium}, O_DIRECT" if direct else medium
        with Lab(run, medium, pool_mib=LUN_MIB * 16, only=("lunette",), direct=direct) as lab:
            for target in lab.lunettes():
                url = target.add_lun("v", LUN_MIB)
                for rep in range(run.plan.repeats):
                    wide = target.add_lun(f"wide{rep}", WIDE_MIB, fill=False)
                    key = {"medium": shown, "target": target.label, "rep": rep}
                    measured(run, target, url, LUN_MIB, case="70/30", **key)
                    with snapshots(target):
                        measured(run, target, url, LUN_MIB, case="70/30, a snapshot a second", **key)
                    measured(run, target, wide, WIDE_MIB, case="70/30, first writes over 64 GiB", **key)
                    target.cli("delete", f"wide{rep}")


def measured(run: Run, lunette: Lunette, url: str, size_mib: int, **key: str | int) -> None:
    """One run, with the checkpoints and syncs that fell into it."""
    before = lunette.stats()
    found = run.load(lunette.pid, lambda: initiator.run([[url]], run.plan.seconds * 2, size_mib=size_mib, **MIXED), again=False,
                     **key)
    after = lunette.stats()
    found |= {"p999_to_p50": found["p999_us"] / found["p50_us"], "checkpoints": after["checkpoints"] - before["checkpoints"],
              "pool_syncs": after["syncs"] - before["syncs"]}


@contextmanager
def snapshots(target: Lunette) -> Iterator[None]:
    """One each second beside the block, three kept, all gone in the end."""
    over = threading.Event()
    made: list[str] = []

    def take() -> None:
        number = 0
        while not over.wait(EVERY_S):
            made.append(f"v@s{number}")
            target.command(f"snapshot {made[-1]}")
            number += 1
            if len(made) > KEPT:
                target.command(f"delete {made.pop(0)}")

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for name in made:
            target.command(f"delete {name}")
