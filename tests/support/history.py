"""What an operation is, and the values each sector, name and size went through: the words in which the oracle thinks."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SECTOR = 512
BLOCK = 4096
ZERO_BLOCK = bytes(BLOCK)
ZERO_SECTOR = bytes(SECTOR)
FOREVER = 1 << 62
MASK = (1 << 64) - 1

ADMIN = frozenset({"create", "snapshot", "clone", "delete", "revert", "resize", "rename", "set", "kv", "publish"})
MUTATING = frozenset({"write", "write_atomic", "unmap", "compare_and_write", "share"})
# completion codes after which a write may or may not have taken place, in whole or in part
UNCERTAIN = frozenset({"no_space", "no_memory", "io_read", "io_write", "checksum", "aborted", "closed", "read_only"})


class Violation(AssertionError):
    """The pool broke its promise."""


# -- stamps ----------------------------------------------------------------------------------------------------------


def stamp(value: int, object_id: int, lba: int) -> bytes:
    """The 512 bytes that stand for `value`: every 32 of them name the object, the sector and the version."""
    return struct.pack("<QQQQ", value, object_id, lba, (value * 0x9E3779B97F4A7C15 ^ lba) & MASK) * 16


def unstamp(sector: bytes) -> int:
    """The value a sector holds, 0 for zeros. Violation when it is none that was ever written."""
    if sector == ZERO_SECTOR:
        return 0
    value, object_id, lba, mix = struct.unpack_from("<QQQQ", sector)
    if mix != (value * 0x9E3779B97F4A7C15 ^ lba) & MASK or sector != sector[:32] * 16:
        raise Violation(f"garbage: {sector[:32].hex()} ... {sector[-32:].hex()} (object {object_id}, lba {lba}?)")
    return int(value)


# -- versions --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False, repr=False)
class Op:
    """An operation: when it began, when it ended (FOREVER: in flight), whether it was acknowledged."""

    kind: str
    start: int
    end: int = FOREVER
    ok: bool = False
    fua: bool = False
    args: dict[str, Any] = field(default_factory=dict)
    touched: list[tuple[ObjectModel, int]] = field(default_factory=list)   # (object, lba) it made versions of
    bounds: list[int] = field(default_factory=lambda: [-1, FOREVER])       # of the instant a snapshot was taken at
    uncertain: bool = False                                                # it failed and may have happened
    zeros: list[tuple[int, int, int]] = field(default_factory=list)        # (object id, from lba, to lba) it zeroes
    code: str = ""                                                         # what the pool answered: the status ...
    value: Any = None                                                      # ... and with it

    def __repr__(self) -> str:
        return f"<{self.kind}@{self.start} {'ok' if self.ok else 'failed' if self.end < FOREVER else 'in flight'}>"

    @property
    def publication(self) -> dict[str, Any]:
        """Of a `publish`: its one item. Empty for all others."""
        return self.args["items"][0] if self.kind == "publish" else {}

    @property
    def changes(self) -> dict[str, bytes | None]:
        """Of a `kv` or `publish`: what becomes of keys."""
        return self.args["changes"] if self.kind == "kv" else self.args["keys"](()) if self.kind == "publish" else {}

    @property
    def changed_id(self) -> int | None:
        """The object whose size, name or existence it changes, if it is one."""
        return self.args.get("object_id", self.args.get("volume_id", self.publication.get("volume_id")))

    def zeroes(self, object_id: int, first: int, last: int) -> bool:
        return any(number == object_id and start < last and first < end for number, start, end in self.zeros)


class Version(NamedTuple):
    value: int
    op: Op
    low: int = -1            # of a snapshot's sector: the source's version began then,
    high: int = FOREVER      # and one that follows it was acknowledged then


BASE = Op("base", -1, -1, True, True)
ZERO_VERSION = Version(0, BASE)


class Whole(NamedTuple):
    """An atomic write: for each of its sectors the value it wrote, and those that say it has not happened."""

    op: Op
    sectors: dict[int, tuple[int, frozenset[int]]]


@dataclass(eq=False, repr=False)
class ObjectModel:
    """One volume, snapshot or clone."""

    id: int
    kind: str
    name: list[Version]              # values are strings here
    size: list[Version]
    block_bytes: int = 512
    checksum: bool = False
    sectors: dict[int, list[Version]] = field(default_factory=dict)
    deleting: Op | None = None
    taken_by: Op | None = None       # the operation that made it, while its content is not pinned
    wholes: list[Whole] = field(default_factory=list)   # atomic writes that its source was amid when it was made

    def label(self) -> str:
        return f"{self.kind} {self.id} ({self.name[-1].value})"

    def current_size(self) -> int:
        return int(self.size[-1].value)


Superseding = Callable[[Op], bool]


def candidates(history: Iterable[Version], supersedes: Superseding) -> list[Version]:
    """The versions that no superseding one follows."""
    history = list(history)
    newest = max((v.op.start for v in history if supersedes(v.op)), default=-2)
    return [v for v in history if v.op.end >= newest or v.op.start == newest]


def at_instant(history: list[Version], op: Op, skip: Op | None, now: int) -> list[Version]:
    """The versions that an instant between op's start and its end may have seen, with the bounds each sets."""
    known = [v for v in history if v.op is not skip and v.op.start < min(op.end, now)]
    found: list[Version] = []
    for v in candidates(known, lambda other: other.ok and other.end < op.start):
        after = [w.op.end for w in known if w.op.ok and w.op.start > v.op.end]
        found.append(Version(v.value, op, v.op.start, min(after, default=FOREVER)))
    return found or [Version(0, op)]


def show(versions: Iterable[Version]) -> str:
    """Values and who wrote them, for a message."""
    return "[" + ", ".join(f"{v.value}@{v.op.kind}{v.op.start}-{'…' if v.op.end >= FOREVER else v.op.end}"
                           f"{'+' if v.op.ok else '?'}{'d' if v.op.fua else ''}" for v in versions) + "]"
