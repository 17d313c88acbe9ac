"""Power lost at each request of the pool while a stream is received: what a MARK says is there (docs/protection.md)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from core.check import check
from core.pool.engine import Pool
from target.server.background import receiving
from target.server.background.receiving import Receiving
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.replicas import Begin, Replicas
from tests.crash.rig import Config, format_disk, open_pool
from tests.support.simdisk import SimDisk

BLOCK = 4096
CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
MODES = ("none", "all", "random", "suffix", "writes", "kill")
PART = 8 * BLOCK                    # between two MARKs
PARTS = 3
CONTENT = random.Random(1).randbytes(PARTS * PART)
BEGIN = Begin("1" * 32, "", "2" * 32, "3" * 32, "v", "1", 1_000_000, 512, 4096, False, {"why": "test"})


class Watched(AsyncPool):
    """Performs its requests itself, one at a time. Before each a copy of the disk is kept, of every way it may stop."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__(Pool(disk, cache_bytes=0))
        self.disk = disk
        self.copies: list[SimDisk] = []

    def start(self, op: str, **args: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._performed(op, args))

    async def _performed(self, op: str, args: dict[str, Any]) -> Any:
        token = self.pool.start(op, **args)
        while True:
            for mode in MODES:
                copy = self.disk.fork(len(self.copies))
                copy.process_kill() if mode == "kill" else copy.power_cut(mode)
                self.copies.append(copy)
            self.pool.turn()
            done = self.pool.take(token)
            if done is not None:
                assert done.code == "ok", (op, done)
                return done.value
            for request in self.pool.pending_io()[:1]:
                self.pool.perform(request[0])
            await asyncio.sleep(0)                  # a mark is kept for good while more comes


def frames(pool: AsyncPool, *, early: bool) -> Any:
    """A source for `Receiving`: BEGIN, then data and a MARK, then END. `early`: MARKs come before what they speak of."""
    kinds: Iterator[Any] = iter([SimpleNamespace(type="begin", offset=0, span=len(CONTENT), more=False, payload=BEGIN.pack()),
                                 *(SimpleNamespace(type="mark", offset=(part + 1) * PART, span=0, more=False, payload=b"")
                                   for part in range(PARTS)),
                                 SimpleNamespace(type="end", offset=len(CONTENT), span=0, more=False, payload=b"")])
    state = SimpleNamespace(object_id=0, owed=[])

    async def write(part: int) -> None:
        for at in range(part * PART, (part + 1) * PART, BLOCK):
            await pool.call("write", object_id=state.object_id, offset_bytes=at, data=CONTENT[at:at + BLOCK])

    async def into(object_id: int, from_offset: int, *, comparing: bool) -> None:
        assert (from_offset, comparing) == (0, False)
        state.object_id = object_id

    async def take() -> Any:
        for part in state.owed:
            await write(part)
        state.owed.clear()
        frame = next(kinds)
        if frame.type == "mark":
            part = frame.offset // PART - 1
            if early:
                state.owed.append(part)
            else:
                await write(part)
        return frame

    @asynccontextmanager
    async def source(*_: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(take=take, into=into, inflow=SimpleNamespace(received_bytes=0))

    return source


async def received(monkeypatch: pytest.MonkeyPatch, *, early: bool = False) -> list[SimDisk]:
    pool = Watched(format_disk(CONFIG))
    monkeypatch.setattr(receiving, "Source", frames(pool, early=early))
    done = await Receiving(pool, Replicas(pool), published=lambda infos: None, followed=lambda number: None).receive("w", -1)
    assert done["received"] == ["w@1"]
    pool.pool.abandon()
    return pool.copies


def content(pool: Pool, info: ObjectInfo, length: int) -> bytes:
    data: bytes = pool.call("read", object_id=info.id, offset_bytes=0, length_bytes=length) if length else b""
    return data


def found(copy: SimDisk) -> int:
    """How many parts this disk knows to be received; -1: no receive, PARTS + 1: published. AssertionError: not true."""
    pool = open_pool(copy, CONFIG)
    shown = AsyncPool(pool)
    replicas = Replicas(shown)
    names, partials = {each.name for each in shown.objects()}, replicas.partials()
    for each in partials:
        staged = shown.info(each.staged_id)
        assert staged is not None
        assert content(pool, staged, each.cursor) == CONTENT[:each.cursor], f"not all of {each.cursor} bytes is there"
        assert not names
    if names:
        assert names == {"w", "w@1"}
        for each_name in names:
            info = shown.lookup(each_name)
            assert info is not None
            assert content(pool, info, len(CONTENT)) == CONTENT
            assert replicas.guid(info) == (BEGIN.guid if info.kind == "snapshot" else BEGIN.volume_guid)
    pool.close()
    assert check(copy).ok
    return PARTS + 1 if names else partials[0].cursor // PART if partials else -1


async def test_what_a_mark_says_is_there_whenever_power_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [found(copy) for copy in await received(monkeypatch)]
    assert set(seen) == {-1, *range(PARTS + 2)}         # each step was met


async def test_a_mark_that_came_before_its_data_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = await received(monkeypatch, early=True)
    with pytest.raises(AssertionError, match="not all of"):
        list(map(found, copies))
