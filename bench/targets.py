"""A running target, and Lunette from this checkout: on a free loopback port, over a directory of one medium."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import initiator, procstat
from bench.machine import lunette_version
from target.cli import register
from target.cli.batch import parse_line
from target.client import Client
from target.errors import LunetteError

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 15.0
REACTOR_THREAD = "lunette-data"
MIB = 1 << 20
SETTLED_S, SETTLE_MOST_S = 2.0, 20.0    # without a sync for so long, if that comes within so long
COMMAND_LINE = register()


class TargetError(Exception):
    """A target did not start or refused a command; the message is one line."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rest(pid: int) -> None:
    """Let a target do nothing until it is `awake`: one that polls would have a core of its own while others are measured."""
    os.kill(pid, signal.SIGSTOP)
    while procstat.state(pid) not in "TZ":
        time.sleep(0.001)


@contextmanager
def awake(pid: int | None) -> Iterator[None]:
    """A target that rests runs meanwhile."""
    rests = pid if pid is not None and procstat.state(pid) == "T" else None
    if rests is not None:
        os.kill(rests, signal.SIGCONT)
    try:
        yield
    finally:
        if rests is not None:
            rest(rests)


class Target(ABC):
    """One running iSCSI target. `label` names it in results; `directory` decides the medium of its storage."""

    kind = ""
    stop_signal = signal.SIGTERM

    def __init__(self, label: str, directory: Path) -> None:
        self.label = label
        self.directory = directory / label
        self.directory.mkdir(parents=True)
        self.port = free_port()
        self.ports = {self.port}        # all that it listens on
        self.device: Path | None = None     # what its one LUN, or its pool, lies in instead of a file
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def add_lun(self, name: str, size_mib: int, fill: bool = True) -> str:
        """Make a LUN of `size_mib`, written in order when `fill`; its iscsi:// URL."""

    def backing(self, name: str, size_mib: int, fill: bool) -> Path:
        """What a LUN lies in: its device, or a file, written or sparse."""
        path = self.device or self.directory / f"{name}.img"
        if self.device is None:
            make_file(path, size_mib, fill)
        return path

    @abstractmethod
    def version(self) -> str: ...

    def settle(self) -> None:  # noqa: B027
        """Return once it has made durable what a fill left it with; those that never do so of themselves have nothing to do."""

    def spawn(self, command: list[str]) -> None:
        """Start the daemon and wait until it listens on this target's ports and on no other address."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline, wanted = time.monotonic() + START_TIMEOUT_S, {("127.0.0.1", port) for port in self.ports}
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise TargetError(f"{self.label} exited with {self.process.returncode}: {self.last_words()}")
            try:
                ports = procstat.listening_ports(self.pid)
            except FileNotFoundError:       # it has ended meanwhile
                continue
            if ports == wanted:
                return
            if ports - wanted:  # tgtd takes 0.0.0.0:3260 in silence when its portal cannot be had
                self.stop()
                raise TargetError(f"{self.label} listens on {sorted(ports)}, not on 127.0.0.1:{self.port} alone")
            time.sleep(0.02)
        self.stop()
        raise TargetError(f"{self.label} does not listen within {START_TIMEOUT_S:.0f} s: {self.last_words()}")

    def condition(self) -> str:
        """One line on the state of its storage, for the post-mortem of a failed run."""
        return ""

    def last_words(self) -> str:
        lines = (self.directory / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """End the daemon: its stop signal, after 15 s SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            self.process.send_signal(signal.SIGCONT)        # it may rest
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def discard(self) -> None:
        """End the daemon and remove its storage."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def fill_file(path: Path, size_mib: int) -> None:
    chunk = os.urandom(MIB)
    with path.open("wb", buffering=0) as out:
        for _ in range(size_mib):
            out.write(chunk)
        os.fsync(out.fileno())


def make_file(path: Path, size_mib: int, fill: bool) -> None:
    """A LUN's file, written or sparse."""
    if fill:
        fill_file(path, size_mib)
    else:
        path.touch()
        os.truncate(path, size_mib * MIB)


