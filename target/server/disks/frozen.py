"""Frozen media: hidden snapshots, each what a point-in-time token reads, gone when the token is (SPC-4 §5.16.6)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable

from target.scsi import BackendError, BlockBackend
from target.server.disks.backend import PoolBackend
from target.volumes.gateway import HIDDEN, AsyncPool, ObjectInfo, PoolError

log = logging.getLogger("lunette.frozen")

PERIOD_SECONDS = 5.0


class FrozenMedia:
    """Makes and deletes the hidden snapshots of one pool; how many there are is bounded by the tokens (scsi/rod.py)."""

    def __init__(self, pool: AsyncPool, expire: Callable[[float], Awaitable[None]],
                 kept: Callable[[ObjectInfo], bool] = lambda info: False) -> None:
        """`expire` is called with the time in seconds every PERIOD_SECONDS: it thaws what expired tokens hold.

        Hidden objects that are `kept` outlive a restart: others' work.
        """
        self._pool = pool
        self._expire = expire
        self._kept = kept
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Delete what an earlier run left, begin to look for what has expired."""
        for info in self._pool.hidden():
            if not self._kept(info):
                await self._delete(info.id)
        self._task = asyncio.create_task(self._run(), name="frozen media")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def freeze(self, backend: BlockBackend) -> BlockBackend | None:
        """The medium as it is now; a snapshot stands for itself. BackendError when the pool cannot."""
        assert isinstance(backend, PoolBackend)
        if backend.read_only:
            return backend
        try:
            made = await self._pool.call("snapshot", pairs=[(backend.object_id, f"{HIDDEN}frozen.{next(self._numbers)}")])
        except PoolError as error:
            raise BackendError(error.code, str(error), error.value) from None
        info = self._pool.info(made[0])
        return None if info is None else PoolBackend(self._pool, info)

    async def thaw(self, frozen: BlockBackend) -> None:
        """Nobody reads this any more."""
        assert isinstance(frozen, PoolBackend)
        info = self._pool.info(frozen.object_id)
        if info is not None and info.name.startswith(HIDDEN):
            await self._delete(info.id)

    async def _delete(self, object_id: int) -> None:
        try:
            await self._pool.call("delete", object_id=object_id)
        except PoolError as error:  # a pool gone read-only keeps it until it can be written again
            log.warning("a frozen medium stays until the next start: %s", error)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self._expire(time.time())
            except Exception:
                log.exception("expired tokens were not let go of")
