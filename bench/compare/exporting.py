"""The same snapshots as differences by `rbd export-diff` and by `lunette send`, on one Ceph cluster of this machine."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import fio, initiator
from bench.compare.rbd import BARE, OnImage, bare
from bench.measure import Record
from bench.targets import MIB, ROOT
from core.ceph import parse_place
from core.image import create_image
from tests.support import cluster
from tests.support.cluster import POOL, Cluster

PART = 26               # 4 KiB writes a MiB: about 10 % of the blocks
WORDS = ("rbd",)


def missing() -> str:
    """What is not installed; empty: all that it takes."""
    return cluster.missing() or next((each for each in WORDS if shutil.which(each) is None), "")


def exports(size_mib: int, repeats: int) -> Iterator[tuple[str, str, int, Record]]:
    """(target, case, repetition, what it took). One OSD in memory on the same processors limits both."""
    with tempfile.TemporaryDirectory(prefix="lunette-bench.", dir="/dev/shm") as place:
        ceph = Cluster(Path(place), size_bytes=8 << 30, rbd_cache="false")
        target = OnImage("lunette", Path(place), ceph, pool_mib=size_mib * 3 + 256)
        environment = {**os.environ, "CEPH_CONF": str(ceph.conf), "LUNETTE_API": str(target.api)}
        before = os.environ.get("CEPH_CONF")
        os.environ["CEPH_CONF"] = str(ceph.conf)
        try:
            prepare_image(ceph, size_mib, environment)
            target.start()
            url = target.add_lun("v", size_mib)
            target.cli("snapshot", "v@1")
            initiator.run([[url]], 120, size_mib=size_mib, most=size_mib * PART, write_percent=100, block_bytes=4096, depth=32)
            target.cli("snapshot", "v@2")
            image, lunette = f"{POOL}/{BARE}", target.program()
            commands = {("rbd export-diff", "whole"): ["rbd", "export-diff", "--no-progress", f"{image}@1", "-"],
                        ("rbd export-diff", "scattered 4 KiB"): ["rbd", "export-diff", "--no-progress", "--from-snap", "1",
                                                                 f"{image}@2", "-"],
                        ("lunette send", "whole"): [*lunette, "send", "v@1", "--compress", "none"],
                        ("lunette send", "scattered 4 KiB"): [*lunette, "send", "v@2", "--from", "v@1", "--compress", "none"]}
            sizes = {key: length(command, environment) for key, command in commands.items()}
            for repetition in range(repeats):
                for (who, what), command in commands.items():
                    took = timed(command, environment)
                    moved = sizes[who, what] / MIB
                    yield who, f"on Ceph, {what}", repetition, {"stream_mib": moved, "stream_mib_s": moved / took, "took_s": took}
        finally:
            if before is None:
                del os.environ["CEPH_CONF"]
            target.discard()
            ceph.close()


def prepare_image(ceph: Cluster, size_mib: int, environment: dict[str, str]) -> None:
    """An image of its own with two snapshots, as the volume has them."""
    create_image(parse_place(ceph.place(BARE)), size_mib << 20)
    fio.run([bare("write", 8, size_mib, block="1m")], None)
    for snapshot in ("1", "2"):
        if snapshot == "2":
            fio.run([bare("randwrite", 32, size_mib, io_size=f"{size_mib * PART * 4}k")], None)
        subprocess.run(["rbd", "snap", "create", "--no-progress", f"{POOL}/{BARE}@{snapshot}"], check=True, env=environment,
                       stdout=subprocess.DEVNULL)


def length(command: list[str], environment: dict[str, str]) -> int:
    """Of what it writes, bytes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        found = 0
        while piece := process.stdout.read(MIB):
            found += len(piece)
    if process.returncode:
        raise OSError(f"{command[0]} ended with {process.returncode}")
    return found


def timed(command: list[str], environment: dict[str, str]) -> float:
    began = time.monotonic()
    with open(os.devnull, "wb") as null:
        subprocess.run(command, stdout=null, check=True, cwd=ROOT, env=environment)
    return time.monotonic() - began
