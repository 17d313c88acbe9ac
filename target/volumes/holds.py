"""Stored holds: tags that keep an object from being deleted, whatever is forced, until they are released.

They stand in the pool's key store, one key a tag: `hold/OBJECT_ID/TAG`, its value JSON with `since_s`. They are of the object by
its id, so they follow renames, survive restarts, and end with the object. What reads objects for others, as exports do, holds
them by tags in memory only (`during`): they end with it, or with the daemon. What answers one request has less than a tag
(target/server/api/holds.py).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

from target.errors import LunetteError
from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool, ObjectInfo

MAX_TAG = 64        # characters
MAX_TAGS = 32       # of one object
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")


def check_tag(tag: str) -> str:
    """A hold's tag as given, or LunetteError invalid."""
    if not _TAG.fullmatch(tag) or len(tag) > MAX_TAG:
        raise LunetteError("invalid", f"{tag!r} is not a tag: letters, digits and . _ : @ / + - only, at most {MAX_TAG}, "
                                      "beginning with a letter or digit")
    return tag


def _tags_like(wanted: str) -> Iterator[str]:
    """A tag that says as much of a text as a tag can, then the same with numbers."""
    text = re.sub(r"[^A-Za-z0-9._:@/+-]", "_", wanted)[:MAX_TAG - 8]
    yield text
    yield from (f"{text}.{number}" for number in itertools.count(2))


class StoredHolds:
    """The holds of one pool: in memory, and in its key store before a coroutine returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._tags: dict[int, dict[str, float]] = {}    # object id -> tag -> since when
        self._ending: set[int] = set()                  # objects whose deletion has begun
        self._passing: set[tuple[int, str]] = set()     # object id and tag that no restart brings back
        self._entries = Entries(pool, "holds", {"hold": Kind(self._load)})
        self._entries.load()

    def tags(self, object_id: int) -> list[str]:
        """The tags of an object, the oldest first."""
        found = self._tags.get(object_id, {})
        return sorted(found, key=lambda tag: (found[tag], tag))

    async def hold(self, info: ObjectInfo, tag: str) -> None:
        """Keep an object. LunetteError: invalid, exists, limit, gone (it is being deleted), the pool's codes."""
        check_tag(tag)
        if info.id in self._ending:
            raise LunetteError("gone", f"{info.name} is being deleted")
        tags = self._tags.setdefault(info.id, {})
        if tag in tags:
            raise LunetteError("exists", f"{info.name} is held by {tag} already")
        if len(tags) >= MAX_TAGS:
            raise LunetteError("limit", f"{info.name} is held by {MAX_TAGS} tags already, and cannot be by more")
        tags[tag] = time.time()                         # before it is stored: nothing may delete the object meanwhile
        try:
            await self._entries.store({f"hold/{info.id}/{tag}": {"since_s": tags[tag]}}, of=info.name)
        except LunetteError:
            self._drop(info.id, tag)
            raise

    async def release(self, info: ObjectInfo, tag: str) -> None:
        """Take a hold away; it holds until that is durable. LunetteError: not_found, the pool's codes."""
        if tag not in self._tags.get(info.id, {}):
            raise LunetteError("not_found", f"{info.name} is not held by {tag!r}")
        if (info.id, tag) not in self._passing:
            await self._entries.store({f"hold/{info.id}/{tag}": None}, of=info.name)
        self._drop(info.id, tag)

    def keys(self, object_ids: Iterable[int], tag: str) -> dict[str, bytes | None]:
        """For the frame that makes objects: they are held from their first moment. `made` afterwards."""
        return {f"hold/{each}/{tag}": json.dumps({"since_s": time.time()}).encode() for each in object_ids}

    def made(self, object_ids: Iterable[int], tag: str) -> None:
        """These were made with their holds."""
        for each in object_ids:
            self._tags.setdefault(each, {})[tag] = time.time()

    @contextlib.contextmanager
    def during(self, infos: Iterable[ObjectInfo], wanted: str) -> Iterator[str]:
        """Hold objects as long as something reads them, by a tag like the one that is wanted; that tag. LunetteError gone.

        It is shown and honoured as any other, and may be released: then the objects can go, and whoever reads them sees it.
        """
        found = {info.id: info for info in infos}
        tag = next(each for each in _tags_like(wanted) if not any(each in self._tags.get(number, {}) for number in found))
        for info in found.values():
            if info.id in self._ending:
                raise LunetteError("gone", f"{info.name} is being deleted")
        for number in found:
            self._tags.setdefault(number, {})[tag] = time.time()
            self._passing.add((number, tag))
        try:
            yield tag
        finally:
            for number in found:
                if (number, tag) in self._passing:
                    self._drop(number, tag)

    def check_delete(self, info: ObjectInfo) -> None:
        """LunetteError held while there is a tag."""
        tags = self.tags(info.id)
        if tags:
            raise LunetteError("held", f"{info.name} is held by {', '.join(tags)}; lunette release {info.name} TAG lets go of it")

    @contextlib.contextmanager
    def ending(self, infos: Iterable[ObjectInfo]) -> Iterator[None]:
        """Begin to delete objects, all of them or none: nothing can hold them from now on. LunetteError held."""
        found = {info.id: info for info in infos}
        for info in found.values():
            self.check_delete(info)
        began = found.keys() - self._ending
        self._ending |= began
        try:
            yield
        finally:
            self._ending -= began

    # -- inside --------------------------------------------------------------------------------------------------
    def _drop(self, object_id: int, tag: str) -> None:
        tags = self._tags.get(object_id, {})
        tags.pop(tag, None)
        self._passing.discard((object_id, tag))
        if not tags:
            self._tags.pop(object_id, None)

    def _load(self, rest: str, value: Any) -> None:
        object_id, tag = rest.split("/", 1)
        if self._pool.info(int(object_id)) is not None:     # ids are never used again
            self._tags.setdefault(int(object_id), {})[tag] = float(value["since_s"])
