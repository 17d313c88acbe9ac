"""What an owner tells the gateways that wait, and what they make of it: a table in memory, no cluster."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest

from core.ownership import Record, State
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool
from target.volumes.manifest import HEAD, WAITING, NotToldError, Reading, ToldPool, Waiters, waiting_note
from target.volumes.telling import Telling
from tests.support.fake_pool import FakePool

OWNER = Record(state=State.OWNED, owner=b"o" * 16, lease_ms=10000, counter=1)
NAME = "iqn.2026-01.test:a"


class MemoryTable:
    """core.ceph.Table, and the ownership record beside it."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.record = OWNER
        self.full = False
        self.blocked: asyncio.Event | None = None

    def apply(self, changes: Mapping[str, bytes | None]) -> None:
        if self.full:
            raise OSError(28, "full")
        self.entries = {key: value for key, value in {**self.entries, **changes}.items() if value is not None}

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def under(self, prefix: str) -> dict[str, bytes]:
        return {key: value for key, value in self.entries.items() if key.startswith(prefix)}

    def all(self) -> dict[str, bytes]:
        return dict(self.entries)

    def remove(self) -> None:
        self.entries = {}

    def read_record(self) -> bytes:
        return self.record.pack()


class World:
    """An owner's pool, its catalog and its table."""

    def __init__(self) -> None:
        self.table = MemoryTable()
        self.pool = AsyncPool(FakePool())
        self.pool.attach()
        self.catalog = Catalog(self.pool)
        self.telling = Telling(self.table, self.pool, {"owner": OWNER.owner.hex(), "pool": self.pool.pool.uuid.hex(),
                                                       "groups": {1: ["10.0.0.1:3260,1"]}})
        self.reading = Reading("rbd:none/none", lambda: 0.0)
        self.reading.attach(self.table, self.table)

    def told(self) -> Catalog:
        """The catalog as a gateway has it that waits."""
        pool = ToldPool()
        pool.take(self.reading.read())
        return Catalog(pool)

    async def volume(self, name: str = "v") -> int:
        number = await self.pool.call("create", name=name, size_bytes=1 << 20)
        await self.catalog.connect(self.catalog.find(name))
        return int(number)


def run(test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        await world.telling.start()
        try:
            await test(world)
        finally:
            await world.telling.stop()
            world.pool.detach()

    asyncio.run(main())


def test_what_was_answered_is_told() -> None:
    async def test(world: World) -> None:
        number = await world.volume()
        assert world.told().lun_map(None, open_access=True) == {0: number}
        await world.pool.call("resize", object_id=number, size_bytes=2 << 20)
        info = world.told().pool.info(number)
        assert info is not None
        mine = world.pool.info(number)
        assert mine is not None
        assert (info.size_bytes, info.serial, info.kind) == (2 << 20, mine.serial, "volume")
        await world.catalog.save_unit_state(number, b"state")
        assert world.told().unit_state(number) == b"state"
        await world.pool.call("kv", changes={"rates/object/1": b"{}", "token/t": b"secret"})
        assert not any(b"secret" in value for value in world.table.entries.values())
        await world.pool.call("delete", object_id=number)
        assert world.told().lun_map(None, open_access=True) == {}
        await world.catalog.forget_object(number)
        assert set(world.table.entries) == {HEAD}

    run(test)


def test_a_change_is_answered_when_it_is_told_and_not_before() -> None:
    async def test(world: World) -> None:
        number = await world.volume()
        world.pool.follower = holding = Holding(world.telling)
        resize = asyncio.ensure_future(world.pool.call("resize", object_id=number, size_bytes=2 << 20))
        await asyncio.wait([resize], timeout=0.05)
        assert not resize.done()
        holding.release()
        await resize

    run(test)


class Holding:
    """A follower that keeps what it is told of."""

    def __init__(self, telling: Telling) -> None:
        self.concerns = telling.concerns
        self._telling = telling
        self._kept: list[tuple[str, dict[str, object], Callable[[], None]]] = []

    def done(self, op: str, args: dict[str, object], then: Callable[[], None]) -> None:
        self._kept.append((op, args, then))

    def release(self) -> None:
        for each in self._kept:
            self._telling.done(*each)


def test_another_owner_makes_it_worthless_and_so_does_its_absence() -> None:
    async def test(world: World) -> None:
        world.told()
        world.table.record = replace(OWNER, state=State.GIVEN_UP)
        world.told()                        # nothing was changed since by anybody
        world.table.record = replace(OWNER, owner=b"p" * 16)
        with pytest.raises(NotToldError):
            world.told()
        world.table.record = OWNER
        world.table.remove()
        with pytest.raises(NotToldError):
            world.told()

    run(test)


def test_what_cannot_be_told_is_withdrawn_and_told_again() -> None:
    async def test(world: World) -> None:
        await world.volume()
        world.table.full = True
        number = await world.volume("w")
        with pytest.raises(NotToldError):
            world.told()
        world.table.full = False
        await world.catalog.save_unit_state(number, b"state")
        assert world.told().lun_map(None, open_access=True)[1] == number
        assert world.told().unit_state(number) == b"state"

    run(test)


def test_a_new_owner_takes_away_what_the_last_one_left() -> None:
    async def test(world: World) -> None:
        world.table.entries |= {"kv/host/7": b"{}", "object/9": b"{}", WAITING + "2": waiting_note("g", ["10.0.0.2:3260,2"], 1)}
        again = Telling(world.table, world.pool, {"owner": "", "pool": "", "groups": {}})
        await again.start()
        await again.stop()
        assert set(world.table.entries) == {HEAD, WAITING + "2"}

    run(test)


def test_secrets_are_told_to_gateways_only() -> None:
    """Whoever waits must be able to hold a login against them; they are shown nowhere."""
    from target.volumes.catalog import Chap, Host

    async def test(world: World) -> None:
        await world.catalog.save_host(Host(0, "h", (NAME,), Chap("n", b"s" * 16)))
        host = world.told().host_of(NAME)
        assert host is not None
        assert host.chap is not None
        assert host.chap.secret == b"s" * 16
        assert "sss" not in repr(world.reading.read())

    run(test)


def test_a_gateway_that_says_nothing_new_is_not_there() -> None:
    now = 0.0
    waiters = Waiters(lambda: now)
    entries = {WAITING + "2": waiting_note("g", ["10.0.0.2:3260,2"], 1), HEAD: json.dumps({}).encode()}
    assert waiters.look(entries)[2].alive
    now = 20.0
    assert not waiters.look(entries)[2].alive
    entries[WAITING + "2"] = waiting_note("g", ["10.0.0.2:3260,2"], 2)
    assert waiters.look(entries)[2].alive


def test_the_client_is_closed_when_no_thread_is_in_a_call_of_it() -> None:
    events: list[str] = []
    called, answered = threading.Event(), threading.Event()

    class Device:
        def close(self) -> None:
            events.append("closed")

    class Slow(MemoryTable):
        def get(self, key: str) -> bytes | None:
            called.set()
            assert answered.wait(60)
            events.append("answered")
            return None

    reading = Reading("rbd:none/none")
    table = Slow()
    reading.attach(table, table)
    reading._device = Device()          # type: ignore[assignment]
    call = threading.Thread(target=reading.get, args=[HEAD])
    call.start()
    assert called.wait(60)
    closing = threading.Thread(target=reading.close)
    closing.start()
    answered.set()
    for each in (call, closing):
        each.join()
    assert events == ["answered", "closed"]
    with pytest.raises(OSError, match="no more"):
        reading.get(HEAD)
