"""Pools in memory, and what the machine allows: the two things every measurement of a part needs."""

import timeit
from collections.abc import Callable
from functools import cache
from typing import Any

from bench import _micro
from core.pool.engine import Pool

MIB, GIB = 1 << 20, 1 << 30


class MemoryPool:
    """A pool over `_micro.Store`; thrown away without a checkpoint."""

    def __init__(self, size_bytes: int, cache_bytes: int = 256 * MIB, journal_blocks: int = 0) -> None:
        self.store = _micro.Store(size_bytes)
        Pool.create(self.store, name="micro", journal_blocks=journal_blocks)
        self.pool = Pool(self.store, cache_bytes=cache_bytes)

    def volume(self, name: str, size_bytes: int, *, fill: str = "") -> int:
        """A volume; `fill`: "in order" (huge entries) or "scattered" (no two neighbours in a row, by way of a snapshot)."""
        made: int = self.pool.call("create", name=name, size_bytes=size_bytes)
        if fill:
            self.run(made, "write", size_bytes // MIB, block_bytes=MIB, random=False)
        if fill == "scattered":
            self.pool.call("snapshot", pairs=[(made, f"{name}@whole")])
            self.run(made, "write", size_bytes // 8192, random=False, stride=2)
        return made

    def run(self, object_id: int, kind: str, count: int, **options: Any) -> int:
        """Nanoseconds of `count` engine operations."""
        return _micro.operations(self.pool, self.store, object_id, kind, count, **options)


@cache
def limits() -> dict[str, float]:
    """Nanoseconds: an empty system call, a load that misses every cache, a 4 KiB copy, a call in Python, one byte at
    copying speed."""
    def best(body: Callable[[], int], count: int) -> float:
        return min(body() for _ in range(3)) / count
    return {
        "system call": best(lambda: _micro.system_calls(200_000), 200_000),
        "memory latency": best(lambda: _micro.chases(300_000, 256 * MIB)[0], 300_000),
        "cached load": best(lambda: _micro.chases(1_000_000, 512 << 10)[0], 1_000_000),
        "4 KiB copy": best(lambda: _micro.copies(50_000, 4096, 256 * MIB), 50_000),
        "Python call": python_call(),
        "byte copied": best(lambda: _micro.copies(400, MIB, 256 * MIB, random=False), 400 * MIB),
    }


def python_call() -> float:
    """Nanoseconds of an empty function call from Python."""
    return min(timeit.repeat("f()", "def f(): pass", number=100_000, repeat=3)) / 100_000 * 1e9
