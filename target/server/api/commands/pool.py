"""Commands on the pool: its size, and how full it may become before initiators are told."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import asdict

from target.config import format_size
from target.errors import LunetteError
from target.models.pool import Grow, SetThresholds
from target.server.api.commands.subject import Subject
from target.server.api.served import Served
from target.server.command import Command, Json
from target.volumes.catalog import Thresholds
from target.volumes.gateway import PoolError
from target.volumes.lineage import Lineage

# What the file system below says where it cannot give so much; anything else is a fault of it.
REFUSALS = {errno.EFBIG: "limit", errno.EINVAL: "limit", errno.ENOSPC: "no_space", errno.EDQUOT: "no_space"}


class PoolCommands(Subject):
    """What concerns the pool as a whole."""

    def __init__(self, served: Served, lineage: Lineage, enlarge: Callable[[int], int]) -> None:
        """`enlarge` makes the pool's file as large as it is given, rounded up; that size. PoolError, OSError."""
        super().__init__(served, lineage)
        self._enlarge = enlarge

    def commands(self) -> list[Command]:
        return [
            Command("grow", Grow, self.grow, "admin", answer="Grown"),
            Command("thresholds", SetThresholds, self.thresholds, "admin", answer="ThresholdsRow"),
        ]

    async def grow(self, args: Grow) -> Json:
        size_bytes = args.size_bytes
        if size_bytes <= self._pool.pool.size_bytes:
            raise LunetteError("invalid", f"the pool has {format_size(self._pool.pool.size_bytes)} already")
        try:
            size_bytes = self._enlarge(size_bytes)
        except PoolError as error:
            raise LunetteError(error.code, str(error)) from None
        except OSError as error:
            raise LunetteError(REFUSALS.get(error.errno or 0, "io_write"), f"cannot enlarge the pool: {error.strerror}") from None
        await self._call("grow", "grow", size_bytes=size_bytes)
        return {"name": "pool", "size_bytes": size_bytes, "asked_bytes": args.size_bytes}

    async def thresholds(self, args: SetThresholds) -> Json:
        """Set how full the pool may become before initiators are told; what is not named stays."""
        now = self._catalog.thresholds
        chosen = Thresholds(args.soft_percent or now.soft_percent, args.hard_percent or now.hard_percent)
        await self._catalog.save_thresholds(chosen)
        self._served.monitor.look()
        return {"space": self._served.monitor.state, **asdict(chosen)}
