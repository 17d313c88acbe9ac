"""Which series the figures of an object go to, so that there are not more of them than a monitoring system bears.

A volume or clone has series of its own. What is done to its snapshots is one sum beside it, however many there are. Beyond
MAX_VOLUMES, whatever came last is one sum under OTHERS. Sums are kept here, because objects go and counters must not fall: each
reading adds what an object has counted since the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from target.volumes.gateway import ObjectInfo

MAX_VOLUMES = 1000
OTHERS = 0                  # the id that no object has
VOLUME, SNAPSHOTS = "volume", "snapshots"

Place = tuple[int, str]     # a volume's id or OTHERS; VOLUME or SNAPSHOTS


@dataclass(slots=True)
class Sums:
    """What was counted in one place, and what goes on there now."""

    counts: list[int]
    in_flight: int = 0


@dataclass(slots=True)
class _Known:
    place: Place
    counts: list[int] = field(default_factory=list)


class VolumeSeries:
    """The places and their sums. `counts` are numbers that only rise; their order is the caller's."""

    def __init__(self, max_volumes: int = MAX_VOLUMES) -> None:
        self._max = max_volumes
        self._volumes: set[int] = set()             # those with a place of their own: first come, until they are deleted
        self._objects: dict[int, _Known] = {}
        self.sums: dict[Place, Sums] = {}

    def settle(self, volume_ids: Iterable[int]) -> None:
        """All volumes and clones that there are, oldest first."""
        alive = list(volume_ids)
        gone = self._volumes - set(alive)
        self._volumes -= gone
        for number in gone:
            self.sums.pop((number, VOLUME), None)
            self.sums.pop((number, SNAPSHOTS), None)
        for number in alive:
            if len(self._volumes) >= self._max:
                break
            if number not in self._objects:         # one whose figures are among the others' stays there
                self._volumes.add(number)
        for known in self._objects.values():
            if known.place[0] in gone:
                known.place = OTHERS, known.place[1]

    def has_own(self, volume_id: int) -> bool:
        return volume_id in self._volumes

    def take(self, rows: Mapping[int, tuple[ObjectInfo, list[int], int]]) -> None:
        """What each object has counted, and its commands in flight, by its id."""
        for sums in self.sums.values():
            sums.in_flight = 0
        for object_id, (info, counts, in_flight) in rows.items():
            known = self._objects.setdefault(object_id, _Known(self._place(info)))
            before = known.counts or [0] * len(counts)
            sums = self.sums.setdefault(known.place, Sums([0] * len(counts)))
            sums.counts = [each + max(0, now - was) for each, now, was in zip(sums.counts, counts, before, strict=True)]
            sums.in_flight += in_flight
            known.counts = counts
        for object_id in self._objects.keys() - rows.keys():
            del self._objects[object_id]

    def _place(self, info: ObjectInfo) -> Place:
        snapshot = info.kind == "snapshot"
        number = info.origin_id if snapshot else info.id
        return number if self.has_own(number) else OTHERS, SNAPSHOTS if snapshot else VOLUME
