"""The owner's half of a manifest: what its pool's operations change is told before they are answered (`manifest.py`).

What cannot be told must not be told wrongly: if the table cannot be written it is removed, and written anew when it can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from target.volumes.gateway import AsyncPool
from target.volumes.manifest import HEAD, KV, OBJECT, TOLD_KINDS, Table, Waiter, Waiters, facts_of

log = logging.getLogger("lunette.telling")

AGAIN_SECONDS = 1.0
LOOK_SECONDS = 2.0          # how often it is looked which gateways wait
# Operation -> the argument that says whose facts it changes.
SHAPES = {"resize": "object_id", "set": "object_id", "delete": "object_id", "revert": "volume_id"}

Changes = dict[str, bytes | None]
Then = Callable[[], None]


class Telling:
    """Follows an `AsyncPool` whose owner this process is."""

    def __init__(self, table: Table, pool: AsyncPool, head: Mapping[str, Any],
                 waiting: Callable[[dict[int, Waiter]], None] = lambda groups: None) -> None:
        """`head`: what `!` says besides the number of changes: `owner`, `pool`, `target`, `own_name`, `groups`.

        `waiting` is told every LOOK_SECONDS of the gateways that wait, by their groups.
        """
        self._table = table
        self._pool = pool
        self._head = dict(head)
        self._tell_waiting = waiting
        self._count = 0
        self._objects: set[int] = set()     # that were told of
        self._due: list[tuple[Changes, Then]] = []
        self._some = asyncio.Event()
        self._withdrawn = True              # there is no table that could be wrong
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Tell everything, and follow the pool from then on."""
        self._pool.follower = self
        await self._tell({})
        self._tasks = [asyncio.create_task(self._run(), name="telling"), asyncio.create_task(self._look(), name="waiters")]

    async def stop(self) -> None:
        """What is done already is told still."""
        self._pool.follower = None
        while self._due and self._tasks:
            self._some.set()
            await asyncio.sleep(AGAIN_SECONDS / 100)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    # -- the pool's follower -------------------------------------------------------------------------------------
    def concerns(self, op: str, args: Mapping[str, Any]) -> bool:
        """May an operation change what is told? Asked when it starts."""
        return op in SHAPES or (op == "kv" and any(key.startswith(TOLD_KINDS) for key in args["changes"]))

    def done(self, op: str, args: Mapping[str, Any], then: Then) -> None:
        """It is done; `then` is called when it is told, too."""
        self._due.append((self._about(args[SHAPES[op]]) if op in SHAPES else self._entries(args["changes"]), then))
        self._some.set()

    # -- what is told --------------------------------------------------------------------------------------------
    def _entries(self, changes: Mapping[str, bytes | None]) -> Changes:
        """For entries of the catalog; objects that are connected with them."""
        told: Changes = {}
        for key, value in changes.items():
            if key.startswith(TOLD_KINDS):
                told[KV + key] = value
            if key.startswith("connection/") and value is not None:
                told |= self._about(int(json.loads(value)["object"]), connected=True)
        return told

    def _about(self, object_id: int, *, connected: bool = False) -> Changes:
        """What is to be said of an object, if it is connected or was."""
        if not connected and object_id not in self._objects:
            return {}
        info = self._pool.info(object_id)
        (self._objects.discard if info is None else self._objects.add)(object_id)
        return {f"{OBJECT}{object_id}": None if info is None else facts_of(info)}

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), AGAIN_SECONDS if self._withdrawn else None)
            self._some.clear()
            batch, self._due = self._due, []
            told: Changes = {}
            for changes, _ in batch:
                told |= changes
            await self._tell(told)
            for _, then in batch:
                then()

    async def _tell(self, told: Changes) -> None:
        """Write what has changed, or everything where nothing is told; return when the table is right, or is not there."""
        try:
            if self._withdrawn:
                told = await self._everything()
            if told:
                self._count += 1
                head = json.dumps({**self._head, "count": self._count}).encode()
                await asyncio.to_thread(self._table.apply, {**told, HEAD: head})
            self._withdrawn = False
        except OSError as error:
            if not self._withdrawn:
                log.warning("gateways that wait cannot be told of a change: %s; they show nothing meanwhile", error.strerror)
            self._withdrawn = True
            await self._remove()

    async def _remove(self) -> None:
        """Until it is gone: nothing is answered before, and if the cluster does not hear at all the lease ends."""
        while True:
            try:
                await asyncio.to_thread(self._table.remove)
                return
            except OSError:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _everything(self) -> Changes:
        """What makes a table say all that the pool does, whatever it says now."""
        self._objects.clear()
        wanted = self._entries(self._pool.kv())
        there = await asyncio.to_thread(self._table.all)
        gone: Changes = {key: None for key in there if key.startswith((KV, OBJECT)) and wanted.get(key) is None}
        return {HEAD: b"", **gone, **{key: value for key, value in wanted.items() if there.get(key) != value}}

    async def _look(self) -> None:
        waiters = Waiters()
        while True:
            with contextlib.suppress(OSError):
                self._tell_waiting(waiters.look(await asyncio.to_thread(self._table.all)))
            await asyncio.sleep(LOOK_SECONDS)
