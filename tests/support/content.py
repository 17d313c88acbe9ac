"""What an object holds, block by block: all of it, or of a large one what its map and the oracle speak of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tests.support.history import BLOCK

PIECE = 1 << 20
WHOLE_BYTES = 128 << 20           # an object up to this size is read from end to end


class Content:
    """Of one object. `blocks` gives (number, bytes) in order; what it leaves out was not looked at."""

    def __init__(self, pool: Any, object_id: int, size_bytes: int, wanted: Iterable[int]) -> None:
        self.pool, self.object_id, self.size_bytes = pool, object_id, size_bytes
        self.wanted = wanted

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        for offset, length in self._ranges():
            for at in range(offset, offset + length, PIECE):
                data = self.pool.call("read", object_id=self.object_id, offset_bytes=at,
                                      length_bytes=min(PIECE, offset + length - at))
                for i in range(0, len(data), BLOCK):
                    yield (at + i) // BLOCK, data[i:i + BLOCK]

    def _ranges(self) -> list[tuple[int, int]]:
        if self.size_bytes <= WHOLE_BYTES:
            return [(0, self.size_bytes)] if self.size_bytes else []
        ranges = self._mapped()
        known = {offset + at for offset, length in ranges for at in range(0, length, BLOCK)}
        ranges += [(block * BLOCK, BLOCK) for block in self.wanted
                   if block * BLOCK < self.size_bytes and block * BLOCK not in known]
        return sorted(ranges)

    def _mapped(self) -> list[tuple[int, int]]:
        found, at = [], 0
        while at < self.size_bytes:
            step = self.pool.call("extents", object_id=self.object_id, offset_bytes=at, length_bytes=self.size_bytes - at,
                                  limit=256)
            found += [(offset, length) for offset, length, mapped in step if mapped]
            at = step[-1][0] + step[-1][1] if step else self.size_bytes
        return found
