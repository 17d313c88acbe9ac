"""What is kept of finished copy operations until their initiator asks (SPC-4 §5.16.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from target.scsi.model import ITNexus
from target.scsi.sense import Sense

KEPT_RESULTS = 32            # for one nexus on one unit


@dataclass(slots=True)
class CopyResult:
    """What RECEIVE COPY RESULTS tells of one copy operation."""

    status: int
    segments: int
    copied_bytes: int
    failure: Sense | None
    long: bool


@dataclass(slots=True)
class RodResult:
    """What RECEIVE ROD TOKEN INFORMATION tells of one POPULATE TOKEN or WRITE USING TOKEN."""

    action: int
    status: int
    blocks: int
    token: bytes | None
    failure: Sense | None


Kept = TypeVar("Kept")


class Results(Generic[Kept]):
    """Results kept for the initiators of one unit until they are fetched; bounded for each nexus."""

    def __init__(self) -> None:
        self._kept: dict[ITNexus, dict[int, Kept]] = {}

    def keep(self, nexus: ITNexus, identifier: int, result: Kept) -> None:
        mine = self._kept.setdefault(nexus, {})
        mine.pop(identifier, None)
        while len(mine) >= KEPT_RESULTS:
            del mine[next(iter(mine))]
        mine[identifier] = result

    def find(self, nexus: ITNexus, identifier: int) -> Kept | None:
        return self._kept.get(nexus, {}).get(identifier)

    def drop(self, nexus: ITNexus, identifier: int | None = None) -> None:
        """Forget one result, or all of a nexus."""
        if identifier is None:
            self._kept.pop(nexus, None)
        else:
            self._kept.get(nexus, {}).pop(identifier, None)
