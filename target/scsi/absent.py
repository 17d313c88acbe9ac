"""What stands for a LUN that names no unit of a nexus, and for the REPORT LUNS well known one (SPC-4 §6.6.1, §8.2)."""

from __future__ import annotations

from target.scsi.backend import BackendError, BlockBackend, Extent, Space
from target.scsi.model import Identity, IOStatistics
from target.scsi.unit import LogicalUnit


def absent_unit(well_known: bool = False) -> LogicalUnit:
    """What answers INQUIRY, REPORT LUNS and REQUEST SENSE for a LUN that a nexus does not have, or a well known one."""
    unit = LogicalUnit(Identity("0" * 32, ""), _NoMedium())
    unit.absent = True
    unit.well_known = well_known
    return unit


class _NoMedium:
    """A medium without blocks."""

    size_bytes = 0
    block_bytes = 512
    physical_block_bytes = 512
    read_only = True
    pool_id = b""

    def space(self) -> Space:
        return Space(0, 0, 0)

    def statistics(self) -> IOStatistics:
        return IOStatistics()

    async def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        raise BackendError("gone")

    async def write(self, offset_bytes: int, data: bytes, fua: bool) -> None:
        raise BackendError("gone")

    async def unmap(self, offset_bytes: int, length_bytes: int, fua: bool, keep: bool) -> None:
        raise BackendError("gone")

    async def unmap_ranges(self, ranges: list[tuple[int, int]], fua: bool) -> None:
        raise BackendError("gone")

    async def flush(self) -> None:
        raise BackendError("gone")

    async def compare_and_write(self, offset_bytes: int, expected: bytes, data: bytes, fua: bool) -> int | None:
        raise BackendError("gone")

    async def extents(self, offset_bytes: int, length_bytes: int, limit: int) -> list[Extent]:
        raise BackendError("gone")

    async def share(self, source: BlockBackend, source_offset_bytes: int, offset_bytes: int, length_bytes: int) -> None:
        raise BackendError("gone")
