"""The medium as SCSI commands see it: an abstract, asynchronous block backend and its one error type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from target.scsi.model import IOStatistics


class BackendError(Exception):
    """A block operation failed; `code` is a name of the pool's status table, `value` a native result (byte offset).

    `located`: the value is the address of the first logical block that could not be read.
    """

    def __init__(self, code: str, message: str = "", value: int = 0, *, located: bool = False) -> None:
        super().__init__(message or code)
        self.code = code
        self.value = value
        self.located = located


@dataclass(frozen=True, slots=True)
class Space:
    """Thin provisioning at this moment, in bytes (SBC-4 §4.7)."""

    mapped_bytes: int      # by this object
    used_bytes: int        # of the pool
    available_bytes: int   # of the pool


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of one provisioning state, in bytes from the start of the object."""

    offset_bytes: int
    length_bytes: int
    mapped: bool


@runtime_checkable
class BlockBackend(Protocol):
    """One volume, snapshot or clone. Offsets and lengths are in bytes, multiples of `block_bytes`.

    Every coroutine raises BackendError with one of the codes in `sense.CODE_SENSE`. Properties are cheap and
    current: a resize shows here before `LogicalUnit.capacity_changed` is called.
    """

    @property
    def size_bytes(self) -> int: ...
    @property
    def block_bytes(self) -> int: ...
    @property
    def physical_block_bytes(self) -> int:
        """What READ CAPACITY (16) says hosts should align to; not less than a logical block."""
        ...
    @property
    def read_only(self) -> bool: ...
    @property
    def pool_id(self) -> bytes:
        """Equal for backends that can share blocks with each other."""
        ...

    def space(self) -> Space: ...
    def statistics(self) -> IOStatistics: ...

    async def read(self, offset_bytes: int, length_bytes: int) -> bytes: ...
    async def write(self, offset_bytes: int, data: bytes, fua: bool) -> None: ...
    async def unmap(self, offset_bytes: int, length_bytes: int, fua: bool, keep: bool) -> None:
        """The range reads as zeros afterwards; with `keep` its blocks stay allocated where they are."""
        ...

    async def unmap_ranges(self, ranges: list[tuple[int, int]], fua: bool) -> None:
        """(offset, length) in bytes, none of which overlap: as `unmap` of each, in any order."""
        ...

    async def flush(self) -> None: ...
    async def compare_and_write(self, offset_bytes: int, expected: bytes, data: bytes, fua: bool) -> int | None:
        """Atomic. None when equal and written; else the byte offset of the first difference, nothing written."""
        ...

    async def extents(self, offset_bytes: int, length_bytes: int, limit: int) -> list[Extent]:
        """At most `limit` runs that cover the start of the range, in order, without gaps."""
        ...

    async def share(self, source: BlockBackend, source_offset_bytes: int, offset_bytes: int, length_bytes: int) -> None:
        """Make the range here read as the source's range does at this moment, by reference where the map can."""
        ...


@runtime_checkable
class AtomicBackend(Protocol):
    """What a backend has beside BlockBackend when it can promise atomic writes (SBC-4 §4.29)."""

    @property
    def atomic_bytes(self) -> int:
        """The longest `write_atomic`, at any logical block."""
        ...

    async def write_atomic(self, offset_bytes: int, data: bytes, fua: bool) -> None:
        """Like write, but all or nothing of it is there, after a power loss and for every read and write meanwhile."""
        ...
