"""What snapshots have scattered is put into order by itself once they are gone, and not while initiators send commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from target.errors import LunetteError
from target.server.background import defrag as module
from target.server.background.defrag import Defrag
from target.volumes.gateway import AsyncPool
from tests.core.test_fragmentation import Scattered
from tests.server.background.test_trim import pumped
from tests.support.aged import RUN
from tests.support.pumped_pool import PumpedPool
from tests.support.waiting import eventually


@pytest.fixture
async def made(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Scattered, AsyncPool]]:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.02)
    scattered = Scattered()
    pool = AsyncPool(PumpedPool(scattered.pool))
    pool.attach()
    pump = asyncio.create_task(pumped(scattered.pool))
    yield scattered, pool
    pump.cancel()
    pool.detach()
    scattered.pool.abandon()


async def test_a_pass_moves_what_lies_scattered(made: tuple[Scattered, AsyncPool]) -> None:
    _, pool = made
    work = Defrag(pool)
    work.start(0)
    await work.over()
    assert work.status()["state"] == "done"
    assert work.status()["moved_bytes"] == work.status()["looked_bytes"] == work.status()["mapped_bytes"] == 2 * RUN
    work.start(0)
    await work.over()
    assert work.status()["moved_bytes"] == 0


async def test_a_pass_may_be_for_one_volume(made: tuple[Scattered, AsyncPool]) -> None:
    scattered, pool = made
    other = await pool.call("create", name="w", size_bytes=RUN)
    await pool.call("write", object_id=other, offset_bytes=0, data=b"w" * RUN)
    work = Defrag(pool)
    work.start(0, "w")
    await work.over()
    assert (work.status()["looked_bytes"], work.status()["moved_bytes"]) == (RUN, 0)
    work.start(0, "v")
    await work.over()
    assert work.status()["moved_bytes"] == work.status()["looked_bytes"] == 2 * RUN
    await pool.call("snapshot", pairs=[(scattered.volume, "v@s")])
    for name, code in (("v@s", "invalid"), ("x", "not_found")):
        with pytest.raises(LunetteError) as caught:
            work.start(0, name)
        assert caught.value.code == code


async def test_a_pass_waits_until_what_was_deleted_is_off_the_counts(made: tuple[Scattered, AsyncPool],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that the regions look shared still: it would look at all of them and leave them."""
    _, pool = made
    work, pending, real = Defrag(pool), {"pending_bytes": 4096, "pending_items": 9}, pool.stats
    freed = iter(range(10_000))
    monkeypatch.setattr(pool, "stats", lambda: {**real(), **pending, "reclaimed_bytes": next(freed)})
    work.watch()
    await asyncio.sleep(0.3)
    assert work.status()["state"] == "never run"
    pending["pending_bytes"] = 0
    await eventually(lambda: work.status()["state"] != "never run")
    await work.quit()


async def test_it_begins_by_itself_after_a_delete_and_waits_for_initiators(made: tuple[Scattered, AsyncPool],
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test's own: on a busy core initiators look idle to whoever goes by the machine's."""
    _, pool = made
    clock = SimpleNamespace(time=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.time))
    work = Defrag(pool)
    work.watch()
    other = await pool.call("create", name="w", size_bytes=RUN)
    await pool.call("write", object_id=other, offset_bytes=0, data=b"w" * RUN)
    await pool.call("delete", object_id=other)
    await pool.call("flush")
    for _ in range(20):
        await pool.call("read", object_id=1, offset_bytes=0, length_bytes=4096)
        clock.time += module.IDLE_SECONDS / 2
        await asyncio.sleep(2 * module.LOOK_SECONDS)
    assert work.status()["state"] == "never run"

    def done() -> bool:                             # nobody sends anything any more
        clock.time += module.IDLE_SECONDS
        return work.status()["state"] == "done"

    await eventually(done)
    assert work.status()["moved_bytes"] == 2 * RUN
    await work.quit()


async def test_what_finds_no_place_is_said(made: tuple[Scattered, AsyncPool], monkeypatch: pytest.MonkeyPatch) -> None:
    scattered, pool = made
    work, real = Defrag(pool), pool.call

    async def call(op: str, **args: Any) -> Any:
        return "nowhere" if op == "move" and args["offset_bytes"] else await real(op, **args)

    monkeypatch.setattr(pool, "call", call)
    work.start(0)
    await work.over()
    assert (work.status()["moved_bytes"], work.status()["left_bytes"]) == (RUN, RUN)
    assert scattered.pool.stats()["moved_bytes"] == RUN


async def test_nothing_is_copied_where_the_file_system_below_is_nearly_full(made: tuple[Scattered, AsyncPool],
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    _, pool = made
    work, real = Defrag(pool), pool.stats
    room = {"medium_free_bytes": real()["size_bytes"] // 16 - 1}
    monkeypatch.setattr(pool, "stats", lambda: {**real(), **room})
    assert real()["orders"]
    work.watch()
    await eventually(lambda: not real()["orders"])
    room["medium_free_bytes"] += 1
    await eventually(lambda: real()["orders"])
    await work.quit()
    assert not real()["orders"]


async def test_no_pass_begins_where_that_is_switched_off(made: tuple[Scattered, AsyncPool]) -> None:
    """Asked for, one does: the engine moves what it is told to."""
    _, pool = made
    work = Defrag(pool)
    pool.pool.order(False)
    work.watch()
    assert work._watching is None
    work.start(0)
    await work.over()
    assert work.status()["moved_bytes"] == 2 * RUN
