"""Memory that ended sessions leave in the allocator goes back to the system; glibc would keep it for the life of the process."""

from __future__ import annotations

import asyncio
import ctypes

REST_SECONDS = 5.0      # after a session ends, so that many that end together cost one trim


class Trimming:
    """`due` may be called as often as sessions end."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)   # not every C library has it

    def due(self) -> None:
        if self._timer is None and self._trim is not None:
            self._timer = asyncio.get_running_loop().call_later(REST_SECONDS, self._now)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> None:
        self._timer = None
        if self._trim is not None:
            self._trim(0)
