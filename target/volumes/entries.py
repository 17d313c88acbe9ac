"""Entries of a pool's key store, by kind: how each is taken over into memory, how it goes, how it is kept.

A key is `KIND` or `KIND/REST`. Who keeps entries of a kind has one row for it in a table; nobody else reads or writes them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, PoolError, pool_error


@dataclass(frozen=True, slots=True)
class Kind:
    """One row. Both functions get what follows `KIND/` in the key, `load` the value too.

    `load` raises ValueError, KeyError, TypeError or LunetteError for what it cannot read; what belongs to something that is
    gone it leaves aside. `drop` comes for an entry that is taken away, or replaced, by others than its owner; without one
    that never happens.
    """

    load: Callable[[str, Any], None]
    drop: Callable[[str], object] | None = None
    opaque: bool = False            # the value is bytes, no JSON
    secret: bool = False            # an error shall not quote it


def encoded(changes: Mapping[str, Any]) -> dict[str, bytes | None]:
    """Changes of the store, their values as JSON unless they are bytes; None takes a key away."""
    return {key: value if value is None or isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
            for key, value in changes.items()}


class Entries:
    """The kinds that one part of Lunette keeps in a pool; `what` they are, for errors."""

    def __init__(self, pool: AsyncPool, what: str, kinds: Mapping[str, Kind]) -> None:
        self._pool = pool
        self._what = what
        self._kinds = kinds

    def load(self) -> None:
        """Take over all that the pool has of these kinds. LunetteError damaged."""
        self._take(self._pool.kv())

    def adopt(self, changes: Mapping[str, bytes | None]) -> None:
        """Take over what of these changes of the store, made by others, is of these kinds. LunetteError damaged."""
        for key in changes:                     # first: what comes may be in the place of what goes
            kind, _, rest = key.partition("/")
            found = self._kinds.get(kind)
            if found is not None and found.drop is not None:
                found.drop(rest)
        self._take(changes)

    async def store(self, changes: Mapping[str, Any], of: str = "") -> None:
        """Change entries, all or none; durable on return. `of`: whose they are, for the error. LunetteError."""
        if not changes:
            return
        try:
            await self._pool.call("kv", changes=encoded(changes))
        except PoolError as error:
            raise self.refused(error, of) from None

    def storing(self, changes: Mapping[str, Any]) -> asyncio.Future[Any]:
        """As `store`, begun at once and waited for later. PoolError."""
        return self._pool.start("kv", changes=encoded(changes))

    def refused(self, error: PoolError, of: str = "") -> LunetteError:
        """What a PoolError of `storing` means."""
        return pool_error(error.code, f"keep the {self._what}{of and f' of {of}'}")

    def _take(self, entries: Mapping[str, bytes | None]) -> None:
        for key, raw in entries.items():
            kind, _, rest = key.partition("/")
            found = self._kinds.get(kind)
            if found is None or raw is None:
                continue
            try:
                found.load(rest, raw if found.opaque else json.loads(raw))
            except (ValueError, KeyError, TypeError, LunetteError) as error:
                why = type(error).__name__ if found.secret else error
                raise LunetteError("damaged", f"the entry {key!r} cannot be read: {why}") from None
