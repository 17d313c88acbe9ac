"""Ended sessions whose commands are not over yet: no login waits for them, but their writes may still land (SAM-5 §6.3.4).

A session ends at once, whatever the disk does. What it had in the engine finishes later, and must not overwrite what the same
host writes by another session meanwhile, nor outlive a reset or a PREEMPT AND ABORT.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

WAIT_SECONDS = 30.0


@dataclass(eq=False, slots=True)
class _Drain:
    initiator_name: str
    tasks: frozenset[asyncio.Task[None]]                     # commands that Python runs
    closed: asyncio.Event = field(default_factory=asyncio.Event)  # set when the data plane has nothing left of it


class Draining:
    """`over` is called with an initiator's name when nothing of its ended sessions is left."""

    def __init__(self, over: Callable[[str], None]) -> None:
        self._over = over
        self._drains: dict[asyncio.Task[None], _Drain] = {}
        self._closing: dict[tuple[int, int], _Drain] = {}

    def begin(self, initiator_name: str, key: tuple[int, int], tasks: Iterable[asyncio.Task[None]]) -> None:
        """A session ended; `key` is its reactor's index and its number there."""
        drain = self._closing[key] = _Drain(initiator_name, frozenset(tasks))
        task = asyncio.create_task(self._finish(drain), name="draining")
        self._drains[task] = drain
        task.add_done_callback(self._done)

    def closed(self, key: tuple[int, int]) -> None:
        """The data plane has freed the last task of a session."""
        drain = self._closing.pop(key, None)
        if drain is not None:
            drain.closed.set()

    def busy(self, initiator_name: str) -> bool:
        return any(each.initiator_name == initiator_name for each in self._drains.values())

    async def wait(self, initiator_name: str | None = None, timeout_seconds: float | None = None) -> None:
        """Wait for the ended sessions of one initiator (None: of all), except for one whose command asks."""
        me = asyncio.current_task()
        waits = [task for task, each in self._drains.items()
                 if me not in each.tasks and initiator_name in (None, each.initiator_name)]
        if waits:
            await asyncio.wait(waits, timeout=timeout_seconds)

    def stop(self) -> None:
        for task in self._drains:
            task.cancel()

    async def _finish(self, drain: _Drain) -> None:
        await drain.closed.wait()
        if drain.tasks:
            await asyncio.wait(drain.tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        name = self._drains.pop(task).initiator_name
        if not task.cancelled() and not self.busy(name):
            self._over(name)
