"""fio with the libiscsi engine: find or build it, run a job, read its JSON."""

import functools
import json
import os
import shutil
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lunette-bench"
BUILD_PACKAGES = ("gcc", "make", "pkg-config", "dpkg-dev", "libiscsi-dev", "libaio-dev", "zlib1g-dev")


MIB = 1 << 20


class FioError(Exception):
    """fio cannot be had, or a job failed; the message is one line."""


def has_engine(binary: str, engine: str) -> bool:
    """Whether this fio runs and lists `engine`."""
    try:
        done = subprocess.run([binary, "--enghelp"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return False
    return engine in done.stdout.split()


def build() -> str:
    """Rebuild Debian's fio source package with libiscsi into the cache directory; needs root for the build packages."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise FioError("no fio with the libiscsi engine: set FIO, or run once as root on Debian to have it built")
    tree = CACHE / "fio-source"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    sources = tree / "deb-src.sources"
    release = subprocess.run(["sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"],
                             capture_output=True, text=True, check=True).stdout.strip()
    sources.write_text(f"Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: {release}\nComponents: main\n"
                       "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n")
    lists = tree / "lists"
    lists.mkdir()
    own = ["-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={lists}"]
    steps: list[list[str]] = [
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *BUILD_PACKAGES],
        ["apt-get", *own, "-qq", "update"],
        ["apt-get", *own, "-qq", "source", "fio"],
    ]
    with (CACHE / "fio-build.log").open("w") as log:
        def step(command: list[str], cwd: Path) -> None:
            if subprocess.run(command, cwd=cwd, stdout=log, stderr=log, check=False).returncode:
                raise FioError(f"building fio failed at `{' '.join(command[:3])} ...`: see {log.name}")
        for command in steps:
            step(command, tree)
        source = next(p for p in tree.glob("fio-*") if p.is_dir())
        step(["./configure", "--enable-libiscsi"], source)
        step(["make", f"-j{os.cpu_count()}", "fio"], source)
    shutil.copy2(source / "fio", CACHE / "fio")
    shutil.rmtree(tree)
    return str(CACHE / "fio")


@functools.cache
def find(engine: str = "libiscsi") -> str:
    """Path of a fio with the engine: $FIO, the cache, PATH, else (libiscsi) built. FioError when there is none."""
    named = os.environ.get("FIO")
    if named:
        if has_engine(named, engine):
            return named
        raise FioError(f"FIO={named} does not run or has no {engine} engine")
    for candidate in (str(CACHE / "fio"), shutil.which("fio") or ""):
        if candidate and has_engine(candidate, engine):
            return candidate
    if engine != "libiscsi":
        raise FioError(f"no fio with the {engine} engine")
    return build()


REFUSED = "request failed"     # how fio's libiscsi engine tells of a command that ended in CHECK CONDITION


@dataclass(frozen=True)
class Job:
    """One fio job. `target` is an iscsi:// URL, or a path together with engine io_uring."""

    target: str
    rw: str
    block: str
    depth: int
    size: str
    engine: str = "libiscsi"
    options: dict[str, str | int] = field(default_factory=dict)

    def section(self, name: str) -> str:
        """The job file section."""
        lines = [f"[{name}]", f"ioengine={self.engine}", "filename=" + self.target.replace(":", "\\:"),
                 f"rw={self.rw}", f"bs={self.block}", f"iodepth={self.depth}", f"size={self.size}"]
        return "\n".join(lines + [f"{k}={v}" for k, v in self.options.items()]) + "\n"


def run(jobs: list[Job], seconds: float | None) -> list[dict[str, Any]]:
    """Run the jobs at once in threads of one fio; `seconds` None runs each to its size. Returns fio's job dicts."""
    head = "[global]\nthread=1\nrandrepeat=0\n"
    head += f"runtime={round(seconds * 1000)}ms\ntime_based=1\nnorandommap=1\n" if seconds else ""
    text = head + "".join(job.section(f"j{i}") for i, job in enumerate(jobs))
    limit = (seconds or 120) + 120
    done = subprocess.run([find(jobs[0].engine), "--output-format=json", "-"], input=text, capture_output=True, text=True,
                          timeout=limit, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index("{"):])["jobs"]
    except (ValueError, KeyError):
        last = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise FioError(f"fio exited with {done.returncode}: {last}") from None
    said = list(dict.fromkeys(done.stderr.strip().splitlines()))        # the engine names the sense, fio only its errno
    failed = [job["error"] for job in found if job["error"]]
    if failed or any(REFUSED in line for line in said):     # fio goes on after a sync that was refused, without an error
        raise FioError(f"fio job failed with error {max(failed, default=0)}: {' | '.join(said[:3]) or '?'}")
    return found


def digest(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """IOPS, throughput and latency percentiles of fio's job dicts; with several jobs, sums and worst percentiles."""
    sides = [job[side] for job in jobs for side in ("read", "write") if job[side]["total_ios"]]
    record: dict[str, Any] = {
        "ios": sum(side["total_ios"] for side in sides),
        "iops": float(sum(side["iops"] for side in sides)),
        "mib_s": sum(side["bw_bytes"] for side in sides) / MIB,
    }
    for name, percentile in (("p50_us", "50.000000"), ("p99_us", "99.000000"), ("p999_us", "99.900000")):
        values = [side["clat_ns"]["percentile"][percentile] / 1e3 for side in sides if "percentile" in side["clat_ns"]]
        if values:
            record[name] = max(values)
    syncs = [job["sync"] for job in jobs if job.get("sync", {}).get("total_ios")]
    if syncs:
        record["syncs"] = sum(s["total_ios"] for s in syncs)
        record["sync_p50_us"] = statistics.median(s["lat_ns"]["percentile"]["50.000000"] / 1e3 for s in syncs)
        record["sync_p99_us"] = max(s["lat_ns"]["percentile"]["99.000000"] / 1e3 for s in syncs)
    if len(jobs) > 1:
        record["job_iops"] = [round(sum(job[side]["iops"] for side in ("read", "write"))) for job in jobs]
    return record