class Lunette(Target):
    """Lunette from this checkout, through its command line only."""

    kind = "lunette"

    def __init__(self, label: str, directory: Path, *, pool_mib: int, serve: tuple[str, ...] = ()) -> None:
        super().__init__(label, directory)
        self.pool = self.directory / f"{label}.pool"
        self.api = self.directory / "api.sock"
        self.place = str(self.pool)     # as the command line names it
        self.pool_mib = pool_mib
        self.wanted = serve     # further arguments of `lunette serve`
        if "--peer" in serve:
            self.ports.add(int(serve[serve.index("--peer") + 1].rpartition(":")[2]))
        self.start_s = 0.0      # how long the last start took, Python's own included

    def cli(self, *arguments: str, ok: tuple[int, ...] = (0,)) -> str:
        """Run one `lunette` command against this daemon, return its standard output."""
        done = subprocess.run([*self.program(), *arguments], capture_output=True, text=True, check=False, cwd=ROOT,
                              env=os.environ | {"LUNETTE_API": str(self.api)})
        if done.returncode not in ok:
            raise TargetError(f"lunette {' '.join(arguments[:3])}: {(done.stderr.strip() or '?').splitlines()[-1]}")
        return done.stdout

    def condition(self) -> str:
        try:
            pool = json.loads(self.cli("stats", "--json"))["pool"]
        except (TargetError, ValueError) as error:
            return str(error)
        return ", ".join(f"{k} {pool[k]}" for k in ("space", "read_only", "failed", "available_bytes") if k in pool)

    @staticmethod
    def program() -> list[str]:
        return [sys.executable, "-m", "target"]

    def make_pool(self) -> None:
        if self.device is not None and self.place != str(self.device):
            self.place = str(self.device)
            self.cli("pool", "create", self.place, "--name", self.label)
        elif self.device is None and not self.pool.exists():
            self.cli("pool", "create", self.place, "--size", f"{self.pool_mib}M")

    def start(self) -> None:
        known = self.cli("serve", "--help")
        missing = [option for option in self.wanted if option.startswith("--") and option not in known]
        if missing:
            raise TargetError(f"`lunette serve` has no {missing[0]}")
        self.make_pool()
        started = time.perf_counter()
        self.spawn([*self.program(), "serve", self.place, "--listen", f"127.0.0.1:{self.port}",
                    "--api", str(self.api), "--open", *self.wanted])
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                Client(str(self.api)).get("/v1/objects")
                self.start_s = time.perf_counter() - started
                return
            except LunetteError as error:
                if time.monotonic() > deadline:
                    raise TargetError(f"{self.label}: {error}") from None
                time.sleep(0.01)

    def add_lun(self, name: str, size_mib: int, fill: bool = True) -> str:
        self.cli("create", name, "--size", f"{size_mib}M")
        url = self.url(name)
        if fill:
            initiator.fill(url, size_mib)
        return url

    def client(self) -> Client:
        return Client(str(self.api))

    def objects(self) -> list[dict[str, Any]]:
        """The listing of all objects, as the API gives it."""
        found: list[dict[str, Any]] = Client(str(self.api)).get("/v1/objects")
        return found

    def stats(self) -> dict[str, Any]:
        """All numbers of the pool."""
        found: dict[str, Any] = Client(str(self.api)).get("/v1/stats")["pool"]
        return found

    def settle(self) -> None:
        """Its commits, a checkpoint and the seal of the journal follow a fill for some seconds."""
        deadline = time.monotonic() + SETTLE_MOST_S
        syncs, since = self.stats()["syncs"], time.monotonic()
        while time.monotonic() < min(since + SETTLED_S, deadline):
            time.sleep(0.1)
            if self.stats()["syncs"] != syncs:
                syncs, since = self.stats()["syncs"], time.monotonic()

    def urls(self) -> dict[str, str]:
        """The iscsi:// URLs of all connected objects by name, on this target's portal."""
        return {o["name"]: f"iscsi://127.0.0.1:{self.port}/iqn.2026-11.dev.lunette:{self.label}/{o['lun']}"
                for o in self.objects() if o.get("lun") is not None}

    def url(self, name: str) -> str:
        return self.urls()[name]

    def batch(self, commands: list[str]) -> float:
        """Run commands as one batch over the API; milliseconds in all."""
        requests = [parse_line(COMMAND_LINE, line) for line in commands]
        rows = [{"line": n, "command": r.command, "args": dict(r.args)} for n, r in enumerate(requests)]
        started = time.perf_counter()
        for row in Client(str(self.api)).batch(iter(rows), keep_going=False):
            if "error" in row:
                raise TargetError(f"batch: {row['error']['message']}")
        return (time.perf_counter() - started) * 1e3

    def command(self, line: str) -> float:
        """Run one command over the API, milliseconds: what it takes without the start of a client process."""
        request = parse_line(COMMAND_LINE, line)
        started = time.perf_counter()
        Client(str(self.api)).command(request.command, dict(request.args))
        return (time.perf_counter() - started) * 1e3

    def reactor_threads(self) -> list[int]:
        """Thread ids of the data plane, oldest first."""
        tasks = sorted(int(entry.name) for entry in Path(f"/proc/{self.pid}/task").iterdir())
        return [t for t in tasks if Path(f"/proc/{self.pid}/task/{t}/comm").read_text().strip() == REACTOR_THREAD]

    def metadata_bytes(self) -> tuple[int, float]:
        """Stop, have `pool check` count the pages of map and catalog, start again: (bytes, seconds of the start)."""
        self.stop()
        report = json.loads(self.cli("pool", "check", str(self.pool), "--json", ok=(0, 1)))
        if not report["clean"]:
            print(f"  pool check: {report['errors'][0]}", file=sys.stderr)
        pages = sum(int(n) for n in re.findall(r"(?:nodes|catalog pages|csum pages) (\d+)", report["summary"]))
        self.start()
        return pages * 4096, self.start_s

    def version(self) -> str:
        return f"lunette {lunette_version()}"
