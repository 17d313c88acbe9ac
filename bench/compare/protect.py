"""Suite of data protection: streams, backups and NBD, alone and beside readers; qemu-img and nbdcopy for comparison."""

import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import initiator, procstat
from bench.compare.exporting import exports, missing
from bench.compare.lab import Lab
from bench.compare.publication import publications
from bench.fio import Job
from bench.measure import Record, Run
from bench.targets import MIB, ROOT, Lunette
from core.base.crc32c import crc32c

READERS: Record = {"write_percent": 0, "block_bytes": 4096, "depth": 32}
SCATTERED: Record = {"write_percent": 100, "block_bytes": 4096, "depth": 32}
CUTS = (0.2, 0.5, 0.9)          # of a stream


def protect(run: Run) -> None:
    """A volume written whole, then 4 KiB here and there: sent, received, backed up, restored, exported; readers beside a send."""
    size = run.plan.size_mib
    for medium in run.media:
        with Lab(run, medium, pool_mib=size * 8, only=("lunette",)) as lab:
            for target in lab.lunettes():
                Trial(run, target, size, medium).run()
    lacking = missing()
    if lacking:
        run.note(f"protect: rbd export-diff left out: {lacking} is not installed (make ceph)")
        return
    for who, case, repetition, record in exports(size // 4, run.plan.repeats):
        run.add(case=case, rep=repetition, medium="ceph", target=who, **record)


class Trial:
    """One target. Each step is done three times; the median counts."""

    def __init__(self, run: Run, target: Lunette, size: int, medium: str) -> None:
        self._run = run
        self._target = target
        self._size = size
        self._key: Record = {"medium": medium, "target": target.label}
        self._place = target.directory / "streams"
        self._place.mkdir()

    def run(self) -> None:
        target, size = self._target, self._size
        url = target.add_lun("v", size)
        target.cli("snapshot", "v@1")
        initiator.run([[url]], 60, size_mib=size, most=size * 26, **SCATTERED)      # about 10 % of the blocks
        target.cli("snapshot", "v@2")
        for repetition in range(self._run.plan.repeats):
            self._run.load(target.pid, lambda: initiator.run([[url]], self._run.plan.seconds, size_mib=size, write_percent=0,
                                                             block_bytes=MIB, depth=8), again=False,
                           case="1 MiB reads by iSCSI", rep=repetition, **self._key)
        whole, changes = self._place / "whole", self._place / "changes"
        self._start()
        self._timed("send, whole", lambda number: self._lunette("send", "v@1", "--compress", "none", out=Path(os.devnull)))
        self._timed("send, scattered 4 KiB",
                    lambda number: self._lunette("send", "v@2", "--from", "v@1", "--compress", "none", out=Path(os.devnull)))
        self._lunette("send", "v@1", "--compress", "none", out=whole)
        self._lunette("send", "v@2", "--from", "v@1", "--compress", "none", out=changes)
        self._timed("receive, whole", lambda number: self._lunette("receive", f"r{number}", file=whole))
        self._timed("receive, scattered 4 KiB", lambda number: self._lunette("receive", f"r{number}", file=changes))
        for number, share in enumerate(CUTS):
            self._resumed(number, share, whole.stat().st_size)
        self._beside(url, whole)
        whole.unlink()
        for number in range(self._run.plan.repeats):
            target.cli("delete", f"r{number}@2", f"r{number}@1", f"r{number}")
        self._repository()
        self._exports(url)
        self._medium()
        for case, record in publications(self._place / "publish.pool", self._run.plan.repeats):
            self._run.add(case=case, rep=0, **self._key, **record)

    def _start(self) -> None:
        """What each of the commands takes before it does anything."""
        for repetition in range(self._run.plan.repeats):
            began = time.monotonic()
            self._lunette("ls")
            self._run.add(case="the start of a command", rep=repetition, **self._key, took_s=time.monotonic() - began)

    def _resumed(self, number: int, share: float, whole_bytes: int) -> None:
        """A stream that breaks off after a share of it, and the rest: what goes over twice."""
        name, sent, cut = f"cut{number}", 0, round(share * whole_bytes)
        with self._piped("send", "v@1", "--compress", "none") as source, self._piped("receive", name) as sink:
            assert source.stdout is not None
            assert sink.stdin is not None
            while sent < cut:
                piece = source.stdout.read(min(MIB, cut - sent))
                sink.stdin.write(piece)
                sent += len(piece)
            sink.stdin.close()
            sink.wait()                         # refused: it ends before its end
            source.kill()
        rows = json.loads(self._target.cli("receive", name, "--status", "--json"))      # none: it broke off before the first MARK
        rest = self._place / "rest"
        self._lunette("send", *(["--resume", rows[0]["token"]] if rows else ["v@1"]), "--compress", "none", out=rest)
        self._lunette("receive", name, file=rest)
        self._run.add(case=f"resumed after {share:.0%} of a stream", rep=0, **self._key,
                      again_mib=(sent + rest.stat().st_size - whole_bytes) / MIB)
        rest.unlink()
        self._target.cli("delete", f"{name}@1", name)

    @contextmanager
    def _piped(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        with subprocess.Popen([*self._target.program(), *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, cwd=ROOT, env=self._environment()) as process:
            yield process

    def _medium(self) -> None:
        """What fio reads of a file there, and writes to a new one: streams can be no faster than that."""
        path, size = self._place / "fio", f"{self._size}m"
        for repetition in range(self._run.plan.repeats):
            for case, rw in (("fio, 1 MiB writes of a new file", "write"), ("fio, 1 MiB reads of a file", "read")):
                self._run.io(None, [Job(str(path), rw, "1m", 1, size, engine="psync")], whole=True, case=case, rep=repetition,
                             **{**self._key, "target": "fio psync"})
            path.unlink()
            self._run.add(case="a bare program: new pages of a file, summed up", rep=repetition,
                          **{**self._key, "target": "pwrite"}, **summed_up(path, self._size))
            path.unlink()

    def _repository(self) -> None:
        target = self._target
        for number in range(self._run.plan.repeats):
            target.cli("repo", "add", f"repo{number}", str(self._place / f"repo{number}"))
        self._timed("backup, whole", lambda number: self._lunette("backup", "v@1", "--repo", f"repo{number}"))
        self._timed("backup, scattered 4 KiB", lambda number: self._lunette("backup", "v@2", "--repo", f"repo{number}"))
        self._timed("restore", lambda number: self._lunette("restore", f"repo{number}:v@2", f"back{number}"))
        for number in range(self._run.plan.repeats):
            target.cli("delete", "--force", f"back{number}")
            target.cli("repo", "rm", f"repo{number}")
            shutil.rmtree(self._place / f"repo{number}")

    def _exports(self, url: str) -> None:
        if shutil.which("nbdcopy") is None or shutil.which("qemu-nbd") is None or shutil.which("qemu-img") is None:
            self._run.note("protect: exports left out: nbdcopy, qemu-nbd or qemu-img is not installed")
            return
        plain = self._place / "plain"
        with self._served() as uri:
            self._timed("nbdcopy from lunette nbd", lambda number: tool("nbdcopy", uri, "null:"))
            tool("nbdcopy", uri, str(plain))
        self._timed("nbdcopy from qemu-nbd, a raw file",
                    lambda number: tool("nbdcopy", "--", "[", "qemu-nbd", "-r", "-f", "raw", str(plain), "]", "null:"))
        plain.unlink()
        self._timed("qemu-img convert, by iSCSI",
                    lambda number: tool("qemu-img", "convert", "-f", "raw", "-O", "raw", url, str(self._place / "out")))

    @contextmanager
    def _served(self) -> Iterator[str]:
        sock = self._target.directory / "nbd"
        process = subprocess.Popen([*self._target.program(), "nbd", "v@1", "--socket", str(sock)], stdout=subprocess.DEVNULL,
                                   cwd=ROOT, env=self._environment())
        try:
            while not sock.exists() and process.poll() is None:
                time.sleep(0.02)
            yield f"nbd+unix:///?socket={sock}"
        finally:
            process.terminate()
            process.wait()

    def _beside(self, url: str, whole: Path) -> None:
        """Readers alone, while one send follows the other, and while one receive does."""
        seconds, size, over = self._run.plan.seconds * 2, self._size, threading.Event()

        def sends(number: int) -> None:
            self._lunette("send", "v@1", "--compress", "none", out=Path(os.devnull))

        def receives(number: int) -> None:
            self._lunette("receive", f"b{number}", file=whole)
            self._target.cli("delete", f"b{number}@1", f"b{number}")

        def repeat(what: Callable[[int], None]) -> None:
            for number in itertools.count():
                if over.is_set():
                    return
                what(number)

        with initiator.Load([[url]]) as load:
            def measured(case: str) -> Record:
                return self._run.load(self._target.pid, lambda: load.drive(seconds, size_mib=size, **READERS), again=False,
                                      case=case, rep=0, **self._key)

            for name, what in (("send", sends), ("receive", receives)):
                steady = measured(f"4k random reads, alone before a {name}")
                over.clear()
                thread = threading.Thread(target=repeat, args=(what,))
                thread.start()
                try:
                    time.sleep(1)
                    during = measured(f"4k random reads, beside a {name}")
                finally:
                    over.set()
                    thread.join()               # now that readers are silent it goes quickly
                during |= {"to_steady": during["iops"] / steady["iops"], "p99_to_steady": during["p99_us"] / steady["p99_us"]}

    # -- inside --------------------------------------------------------------------------------------------------
    def _timed(self, case: str, step: Callable[[int], Any]) -> None:
        for repetition in range(self._run.plan.repeats):
            moved0, pid = self._moved(case), self._target.pid
            cpu0, python0, began = procstat.cpu_seconds(pid), procstat.python_seconds(pid), time.monotonic()
            step(repetition)
            took, cpu_s = time.monotonic() - began, procstat.cpu_seconds(pid) - cpu0
            python_s = procstat.python_seconds(pid) - python0
            moved = self._moved(case) - moved0 or self._size * MIB
            self._run.add(case=case, rep=repetition, **self._key, stream_mib=moved / MIB, stream_mib_s=moved / MIB / took,
                          took_s=took, target_cpu_s=cpu_s,
                          per_core_mib_s=moved / MIB / max(cpu_s, 0.001), python_percent=100 * python_s / took)

    def _moved(self, case: str) -> float:
        """Bytes of streams so far, where the daemon counts them; else the whole volume is what counts."""
        kind = case.partition(",")[0]
        text = b"".join(self._target.client().stream("/metrics", lambda said: None)).decode()
        name = f'lunette_transfer_bytes_total{{kind="{kind}"}}'
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LUNETTE_API": str(self._target.api)}

    def _lunette(self, *args: str, out: Path | None = None, file: Path | None = None) -> None:
        """One command, its own start included."""
        with (open(out or os.devnull, "wb") as stdout, open(file or os.devnull, "rb") as stdin):
            subprocess.run([*self._target.program(), *args], stdin=stdin, stdout=stdout, check=True, cwd=ROOT,
                           env=self._environment())


def summed_up(path: Path, size_mib: int) -> Record:
    """What a receive cannot do without: the CRC of what lies in memory, and new pages of a file for it, on one thread."""
    data, fd = os.urandom(4 * MIB), os.open(path, os.O_CREAT | os.O_WRONLY)
    began, cpu_s = time.monotonic(), time.thread_time()
    for at in range(0, size_mib, 4):
        crc32c(data)
        os.pwrite(fd, data, at * MIB)
    took, cpu_s = time.monotonic() - began, time.thread_time() - cpu_s
    os.close(fd)
    return {"stream_mib": size_mib, "stream_mib_s": size_mib / took, "took_s": took, "target_cpu_s": cpu_s,
            "per_core_mib_s": size_mib / cpu_s}


def tool(*args: str) -> None:
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
