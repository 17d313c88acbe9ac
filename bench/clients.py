"""Who loads a target: fio with its libiscsi engine; where it cannot be had, iscsi-perf (reads) and `qemu-img bench` (writes).

The stand-ins know no percentiles, mixes, rates or offsets: jobs that need those fail, and the suite says so.
"""

import functools
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from bench import fio
from bench.machine import first_line

SECTOR_BYTES = 512
SCATTER_BYTES = (1 << 20) + 4096    # step between writes that stand in for random ones: no two in one 1 MiB
UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
HARMLESS = {"norandommap", "random_generator"}    # one pass in steps of SCATTER_BYTES does write each block once


@functools.cache
def engine() -> str:
    """"fio", or "stand-ins" when there is no fio with libiscsi; FioError when there is neither."""
    try:
        fio.find()
    except fio.FioError as error:
        missing = [name for name in ("iscsi-perf", "qemu-img") if not shutil.which(name)]
        if missing:
            raise fio.FioError(f"{error}; and no {missing[0]} to stand in (libiscsi-bin, qemu-utils, "
                               "qemu-block-extra)") from None
        return "stand-ins"
    return "fio"


def description() -> str:
    """What the results file says loaded the targets."""
    if engine() == "fio":
        return f"{first_line(fio.find(), '--version')} (engine libiscsi)"
    return f"no fio with libiscsi: iscsi-perf for reads, {first_line('qemu-img', '--version')} bench for writes"


def run(jobs: Sequence[fio.Job], seconds: float | None) -> dict[str, Any]:
    """Run the jobs at once for `seconds`, or (None) each once over its size; ios, iops, mib_s and what else is known."""
    if engine() == "fio" or jobs[0].engine != "libiscsi":
        return fio.digest(fio.run(list(jobs), seconds))
    if len(jobs) != 1:
        raise fio.FioError("several jobs at once need fio")
    return stand_in(jobs[0], seconds)


def size_bytes(text: str) -> int:
    """`4k`, `128k`, `1m` in bytes."""
    return int(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else int(text)


def stand_in(job: fio.Job, seconds: float | None) -> dict[str, Any]:
    """One job by iscsi-perf or qemu-img bench."""
    flush = job.options.get("fsync") == 1
    beyond = set(job.options) - HARMLESS - ({"fsync"} if flush else set())
    if beyond or job.rw not in ("read", "randread", "write", "randwrite") or (flush and job.rw != "randwrite"):
        raise fio.FioError(f"a {job.rw} job with {', '.join(sorted(job.options)) or 'no options'} needs fio")
    if job.rw.endswith("read"):
        if seconds is None:
            raise fio.FioError("one pass of reads needs fio")
        return perf(job, seconds)
    return qemu(job, seconds, flush)


def perf(job: fio.Job, seconds: float) -> dict[str, Any]:
    """iscsi-perf: whole seconds, any 512-byte address (it knows no alignment), no latencies."""
    block, whole = size_bytes(job.block), math.ceil(seconds)
    said = command("iscsi-perf", "-m", str(job.depth), "-b", str(block // SECTOR_BYTES), "-t", str(whole),
                   *(["-r"] if job.rw == "randread" else []), job.target)
    return {"client": "iscsi-perf"} | rates(perf_iops(said) * whole, whole, block)


def perf_iops(said: str) -> float:
    """The IOPS in iscsi-perf's last line."""
    found = re.search(r"^iops average (\d+)", said, re.M)
    if not found:
        raise fio.FioError("iscsi-perf printed no result")
    return float(found[1])


def qemu(job: fio.Job, seconds: float | None, flush: bool) -> dict[str, Any]:
    """qemu-img bench: a number of writes, found by a short run first; random ones are steps of 1 MiB + 4 KiB."""
    block, size = size_bytes(job.block), size_bytes(job.size)

    def timed(count: int) -> float:
        scattered = ["-S", str(SCATTER_BYTES)] if job.rw == "randwrite" else []
        said = command("qemu-img", "bench", "-f", "raw", "-t", "none", "-w", "-c", str(count), "-d", str(job.depth),
                       "-s", str(block), *scattered, *(["--flush-interval=1"] if flush else []), job.target)
        found = re.search(r"Run completed in ([\d.]+) seconds", said)
        if not found:
            raise fio.FioError("qemu-img bench printed no result")
        return max(float(found[1]), 1e-3)
    count = size // block
    if seconds is not None:
        trial = job.depth * 20
        count = max(trial, round(trial / timed(trial) * seconds))
    return {"client": "qemu-img bench"} | rates(count, timed(count), block)


def rates(count: float, seconds: float, block_bytes: int) -> dict[str, Any]:
    return {"ios": count, "iops": count / seconds, "mib_s": count * block_bytes / seconds / (1 << 20)}


def command(*arguments: str) -> str:
    """What a client prints; FioError with its last line when it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise fio.FioError(f"{arguments[0]} ended with {done.returncode}: {last}")
    return done.stdout
