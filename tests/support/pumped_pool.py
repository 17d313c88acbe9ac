"""The real engine without reactors: its queue device is pumped by the event loop. For tests of the control plane."""

from __future__ import annotations

import asyncio
from typing import Any


class PumpedPool:
    """A core.pool.engine.Pool whose operations complete by themselves on the running loop."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._due = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def start(self, op: str, **args: Any) -> int:
        token: int = self._pool.start(op, **args)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._pump)
        return token

    def _pump(self) -> None:
        self._due = False
        while self._pool.turn() == 0 or self._pool.pending_io():
            for io in self._pool.pending_io():
                self._pool.perform(io[0])
