"""Fixtures of the micro-benchmarks: pools in memory, results beside their limits."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.memory import MemoryPool, limits

ROUNDS = 5


@pytest.fixture
def make_pool() -> Iterator[Callable[..., MemoryPool]]:
    made: list[MemoryPool] = []

    def make(*args: Any, **kwargs: Any) -> MemoryPool:
        made.append(MemoryPool(*args, **kwargs))
        return made[-1]
    yield make
    for memory in made:
        memory.pool.abandon()


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
