"""What a session knows of its LUNs: numbers that it may take for an object which is not there any more (SPC-4 §6.33, SAM-5 §4.7).

A session knows a LUN once it asked it something, or was told of it by a whole REPORT LUNS. What it knew and was taken away is
stale until it asks for the list again: meanwhile the number is held, and an object that gets it all the same says so first. Who
loses a session, and did not log out, believes the same things when it comes back: that is remembered by its name for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from target.scsi import Result, Status

REPORT_LUNS = 0xA0
LOST_SECONDS = 600.0        # how long a host may be away
LOST_NAMES = 256            # of so many initiators ...
LOST_LUNS = 65536           # ... and so many LUNs of them all it is remembered what they knew; the longest lost go first
ONLY_WELL_KNOWN = 0x01      # SELECT REPORT of a REPORT LUNS that does not ask for the list (SPC-4 §6.33)


@dataclass(eq=False, slots=True)
class Inventory:
    """One session's. LUN numbers and object ids."""

    known: set[int] = field(default_factory=set)
    stale: dict[int, int] = field(default_factory=dict)     # LUN -> the object that the session knew there

    def attached(self, lun: int, object_id: int) -> bool:
        """An object appears; whether the session may take it for another."""
        replaces = self.stale.get(lun, object_id) != object_id
        if replaces:
            self.known.add(lun)     # it is told now
        return replaces

    def detached(self, lun: int, object_id: int) -> None:
        """An object is gone."""
        if lun in self.known:
            self.known.discard(lun)
            self.stale[lun] = object_id

    def reported(self, cdb: bytes, result: Result, luns: Iterable[int]) -> None:
        """A REPORT LUNS was answered. A part of the list, or only the well known ones, is not the list."""
        data = result.data_in
        whole = len(data) >= 8 and len(data) >= 8 + int.from_bytes(data[:4])
        if result.status == Status.GOOD and cdb[2] != ONLY_WELL_KNOWN and whole:
            self.stale.clear()
            self.known.update(luns)

    def expected(self, luns: Mapping[int, int]) -> dict[int, int]:
        """What its initiator takes its LUNs for; `luns` is what they are."""
        return {**{lun: luns[lun] for lun in self.known if lun in luns}, **self.stale}

    def inherit(self, expected: Mapping[int, int], luns: Mapping[int, int]) -> set[int]:
        """Of sessions that its initiator lost; the LUNs that it may take for what they were there."""
        self.stale = {lun: object_id for lun, object_id in expected.items() if luns.get(lun) != object_id}
        return self.stale.keys() & luns.keys()


class Lost:
    """What initiators whose sessions were lost take their LUNs for. A host's paths are lost and come back one by one: nothing is
    forgotten because one of them has come back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: dict[str, tuple[float, dict[int, int]]] = {}  # initiator name -> until when, LUN -> object

    def remember(self, initiator_name: str, expected: Mapping[int, int]) -> None:
        """A session is lost."""
        known = {**self.of(initiator_name), **expected}
        self._of.pop(initiator_name, None)
        if known:
            self._of[initiator_name] = self._clock() + LOST_SECONDS, known
        while len(self._of) > LOST_NAMES or sum(len(each) for _, each in self._of.values()) > LOST_LUNS:
            del self._of[next(iter(self._of))]

    def of(self, initiator_name: str) -> dict[int, int]:
        """LUN -> the object that a session which is lost knew there."""
        self._expire()
        return self._of.get(initiator_name, (0.0, {}))[1]

    def holds(self, lun: int, initiators: Collection[str] | None = None) -> bool:
        """Whether one of these (None: anybody) who may come back takes the number for an object."""
        self._expire()
        return any(lun in known for name, (_, known) in self._of.items() if initiators is None or name in initiators)

    def _expire(self) -> None:
        now = self._clock()
        while self._of and next(iter(self._of.values()))[0] <= now:
            del self._of[next(iter(self._of))]
