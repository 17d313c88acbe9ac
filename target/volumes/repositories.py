"""The repositories that a pool knows: keys `repo/NAME` of its key store, JSON with `url` and `key_file`. None of it is secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool


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
        self._known: dict[str, KnownRepository] = {}
        self._entries = Entries(pool, "repositories", {"repo": Kind(self._load)})
        self._entries.load()

    def all(self) -> dict[str, KnownRepository]:
        return dict(self._known)

    async def save(self, known: KnownRepository) -> None:
        """LunetteError."""
        await self._entries.store({f"repo/{known.name}": {"url": known.url, "key_file": known.key_file}})
        self._known[known.name] = known

    async def forget(self, name: str) -> None:
        """LunetteError."""
        await self._entries.store({f"repo/{name}": None})
        self._known.pop(name, None)

    def _load(self, rest: str, value: Any) -> None:
        self._known[rest] = KnownRepository(rest, value["url"], value["key_file"])
