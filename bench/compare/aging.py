"""Suite of a volume that snapshots have scattered: long reads in order while they are there, once they are gone, overwritten."""

import time

from bench import initiator
from bench.compare.lab import Lab
from bench.measure import Record, Run
from bench.targets import Lunette

ROUNDS = 6                  # of random overwrites, each after a snapshot
REST_LIMIT_S = 60.0         # after the deletes, for a pass to begin and end by itself
READS: Record = {"write_percent": 0, "block_bytes": 1 << 20, "depth": 4, "sequential": True}
OVERWRITES: Record = {"write_percent": 100, "block_bytes": 4096, "depth": 32}


def aging(run: Run) -> None:
    """1 MiB reads in order: fresh, after six rounds of random writes with a snapshot before each, after a rest, overwritten."""
    size = run.plan.size_mib // 2
    for medium in (name for name in run.media if name != "tmpfs"):
        for direct in (False, True):
            with Lab(run, medium, pool_mib=size * (ROUNDS + 3), only=("lunette",), direct=direct) as lab:
                for target in lab.lunettes():
                    aged(run, target, size, medium=f"{medium}, O_DIRECT" if direct else medium)


def aged(run: Run, target: Lunette, size: int, *, medium: str) -> None:
    """One volume from its first read to the last."""
    url = target.add_lun("v", size)
    fresh: Record = {}

    def read(case: str) -> None:
        found = run.load(target.pid, lambda: initiator.run([[url]], run.plan.seconds * 2, size_mib=size, **READS), again=False,
                         case=f"1m reads, {case}", medium=medium, target=target.label, rep=0)
        fresh.setdefault("iops", found["iops"])
        found["to_steady"] = found["iops"] / fresh["iops"]

    read("fresh")
    for number in range(ROUNDS):
        target.cli("snapshot", f"v@s{number}")
        initiator.run([[url]], 60, size_mib=size, most=size * 128, **OVERWRITES)       # half as many as there are blocks
    read(f"{ROUNDS} snapshots")
    for number in range(ROUNDS):
        target.cli("delete", f"v@s{number}")
    rest(target)
    read("deleted, and a rest")
    initiator.run([[url]], 60, size_mib=size, most=size * 128, **OVERWRITES)
    initiator.fill(url, size)
    read("overwritten in order")


def rest(target: Lunette) -> None:
    """Until a pass has ended that moved nothing more, or the limit."""
    began, moved = time.monotonic(), -1
    while time.monotonic() - began < REST_LIMIT_S:
        time.sleep(10)
        before, moved = moved, int(target.stats()["moved_bytes"])
        if moved and moved == before:
            return
