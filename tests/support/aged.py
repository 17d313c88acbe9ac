"""A volume that is overwritten here and there beside its snapshots, on a medium that counts its reads."""

from __future__ import annotations

import random
from typing import Any

from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB, BLOCK = 1 << 20, 4096
RUN = 2 * MIB
GAP = 32 << 10
CACHED_GAP = 8 << 10          # of a page cache


class Counting(MemoryDevice):
    """Knows how many reads there were; has no room for more while it is full."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.reads = 0
        self.bad: set[int] = set()      # pages that cannot be read
        self.full = False

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        self.reads += 1
        if self.bad.intersection(range(offset_bytes // BLOCK, (offset_bytes + length_bytes) // BLOCK)):
            raise OSError(5, "unreadable")
        return super().read(offset_bytes, length_bytes)

    def write(self, offset_bytes: int, data: bytes) -> None:
        pages = range(offset_bytes // BLOCK, (offset_bytes + len(data)) // BLOCK)
        if self.full and any(page not in self.pages for page in pages):
            raise OSError(28, "no space")
        super().write(offset_bytes, data)


class Aged:
    """A volume that is overwritten here and there after each of its snapshots, which stay."""

    def __init__(self, *, regions: int = 2, pool_bytes: int = 160 * MIB, gap_bytes: int = GAP,
                 cached: bool = False, queues: int = 1, **args: Any) -> None:
        self.device = Counting(pool_bytes)
        Pool.create(self.device, name="test", journal_blocks=512, area_blocks=1024)
        self.now_us = 0
        self.pool = Pool(self.device, gap_bytes=gap_bytes, cached=cached, queues=queues, clock=self.clock)
        self.pool.order(False)
        self.random = random.Random(2)
        self.volume: int = self.pool.call("create", name="v", size_bytes=regions * RUN, **args)
        self.content = bytearray(regions * RUN)
        for at in range(0, len(self.content), RUN):
            self.write(at, RUN)
        self.snapshots: dict[int, bytes] = {}

    def clock(self) -> int:
        self.now_us += 20
        return self.now_us

    def write(self, at: int, length: int) -> None:
        data = self.random.randbytes(BLOCK) * (length // BLOCK)
        self.pool.call("write", object_id=self.volume, offset_bytes=at, data=data)
        self.content[at:at + length] = data

    def age(self, part: float) -> None:
        """A snapshot, then so large a part of each region is overwritten."""
        self.snapshots[self.pool.call("snapshot", pairs=[(self.volume, f"v@{len(self.snapshots)}")])[0]] = bytes(self.content)
        for region in range(0, len(self.content), RUN):
            for block in self.random.sample(range(512), int(512 * part)):
                self.write(region + block * BLOCK, BLOCK)

    def let_go(self) -> None:
        """What was freed is free, and nothing is under way."""
        self.pool.call("flush")
        self.pool.drain()

    def take_runs(self) -> tuple[int, int]:
        """Somebody else has something in every run that was free: who, and where he has nothing."""
        filler, at = self.pool.call("create", name="filler", size_bytes=320 * MIB), 0
        while free := self.pool.stats()["free_runs"]:
            self.pool.call("write", object_id=filler, offset_bytes=at, data=b"f" * (RUN if free > 4 else BLOCK))
            at += RUN
        return filler, at

    def move(self) -> list[str]:
        return [self.pool.call("move", object_id=self.volume, offset_bytes=at, length_bytes=RUN)
                for at in range(0, len(self.content), RUN)]

    def requests(self) -> int:
        """Those that reading all of it takes; what it and its snapshots hold is right."""
        before = self.device.reads
        assert self.read(self.volume) == self.content
        taken = self.device.reads - before
        for snapshot, content in self.snapshots.items():
            assert self.read(snapshot) == content
        return taken

    def read(self, number: int) -> bytes:
        return b"".join(self.pool.call("read", object_id=number, offset_bytes=at, length_bytes=MIB)
                        for at in range(0, len(self.content), MIB))
