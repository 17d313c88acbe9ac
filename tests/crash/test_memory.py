"""Each allocation of the core failed in turn: the operation that asked fails alone, what works in the background tries again."""

from __future__ import annotations

from typing import Any

import pytest

from core.base import memory
from core.errors import PoolError
from tests.crash.rig import Rig, format_disk
from tests.crash.test_faults import CONFIG, OPERATIONS, probe, scene, write
from tests.support.history import Violation
from tests.support.simdisk import SimDisk

MORE = {
    "compare": lambda rig: rig.do("compare_and_write", object_id=1, offset_bytes=1 << 20, expected=bytes(4096),
                                  data=rig.oracle.make_data(1, 1 << 20, 4096)),
    "read": lambda rig: rig.do("read", object_id=1, offset_bytes=0, length_bytes=64 << 10),
    "extents": lambda rig: rig.pool.call("extents", object_id=1, offset_bytes=0, length_bytes=4 << 20, limit=100),
    "diff": lambda rig: rig.pool.call("diff", a_id=2, b_id=3, offset_bytes=0, limit=100),
    "exclusive": lambda rig: rig.pool.call("exclusive", object_ids=[1, 2, 3, 4]),
}


@pytest.fixture(scope="module")
def template() -> SimDisk:
    return format_disk(CONFIG)


@pytest.fixture(autouse=True)
def plenty() -> Any:
    yield
    memory.fail(-1)


def attempt(template: SimDisk, name: str, after: int, count: int) -> bool:
    """One operation while allocations fail. False: there are not so many in it."""
    rig = scene(template.fork(after + 1))
    rig.tolerated |= {"no_memory"}
    memory.fail(after, count)
    try:
        try:
            {**OPERATIONS, **MORE}[name](rig)
            rig.settle()
        except PoolError as error:
            if error.code != "no_memory":
                raise
            if rig.oracle.inflight:
                rig.refused()
        met = memory.fail(-1)
        if rig.pool.failure():
            raise Violation(f"the pool failed: {rig.pool.failure()}")
        probe(rig)
        volume = max(model.id for model in rig.volumes())
        write(rig, volume, 4096, 4096)
        rig.do("snapshot", pairs=[(volume, f"v@after{after}")])
        rig.do("checkpoint")
        rig.verify()
        rig.crash(power=after % 2 == 0)
        rig.reopen()
        rig.check(rig.disk)
    except (Violation, PoolError, AssertionError) as error:
        raise Violation(f"{name} with {count} failed after {after} allocations: {error}\n{rig.story()}") from error
    finally:
        memory.fail(-1)
        if rig.pool:
            rig.pool.abandon()
    return met > 0


@pytest.mark.parametrize("name", [*OPERATIONS, *MORE])
def test_each_allocation_failed(template: SimDisk, name: str) -> None:
    for count in (1, 3):
        for after in range(60):
            if not attempt(template, name, after, count):
                break
        else:
            raise AssertionError("it never ends")


def test_opening_without_memory(template: SimDisk) -> None:
    """An open that finds none is refused, and the next one finds all there is."""
    rig: Rig = scene(template.fork(1))
    rig.crash(power=False)
    from core.pool.engine import Pool
    for after in range(200):
        disk = rig.disk.fork(after)
        memory.fail(after)
        try:
            pool = Pool(disk, cache_bytes=0)
        except (MemoryError, PoolError) as error:
            if memory.fail(-1) == 0 or getattr(error, "code", "no_memory") != "no_memory":
                raise
            continue
        met = memory.fail(-1)
        assert pool.failure() == ""
        pool.abandon()
        if not met:
            return
    raise AssertionError("it never ends")
