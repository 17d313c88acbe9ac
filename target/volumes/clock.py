"""Whether somebody sets the machine's clock while a pool is served: noticed here and said once, wherever the pool lies.

Nothing of a pool's safety depends on it: leases and deadlines go by the clock that nobody sets (docs/ownership.md). Times that
are shown and schedules do; what schedules make of it is target/volumes/schedules.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from core.ownership import boot_clock

log = logging.getLogger("lunette.clock")

STEP_SECONDS = 10.0         # what a clock is slewed by between two looks, and what a busy machine takes to look, is less


class ClockWatch:
    """Compares the wall's clock with the one that only goes on, from look to look."""

    def __init__(self, wall_s: Callable[[], float] = time.time, machine_s: Callable[[], float] = boot_clock) -> None:
        self._wall_s, self._machine_s = wall_s, machine_s
        self._ahead_s = self._ahead()

    def _ahead(self) -> float:
        """By how much the wall's clock is ahead of the other, both read within a moment."""
        while True:
            before_s, wall_s, after_s = self._machine_s(), self._wall_s(), self._machine_s()
            if after_s - before_s < 1.0:            # else this process was stopped meanwhile
                return wall_s - before_s

    def look(self) -> None:
        """Say by how much the clock was set since the last look, if it was."""
        ahead_s = self._ahead()
        step_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(step_s) >= STEP_SECONDS:
            now = datetime.fromtimestamp(self._wall_s(), UTC)
            log.warning("the machine's clock was set %s by %s, to %s: times that are shown and schedules follow it; "
                        "who serves the pool does not depend on it", "forward" if step_s > 0 else "back",
                        timedelta(seconds=round(abs(step_s))), now.isoformat(" ", "seconds"))
