"""The repositories that a pool knows: keys `repo/NAME` of its key store, JSON with `url` and `key_file`. None of it is secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool

PREFIX = "repo/"


@dataclass(frozen=True, slots=True)
class KnownRepository:
    name: str
    url: str
    key_file: str | None

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "url": self.url, "key_file": self.key_file}


class KnownRepositories:
    """Of one pool: in memory, and in its key store before a coroutine returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._known: dict[str, KnownRepository] = {}
        for key, raw in pool.kv().items():
            if key.startswith(PREFIX):
                try:
                    document = json.loads(raw)
                    name = key.removeprefix(PREFIX)
                    self._known[name] = KnownRepository(name, document["url"], document["key_file"])
                except (ValueError, KeyError, TypeError) as error:
                    raise LunetteError("damaged", f"the entry {key!r} cannot be read: {error}") from None

    def all(self) -> dict[str, KnownRepository]:
        return dict(self._known)

    async def save(self, known: KnownRepository) -> None:
        """PoolError."""
        value = json.dumps({"url": known.url, "key_file": known.key_file}).encode()
        await self._pool.call("kv", changes={PREFIX + known.name: value})
        self._known[known.name] = known

    async def forget(self, name: str) -> None:
        """PoolError."""
        await self._pool.call("kv", changes={PREFIX + name: None})
        self._known.pop(name, None)
