"""A pool on an image of a Ceph cluster, beside librbd alone on another image, which fio's rbd engine drives (docs/ceph.md)."""

import os
import tempfile
from pathlib import Path

from bench import initiator
from bench.fio import Job
from bench.measure import Run
from bench.targets import Lunette
from core.ceph import parse_place
from core.image import create_image
from tests.support import cluster
from tests.support.cluster import POOL, Cluster

BLOCK = 4096
CASES: dict[str, tuple[str, int]] = {
    "read QD1": ("randread", 1), "read QD32": ("randread", 32), "write QD1": ("randwrite", 1), "write QD32": ("randwrite", 32),
}
BARE = "bare"


class OnImage(Lunette):
    """Lunette whose pool is an image of a cluster."""

    def __init__(self, label: str, directory: Path, ceph: Cluster, *, pool_mib: int) -> None:
        super().__init__(label, directory, pool_mib=pool_mib)
        self.place = ceph.place(label)


def rbd(run: Run) -> None:
    """4 KiB at random over an image that is written whole. One OSD in memory on the same processors: it limits both."""
    lacking = cluster.missing()
    if lacking:
        run.note(f"rbd: left out: {lacking} is not installed (make ceph)")
        return
    size = run.plan.size_mib // 4
    with tempfile.TemporaryDirectory(prefix="lunette-bench.", dir="/dev/shm") as place:
        ceph = Cluster(Path(place), size_bytes=8 << 30, rbd_cache="false")      # as in Lunette
        target = OnImage("lunette", Path(place), ceph, pool_mib=size * 3 + 256)
        try:
            os.environ["CEPH_CONF"] = str(ceph.conf)
            create_image(parse_place(ceph.place(BARE)), size << 20)
            target.start()
            url = target.add_lun("v", size)
            run.io(None, [bare("write", 8, size, block="1m")], whole=True, case="fill", target=BARE, rep=0)
            for case, (rw, depth) in CASES.items():
                for rep in range(run.plan.repeats):
                    run.io(None, [bare(rw, depth, size)], case=case, target=BARE, rep=rep)
                    run.load(target.pid, lambda rw=rw, depth=depth: initiator.run(      # type: ignore[misc]
                        [[url]], run.plan.seconds, size_mib=size, write_percent=100 if rw == "randwrite" else 0, depth=depth,
                        block_bytes=BLOCK), case=case, target=target.label, rep=rep)
        finally:
            target.discard()
            ceph.close()


def bare(rw: str, depth: int, size_mib: int, block: str = "4k", **options: str) -> Job:
    return Job(BARE, rw, block, depth, f"{size_mib}m", engine="rbd",
               options={"clientname": "admin", "pool": POOL, "rbdname": BARE, **options})
