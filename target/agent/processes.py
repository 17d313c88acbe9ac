"""The gateways of one machine as processes: started, moved in good order, ended; none of them outlives the agent's interest."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from target.client import Client
from target.errors import LunetteError

log = logging.getLogger("lunette.agent")

FORWARD_S = 60.0            # a gateway that has given its pool up sends logins on for so long
STOP_S = 30.0               # one that does not end by then is killed


class Processes:
    """A `Runner` (target/agent/agent.py). Each pool has a socket and a log in `directory`."""

    def __init__(self, directory: Path, *, host: str, options: Sequence[str] = ()) -> None:
        """`host`: the address that all of this machine's gateways listen on, each at its pool's port."""
        self._directory = directory
        self._host, self._options = host, list(options)
        self._serving: dict[str, subprocess.Popen[bytes]] = {}
        self._leaving: dict[str, tuple[subprocess.Popen[bytes], float]] = {}     # pool -> until when it sends logins on
        self._ports: dict[str, int] = {}

    def running(self) -> set[str]:
        for pool in [pool for pool, process in self._serving.items() if process.poll() is not None]:
            log.warning("the gateway of %s has ended with status %s", pool, self._serving.pop(pool).returncode)
        for pool, (process, until_s) in list(self._leaving.items()):
            if process.poll() is not None:
                del self._leaving[pool]
            elif time.monotonic() > until_s:
                process.kill()              # it has nothing of the pool
        return set(self._serving)

    def start(self, pool: str, facts: Mapping[str, Any]) -> None:
        place, port = str(facts["place"]), int(facts.get("port", 3260))
        self._ports[pool] = port
        takeover = ["--takeover"] if place.startswith("rbd:") else []
        if pool in self._leaving:           # it has come back, and its port is wanted
            process, _ = self._leaving.pop(pool)
            process.kill()
            process.wait()
        with (self._directory / f"{pool}.log").open("ab") as out:
            self._serving[pool] = subprocess.Popen(
                [sys.executable, "-m", "target", "serve", place, "--api", str(self.socket(pool)),
                 "--listen", f"{self._host}:{port}", *takeover, *self._options],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def stop(self, pool: str, moved_to: str) -> None:
        """Give the pool up; logins are sent to the same port of `moved_to` for a while."""
        process = self._serving.get(pool)
        if process is None:
            return
        waits_s = 0.0
        if moved_to:
            with contextlib.suppress(LunetteError):
                client = Client(str(self.socket(pool)))
                if "moved_to" in client.command("move", {"address": f"{moved_to}:{self._ports[pool]}"}):
                    waits_s = FORWARD_S
                    self._wait_until_given_up(client)
        if not waits_s:
            process.send_signal(signal.SIGTERM)
            return                          # it counts as running until it has ended
        del self._serving[pool]
        self._leaving[pool] = process, time.monotonic() + waits_s

    def close(self) -> None:
        """End them all in good order."""
        everyone = [*self._serving.values(), *(process for process, _ in self._leaving.values())]
        for process in everyone:
            process.send_signal(signal.SIGTERM)
        for process in everyone:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def socket(self, pool: str) -> Path:
        return self._directory / f"{pool}.sock"

    @staticmethod
    def _wait_until_given_up(client: Client) -> None:
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            with contextlib.suppress(LunetteError):
                if client.get("/v1/gateway")["state"] == "standby":
                    return
            time.sleep(0.05)
