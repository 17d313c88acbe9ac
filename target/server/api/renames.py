"""Renaming a volume together with its snapshots, as one step: what a crash cuts short is carried on at the next start.

The names are changed one by one, each durable for itself. `renaming/OBJECT_ID` in the catalog says for so long what is meant.
"""

from __future__ import annotations

import asyncio
import logging

from target.errors import LunetteError
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool, ObjectInfo, PoolError, pool_error
from target.volumes.lineage import Lineage

log = logging.getLogger("lunette.renames")


class Renames:
    """The renames of one daemon."""

    def __init__(self, pool: AsyncPool, catalog: Catalog, lineage: Lineage) -> None:
        self._pool = pool
        self._catalog = catalog
        self._lineage = lineage

    async def rename(self, info: ObjectInfo, name: str) -> None:
        """An object, and the snapshots of a volume. All of them or none. LunetteError: exists, invalid, the pool's codes."""
        pairs = self._pairs(info, info.name, name)
        for each, new in pairs:
            if new != each.name and self._pool.lookup(new) is not None:
                raise LunetteError("exists", f"there is {new!r} already")
        try:
            if len(pairs) > 1:
                await self._catalog.save_renaming(info.id, (info.name, name))
            try:
                await self._all(pairs)
            finally:        # a pool that failed meanwhile keeps it: the next start carries the rename on
                if len(pairs) > 1:
                    await self._catalog.save_renaming(info.id, None)
        except PoolError as error:
            raise pool_error(error.code, f"rename {info.name}") from None

    async def finish(self) -> None:
        """Carry on what a crash cut short. What cannot be any more is left as it is, and said."""
        for object_id, (old, new) in self._catalog.renaming().items():
            info = self._pool.info(object_id)
            try:
                if info is not None:
                    await self._all(self._pairs(info, old, new))
                    log.warning("the rename of %s to %s, which was cut short, is over now", old, new)
                await self._catalog.save_renaming(object_id, None)
            except (PoolError, LunetteError) as error:
                log.error("the rename of %s to %s was cut short and cannot be carried on: %s", old, new, error)

    def _pairs(self, info: ObjectInfo, old: str, new: str) -> list[tuple[ObjectInfo, str]]:
        """What still has the old name, or begins with it, with its new name."""
        pairs = [(info, new)] if info.name == old else []
        if info.kind != "snapshot":
            pairs += [(each, new + each.name[len(old):]) for each in self._lineage.snapshots_named(old, info.id)]
        return pairs

    async def _all(self, pairs: list[tuple[ObjectInfo, str]]) -> None:
        """PoolError when one cannot be renamed; then none is, as far as the pool still lets itself be written."""
        calls = [self._pool.call("rename", object_id=each.id, name=new) for each, new in pairs]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        failed = next((each for each in ends if isinstance(each, BaseException)), None)
        if failed is not None:
            done = [each for (each, _), end in zip(pairs, ends, strict=True) if not isinstance(end, BaseException)]
            await asyncio.gather(*(self._pool.call("rename", object_id=each.id, name=each.name) for each in done))
            raise failed
        self._lineage.named(self._pool.info(each.id) for each, _ in pairs)
