"""Transfers: snapshots on their way out of the pool or into it, each a job, and the numbers of all of them for metrics.

A transfer is of one kind (send, receive, backup, restore ...) and of one volume, or of one repository. What it counts as done is
bytes of the volume that it has passed; what it moves is counted beside.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

from target.server.background.jobs import Job, Jobs

SUCCESSES = 1024        # volumes whose last success is remembered

Told = Callable[[int, int, int], None]      # bytes passed, bytes of all that is known to come, bytes moved


def untold(passed: int, total: int, moved: int) -> None:
    """Nobody wants to know."""


class Transfer:
    """One that is under way."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.moved_bytes = 0

    def told(self, passed: int, total: int | None, moved: int) -> None:
        self.moved_bytes = moved
        self.job.at(passed, total)


class Transfers:
    """Those of one daemon. `bytes_moved`, `ended` by kind (and how), `last_success_s` by kind and volume."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._running: dict[Transfer, str] = {}
        self._moved: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.last_success_s: OrderedDict[tuple[str, str], float] = OrderedDict()

    @contextlib.contextmanager
    def run(self, kind: str, names: list[str], *, of: str = "", unit: str = "bytes") -> Iterator[Transfer]:
        """One, as long as the block lasts, in this task: a job that can be cancelled. `names`: of objects that it concerns.

        `of` is whose last success it is, where that is not the first one's volume.
        """
        transfer = None
        try:
            with self._jobs.run(kind, names, unit=unit) as job:
                transfer = self._running_one(kind, job)
                yield transfer
        except BaseException:
            self.ended[kind, "cancelled" if transfer and transfer.job.state == "cancelled" else "failed"] += 1
            raise
        else:
            self.ended[kind, "done"] += 1
            key = kind, of or (names[0].partition("@")[0] if names else "")
            self.last_success_s[key] = time.time()
            self.last_success_s.move_to_end(key)
            while len(self.last_success_s) > SUCCESSES:
                self.last_success_s.popitem(last=False)
        finally:
            if transfer is not None:
                del self._running[transfer]
                self._moved[kind] += transfer.moved_bytes

    def _running_one(self, kind: str, job: Job) -> Transfer:
        transfer = Transfer(job)
        self._running[transfer] = kind
        return transfer

    def running(self) -> Counter[str]:
        return Counter(self._running.values())

    def moved_bytes(self) -> Counter[str]:
        """By kind, of those that run, too."""
        found = Counter(self._moved)
        for transfer, kind in self._running.items():
            found[kind] += transfer.moved_bytes
        return found
