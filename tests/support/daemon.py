"""A real daemon in its own process on a fresh pool, driven through the command line as a user would."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, until


class Refused(AssertionError):
    """A command failed; `status` and `message` are its exit status and its stderr."""

    def __init__(self, args: tuple[str, ...], status: int, message: str, output: str = "") -> None:
        super().__init__(f"lunette {' '.join(args)}: status {status}: {message}")
        self.status = status
        self.message = message
        self.output = output


class DaemonProcess:
    """`lunette serve` on a pool in `directory`. The constructor does not start it."""

    def __init__(self, directory: Path, *options: str, size: str = "4G", open_access: bool = True,
                 listen: tuple[str, ...] = (), verbose: bool = True, pool: str = "") -> None:
        self.directory = directory
        self.verbose = verbose
        self.pool: Path | str = pool or directory / "t.pool"
        self.api = Path(tempfile.mkdtemp(prefix="lnt")) / "api.sock"  # a path short enough for a Unix socket
        self.port = free_port()
        self.portal = f"127.0.0.1:{self.port}"
        self.listen = listen or (self.portal,)
        self.options = [*options, *(["--open"] if open_access else [])]
        self.target = "iqn.2026-11.dev.lunette:t"
        self.log = directory / "daemon.log"
        self.process: subprocess.Popen[str] | None = None
        self.prefix: list[str] = []     # what starts the daemon's process, which it must become
        self.cli("pool", "create", str(self.pool), "--size", size, "--name", "t")

    def another(self, *options: str) -> DaemonProcess:
        """Another gateway for the same pool, with further options: not started, its log beside this one's."""
        one = copy.copy(self)
        one.process, one.options = None, [*self.options, *options]
        one.api = Path(tempfile.mkdtemp(prefix="lnt")) / "api.sock"
        one.port = free_port()
        one.portal = f"127.0.0.1:{one.port}"
        one.listen = (one.portal,)
        one.log = self.directory / f"{one.port}.log"
        return one

    def start(self) -> DaemonProcess:
        """Start and wait until it is ready."""
        listens = [word for each in self.listen for word in ("--listen", each)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "target", "serve", str(self.pool), "--api", str(self.api),
                 *(["-v"] if self.verbose else []), *listens, *self.options],
                stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        for _ in self.listen:
            if not self.process.stdout.readline():
                self.process.wait(PATIENCE_SECONDS)
                raise AssertionError(f"the daemon did not start: {self.log.read_text()[-2000:]}")
        return self

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it with a signal; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            status = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{number.name} does not end it: {self.log.read_text()[-2000:]}") from None
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
        self.process = None
        return status

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def cli(self, *args: str, stdin: str = "", timeout: float = 2 * PATIENCE_SECONDS) -> str:
        """Run a command; its stdout, or Refused."""
        result = subprocess.run([sys.executable, "-m", "target", *args], input=stdin, capture_output=True, text=True,
                                timeout=timeout, env={**os.environ, "LUNETTE_API": str(self.api)}, check=False)
        if result.returncode:
            raise Refused(args, result.returncode, result.stderr, result.stdout)
        return result.stdout

    def ls(self) -> dict[str, dict[str, Any]]:
        """Objects by name."""
        return {row["name"]: row for row in json.loads(self.cli("ls", "--json"))}

    def stats(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.cli("stats", "--json"))
        return value

    def url(self, name: str) -> str:
        url: str = self.ls()[name]["url"]
        return url

    def check(self) -> str:
        """`pool check` of the stopped pool."""
        return self.cli("pool", "check", str(self.pool))

    def close_process(self) -> None:
        """Whatever happened, it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None

    def close(self) -> None:
        """Whatever happened, leave nothing running."""
        self.close_process()
        self.api.unlink(missing_ok=True)
        self.api.with_name(self.api.name + ".fd").unlink(missing_ok=True)
        self.api.parent.rmdir()


def logged(daemon: DaemonProcess, pattern: str) -> str:
    """The first line of the log that has it, which may still have to be written."""
    return until(lambda: next((line for line in daemon.log.read_text().splitlines() if re.search(pattern, line)), ""),
                 lambda: f"no line with {pattern} in:\n{daemon.log.read_text()[-3000:]}")
