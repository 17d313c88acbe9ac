"""Data against its checksums, offline: what `lunette pool check --data` adds to `check` (docs/on-disk-format.md, csum)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from core import layout
from core._check import data_blocks
from core.base.crc32c import crc32c
from core.units import format_size

BLOCK, PLACES = layout.BLOCK_BYTES, layout.PLACES


class MapNode(Protocol):
    """A node that `check` has visited: its level, and (slot, block) of the nodes below it."""

    level: int
    children: list[tuple[int, int]]


class Findings(Protocol):
    """core.check.Report by shape."""

    counts: dict[str, int]

    def error(self, text: str) -> None: ...


def csum_page(block: int) -> int:
    """The home of the page that holds a data block's checksum."""
    zone, inside = divmod(block, layout.ZONE_BLOCKS)
    return zone * layout.ZONE_BLOCKS + layout.CSUM_START + inside // layout.CSUM_BLOCKS


class DataCheck:
    """One pass over the data of objects with checksums, given as (what to call it, block of its root)."""

    def __init__(self, read: Callable[..., bytes], nodes: Mapping[int, MapNode], report: Findings) -> None:
        self._read = read
        self._nodes = nodes
        self._report = report
        self._csum_home = -1
        self._csums: tuple[int, ...] = ()

    def run(self, objects: list[tuple[str, int]]) -> None:
        """Verify data against its checksums; each block once, under the name of the first object that has it."""
        seen: set[int] = set()
        verified = 0
        for what, root in objects:
            bad: list[list[int]] = []                           # [offset, end] in blocks
            for lba, block, length in sorted(self._data_below(root, seen)):
                for at in range(0, length, layout.FRAME_BLOCKS):
                    n = min(layout.FRAME_BLOCKS, length - at)
                    verified += n
                    for i in self._bad_blocks(block + at, n):
                        if bad and bad[-1][1] == lba + at + i:
                            bad[-1][1] += 1
                        else:
                            bad.append([lba + at + i, lba + at + i + 1])
            for start, end in bad:
                extent, place = format_size((end - start) * BLOCK), format_size(start * BLOCK)
                self._report.error(f"{what}: {extent} of data from {place} on fail their checksums")
        self._report.counts["verified_blocks"] = verified

    def _data_below(self, root: int, seen: set[int]) -> list[tuple[int, int, int]]:
        """(block of the object, block of the pool, length) of what nodes that were not seen before refer to."""
        found: list[tuple[int, int, int]] = []
        todo = [(root, 0)]
        while todo:
            block, base = todo.pop()
            node = self._nodes.get(block)
            if node is None or block in seen:
                continue
            seen.add(block)
            span = 512 ** node.level
            todo.extend((child, base + slot * span) for slot, child in node.children)
            if node.level == layout.SPARSE_LEVEL:
                base, span = base // PLACES * PLACES, 1
            if node.level <= 1 or node.level == layout.SPARSE_LEVEL:
                found.extend((base + slot * span, ref, length)
                             for slot, ref, length in data_blocks(self._read(block), node.level))
        return found

    def _bad_blocks(self, block: int, n: int) -> list[int]:
        """Which of n blocks are not what their checksums say. Blocks that cannot be read are."""
        try:
            data = self._read(block, n)
        except OSError:
            return [i for i in range(n) if n == 1 or self._bad_blocks(block + i, 1)]
        bad = []
        for i in range(n):
            home = csum_page(block + i)
            if home != self._csum_home:
                self._csums = struct.unpack_from(f"<{layout.CSUM_BLOCKS}I", self._read(home), layout.PAGE_HEADER_BYTES)
                self._csum_home = home
            if self._csums[(block + i) % layout.ZONE_BLOCKS % layout.CSUM_BLOCKS] != crc32c(data[i * BLOCK:(i + 1) * BLOCK]):
                bad.append(i)
        return bad
