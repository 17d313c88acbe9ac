"""A wire between two peers that counts TLS records and does something at one of them: cuts, or kills whoever a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

HEADER_BYTES = 5


class Cutter:
    """Forwards connections to a port of 127.0.0.1. `up` is what comes from who connects."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._plan: tuple[str, int, Callable[[], None]] | None = None
        self.done = threading.Event()           # the plan was carried out
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def plan(self, way: str, record: int, action: Callable[[], None] = lambda: None) -> None:
        """Cut the first connection from now on that has carried so many records one way, and do that."""
        with self._lock:
            self.done.clear()
            self._plan = way, record, action

    def close(self) -> None:
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
                plan = self._plan
            for way, one, other in (("up", client, server), ("down", server, client)):
                threading.Thread(target=self._carry, args=(way, one, other, plan), daemon=True).start()

    def _carry(self, way: str, one: socket.socket, other: socket.socket,
               plan: tuple[str, int, Callable[[], None]] | None) -> None:
        with contextlib.suppress(OSError):
            records = 0
            while record := self._record(one):
                records += 1
                if plan is not None and plan is self._plan and plan[:2] == (way, records):
                    self._plan = None
                    plan[2]()
                    self.done.set()
                    for each in (one, other):
                        each.shutdown(socket.SHUT_RDWR)
                    break
                other.sendall(record)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_WR if each is other else socket.SHUT_RD)

    def _record(self, sock: socket.socket) -> bytes:
        head = self._exactly(sock, HEADER_BYTES)
        return head + self._exactly(sock, int.from_bytes(head[3:])) if len(head) == HEADER_BYTES else b""

    def _exactly(self, sock: socket.socket, count: int) -> bytes:
        found = b""
        while len(found) < count and (part := sock.recv(count - len(found))):
            found += part
        return found
