"""Saying the same thing now and then only: what strangers cause must not fill the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

SECONDS = 10.0
MOST_KEYS = 1024


class Throttle:
    """Which of many events of one kind are said. Memory is bounded: the oldest key is forgotten first."""

    def __init__(self, seconds: float = SECONDS, burst: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        """`burst` events of a key are said in `seconds`."""
        self._seconds = seconds
        self._burst = burst
        self._clock = clock
        self._said: dict[Hashable, tuple[float, int]] = {}     # key -> since when, how many came since

    def more(self, key: Hashable) -> str | None:
        """None: keep quiet. Else what to add to the line: how many were not said since the last one, or nothing."""
        now = self._clock()
        at, count = self._said.get(key, (now - self._seconds, 0))
        if now - at < self._seconds:
            self._said[key] = at, count + 1
            return "" if count < self._burst else None
        self._said.pop(key, None)
        if len(self._said) >= MOST_KEYS:
            del self._said[next(iter(self._said))]
        self._said[key] = now, 1
        return f" ({count - self._burst} more since the last such line)" if count > self._burst else ""
