"""Structures of the format for `check`, decoded from `core/layout.py` alone: nothing of the engine's code is in it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from core import layout


class PageHeader(NamedTuple):
    """What every page begins with, as layout.PAGE_HEADER says."""

    magic: int
    crc: int
    kind: int
    level: int
    n: int
    tag: int
    home: int
    gen: int

    @classmethod
    def of(cls, page: bytes) -> PageHeader:
        return cls._make(PAGE_HEADER.unpack_from(page))


PAGE_HEADER = struct.Struct("<IIBBHIQQ")
PAGE_SUMMED_FROM = next(field.offset for field in layout.PAGE_HEADER if field.name == "kind")      # what `crc` covers, to the end
SUPERBLOCK_SUMMED_FROM = next(field.offset + field.size for field in layout.SUPERBLOCK if field.name == "crc")
DIRECTORY_ENTRY = struct.Struct("<QI4x")                 # layout.DIRECTORY_ENTRY
PENDING_ITEM = struct.Struct("<QII")                   # layout.PENDING_ITEM


def unpack(fields: Iterable[layout.Field], page: bytes) -> dict[str, Any]:
    """Fields of a structure: numbers for sizes 1, 2, 4 and 8, bytes otherwise."""
    found: dict[str, Any] = {}
    for f in fields:
        raw = page[f.offset:f.offset + f.size]
        found[f.name] = int.from_bytes(raw, "little") if f.size in (1, 2, 4, 8) and f.name != "magic" else raw
    return found
