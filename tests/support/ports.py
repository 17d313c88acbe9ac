"""TCP ports of 127.0.0.1 for what tests start: nobody else takes one between its choice and its use, nor over a restart."""

from __future__ import annotations

import secrets
import socket
from collections import deque
from pathlib import Path

FIRST = 10_000
KEPT = 200      # a test uses a few, and what a module shares goes with the module

_claims: deque[socket.socket] = deque()


def free_port() -> int:
    """One that nobody uses, and that no other process of tests is given while this one has not taken many more.

    It lies below those that the kernel gives to outgoing connections. What claims it is a name of a Unix socket, which goes
    with the process, and is as visible as the port: within one network namespace.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    last = low if low >= 2 * FIRST else 32768
    for _ in range(1000):
        port = FIRST + secrets.randbelow(last - FIRST)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0lunette-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > KEPT:
            _claims.popleft().close()
        return port
    raise AssertionError("no port is free")
