"""What a service manager is told: that the daemon is ready, reloads, stops, lives (sd_notify(3): datagrams on $NOTIFY_SOCKET).

Without a manager nothing is sent. The watchdog is petted by who proves that the event loop turns and the pool is still ours.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping

log = logging.getLogger("lunette.notify")


class Notifier:
    """The manager of this process, if there is one."""

    def __init__(self, environment: MutableMapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes what it needs out of the environment: processes that this one starts are not the service."""
        found = os.environ if environment is None else environment
        self._address = found.pop("NOTIFY_SOCKET", "")
        self._clock = clock
        self._period_s = _watchdog_seconds(found) / 2       # 0: nobody watches
        self._due_s = 0.0
        self._is_ready = False
        found.pop("WATCHDOG_USEC", None)
        found.pop("WATCHDOG_PID", None)

    def ready(self, status: str) -> None:
        self._is_ready = True
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read again within the block. What is not ready yet is not made so by that."""
        if self._is_ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            yield
        finally:
            if self._is_ready:
                self._send("READY=1")

    def waiting(self, status: str) -> None:
        """It takes longer than a start should, for a reason: the manager shows it, and waits for half a minute more."""
        self._send(f"STATUS={status}\nEXTEND_TIMEOUT_USEC=30000000")

    def stopping(self) -> None:
        self._is_ready = False
        self._send("STOPPING=1\nSTATUS=asks initiators to log out, and closes the pool")

    def alive(self) -> None:
        """Call it often; it tells the watchdog twice in the time that one may be silent."""
        if self._period_s and self._clock() >= self._due_s:
            self._due_s = self._clock() + self._period_s
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), address)
        except OSError as error:
            log.warning("the service manager cannot be told %r: %s", text.partition("\n")[0], error.strerror)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """How long the process may be silent; 0: for ever, or another is meant."""
    wait, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (wait.isascii() and wait.isdigit()) or (process and process != str(os.getpid())):
        return 0.0
    return int(wait) / 1e6
