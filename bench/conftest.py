"""Fixtures of the micro-benchmarks: pools in memory, and what the machine allows, measured in the same run."""

import statistics
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from bench import _micro
from core._engine import Pool

MIB, GIB = 1 << 20, 1 << 30
ROUNDS = 5


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


@pytest.fixture
def make_pool() -> Iterator[Callable[..., MemoryPool]]:
    made: list[MemoryPool] = []

    def make(*args: Any, **kwargs: Any) -> MemoryPool:
        made.append(MemoryPool(*args, **kwargs))
        return made[-1]
    yield make
    for memory in made:
        memory.pool.abandon()


@cache
def limits() -> dict[str, float]:
    """Nanoseconds: an empty system call, a load that misses every cache, a 4 KiB copy, one byte at copying speed."""
    def best(body: Callable[[], int], count: int) -> float:
        return min(body() for _ in range(3)) / count
    return {
        "system call": best(lambda: _micro.system_calls(200_000), 200_000),
        "memory latency": best(lambda: _micro.chases(300_000, 256 * MIB)[0], 300_000),
        "cached load": best(lambda: _micro.chases(1_000_000, 512 << 10)[0], 1_000_000),
        "4 KiB copy": best(lambda: _micro.copies(50_000, 4096, 256 * MIB), 50_000),
        "byte copied": best(lambda: _micro.copies(400, MIB, 256 * MIB, random=False), 400 * MIB),
    }


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., None]:
    """measure(body, count, limit, limit_ns): body() returns the ns of `count` operations; recorded beside its limit.

    `limit` names what cannot be beaten: a key of `limits()`, or any text with its own limit_ns. prepare() runs before each round.
    """
    def run(body: Callable[[], int], count: int, limit: str, limit_ns: float | None = None,
            prepare: Callable[[], None] | None = None) -> None:
        times: list[float] = []

        def timed() -> None:
            times.append(body() / count)
        benchmark.pedantic(timed, setup=prepare, rounds=ROUNDS, iterations=1, warmup_rounds=1)
        benchmark.extra_info.update(
            operations=count, ns_per_op=statistics.median(times), ns_best=min(times), limit=limit,
            limit_ns=limits()[limit] if limit_ns is None else limit_ns)
    return run
