"""A wire between two peers that counts TLS records, and at one of them is cut, falls silent, or kills whoever a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

HEADER_BYTES = 5


@dataclass(frozen=True, slots=True)
class _Plan:
    way: str
    record: int
    action: Callable[[], None]
    silent: bool


@dataclass(slots=True)
class _Wire:
    """One connection: what connected, and what it reaches."""

    client: socket.socket
    server: socket.socket
    plan: _Plan | None
    silent: threading.Event = field(default_factory=threading.Event)


class Cutter:
    """Forwards connections to a port of 127.0.0.1. `up` is what comes from who connects."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._plan: _Plan | None = None
        self.done = threading.Event()           # the plan was carried out
        self._over = threading.Event()
        self._idle = threading.Event()          # no action is under way
        self._idle.set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def plan(self, way: str, record: int, action: Callable[[], None] = lambda: None, *, silent: bool = False) -> None:
        """At the first connection from now on that has carried so many records one way: do that, and cut it.

        `silent`: nothing goes either way any more, and nobody is told, as when packets are lost.
        """
        with self._lock:
            self.done.clear()
            self._plan = _Plan(way, record, action, silent)

    def forget(self) -> None:
        """Plan nothing any more; what is being done is over then."""
        with self._lock:
            self._plan = None
        self._idle.wait()

    def close(self) -> None:
        self._over.set()
        self._sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._sock.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream_port))
            except OSError:
                if self._sock.fileno() < 0:
                    return
                with contextlib.suppress(OSError, UnboundLocalError):
                    client.close()
                continue
            with self._lock:
                wire = _Wire(client, server, self._plan)
            for way in ("up", "down"):
                threading.Thread(target=self._carry, args=(wire, way), daemon=True).start()

    def _carry(self, wire: _Wire, way: str) -> None:
        one, other = (wire.client, wire.server) if way == "up" else (wire.server, wire.client)
        with contextlib.suppress(OSError):
            records = 0
            while record := self._record(one):
                records += 1
                plan = wire.plan
                if plan is not None and (plan.way, plan.record) == (way, records) and self._begun(plan):
                    if plan.silent:
                        wire.silent.set()
                    try:
                        plan.action()
                    finally:
                        self._idle.set()
                    self.done.set()
                    if not plan.silent:
                        for each in (one, other):
                            each.shutdown(socket.SHUT_RDWR)
                        break
                if wire.silent.is_set():
                    self._over.wait()
                    break
                other.sendall(record)
        if wire.silent.is_set():
            self._over.wait()
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_WR if each is other else socket.SHUT_RD)

    def _begun(self, plan: _Plan) -> bool:
        """Whether the plan stands still: then it is carried out now, once."""
        with self._lock:
            if plan is not self._plan:
                return False
            self._plan = None
            self._idle.clear()
            return True

    def _record(self, sock: socket.socket) -> bytes:
        head = self._exactly(sock, HEADER_BYTES)
        return head + self._exactly(sock, int.from_bytes(head[3:])) if len(head) == HEADER_BYTES else b""

    def _exactly(self, sock: socket.socket, count: int) -> bytes:
        found = b""
        while len(found) < count and (part := sock.recv(count - len(found))):
            found += part
        return found
