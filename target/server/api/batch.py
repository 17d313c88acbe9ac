"""Batches: commands in order, overlapped where they touch different names, so that they share durable commits."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from target.errors import LunetteError
from target.models.checking import read_json
from target.server.api.commands.table import Commands
from target.server.command import Touches

OVERLAP = 256           # commands in progress at once
MAX_LINE_BYTES = 65536

Emit = Callable[[dict[str, Any]], Awaitable[None]]


def _taken_note_of(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def _refused(error: LunetteError) -> None:
    raise error


class _Order:
    """Who must be waited for: the last writer of each name and its readers since then."""

    def __init__(self) -> None:
        self._writer: dict[str, asyncio.Task[Any]] = {}
        self._readers: dict[str, list[asyncio.Task[Any]]] = {}
        self._barrier: asyncio.Task[Any] | None = None
        self._all: set[asyncio.Task[Any]] = set()

    def before(self, touches: Touches) -> list[asyncio.Task[Any]]:
        """The unfinished commands that one touching this must follow."""
        if touches.everything:
            return [task for task in self._all if not task.done()]
        found = {self._writer[name] for name in touches.reads | touches.writes if name in self._writer}
        for name in touches.writes:
            found.update(self._readers.get(name, ()))
        if self._barrier is not None:
            found.add(self._barrier)
        return [task for task in found if not task.done()]

    def enter(self, touches: Touches, task: asyncio.Task[Any]) -> None:
        """Until it calls `leave`."""
        self._all.add(task)
        if touches.everything:
            self._barrier = task
        for name in touches.writes:
            self._writer[name] = task
            self._readers.pop(name, None)
        for name in touches.reads - touches.writes:
            self._readers.setdefault(name, []).append(task)

    def leave(self, touches: Touches, task: asyncio.Task[Any]) -> None:
        """It has ended, or does so without another step: nobody needs to wait for it any more."""
        self._all.discard(task)
        for name in touches.writes:
            if self._writer.get(name) is task:
                del self._writer[name]
        for name in touches.reads:
            readers = self._readers.get(name)
            if readers is not None and task in readers:
                readers.remove(task)
                if not readers:
                    del self._readers[name]


class Batch:
    """Runs one batch. Results go to `emit` in the order of the lines; the first failure stops it unless `keep_going`.

    A command starts once all earlier ones that touch its names have ended, so the outcome is that of one at a time.
    Commands after a failed one that were under way by then finish, and their results are emitted too.
    """

    def __init__(self, commands: Commands, emit: Emit, *, keep_going: bool = False) -> None:
        self._commands = commands
        self._emit = emit
        self._keep_going = keep_going
        self._order = _Order()
        self._failed = False
        self.done = 0
        self.failures = 0

    async def run(self, lines: AsyncIterator[bytes]) -> None:
        """Read `{"line": N, "command": NAME, "args": {...}}` lines until they end or one fails."""
        queue: deque[tuple[int, asyncio.Task[Any]]] = deque()
        try:
            async for raw in lines:
                if self._failed:
                    break
                number, command, args = self._parse(raw)
                touches, run = self._begun(command, args)
                previous = self._order.before(touches)
                task = asyncio.create_task(self._one(run, touches, previous))
                self._order.enter(touches, task)
                queue.append((number, task))
                while queue and (queue[0][1].done() or len(queue) >= OVERLAP):
                    await self._report(*queue.popleft())
            while queue:
                await self._report(*queue.popleft())
        except BaseException:
            self._failed = True             # nobody hears of the rest: what waits for others does not begin
            for _, task in queue:
                task.add_done_callback(_taken_note_of)
            raise

    def _begun(self, name: str, document: dict[str, Any]) -> tuple[Touches, Callable[[], Awaitable[Any]]]:
        """What a line touches, and what runs it; one that is refused touches nothing and says so in its turn."""
        try:
            command, args = self._commands.parse(name, document)
        except LunetteError as error:
            return Touches(), functools.partial(_refused, error)
        return command.touches(args), functools.partial(self._commands.perform, command, args)

    async def _one(self, run: Callable[[], Awaitable[Any]], touches: Touches, previous: list[asyncio.Task[Any]]) -> Any:
        try:
            if previous:
                await asyncio.wait(previous)
                if self._failed:
                    raise LunetteError("aborted", "not run: an earlier line failed")
            return await run()
        except LunetteError:
            self._failed = self._failed or not self._keep_going
            raise
        finally:
            self._order.leave(touches, cast("asyncio.Task[Any]", asyncio.current_task()))

    async def _report(self, number: int, task: asyncio.Task[Any]) -> None:
        if not task.done():
            await asyncio.wait({task})
        error = task.exception()
        if error is None:
            self.done += 1
            await self._emit({"line": number, "result": task.result()})
            return
        self.failures += 1
        if not isinstance(error, LunetteError):
            error = LunetteError("internal", f"{type(error).__name__}: {error}")
        await self._emit({"line": number, **error.as_json()})

    def _parse(self, raw: bytes) -> tuple[int, str, dict[str, Any]]:
        try:
            document = read_json(raw)
            number, command, args = int(document["line"]), document["command"], document.get("args", {})
            if not isinstance(command, str) or not isinstance(args, dict):
                raise ValueError("command and args")
        except (ValueError, KeyError, TypeError, RecursionError):
            return 0, "", {}
        return number, command, args
