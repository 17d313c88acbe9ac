"""What a session knows of its LUNs: numbers that it may take for an object which is not there any more (SPC-4 §6.33, SAM-5 §4.7).

A session knows a LUN once it asked it something, or was told of it by a whole REPORT LUNS. What it knew and was taken away is
stale until it asks for the list again: meanwhile the number is held, and an object that gets it all the same says so first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from target.scsi import Result, Status

REPORT_LUNS = 0xA0
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

    def inherit(self, before: Inventory, luns_before: Mapping[int, int], luns: Mapping[int, int]) -> set[int]:
        """Of the session that this one reinstates; the LUNs that its initiator may take for what they were in that one."""
        expected = {**{lun: luns_before[lun] for lun in before.known if lun in luns_before}, **before.stale}
        self.stale = {lun: object_id for lun, object_id in expected.items() if luns.get(lun) != object_id}
        return self.stale.keys() & luns.keys()
