"""Holds: what must not be deleted just now, and why. In memory; whoever holds an object lets go of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from target.errors import LunetteError
from target.volumes.gateway import ObjectInfo


class Holds:
    """Object id -> the reasons there are to keep it."""

    def __init__(self) -> None:
        self._reasons: dict[int, list[str]] = {}

    @contextlib.contextmanager
    def hold(self, infos: Iterable[ObjectInfo], why: str) -> Iterator[None]:
        """Keep objects from being deleted for so long; `why` ends the sentence "NAME is being read by"."""
        held = {info.id for info in infos}
        for object_id in held:
            self._reasons.setdefault(object_id, []).append(why)
        try:
            yield
        finally:
            for object_id in held:
                self._reasons[object_id].remove(why)
                if not self._reasons[object_id]:
                    del self._reasons[object_id]

    def check_delete(self, info: ObjectInfo) -> None:
        """LunetteError busy while somebody holds it."""
        reasons = self._reasons.get(info.id)
        if reasons:
            raise LunetteError("busy", f"{info.name} is being read by {reasons[0]}; --force deletes it and cuts that off")
