"""Entries of the key store: a table of kinds, what is damaged, and changes that others have made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from target.errors import LunetteError
from target.volumes.entries import Entries, Kind, encoded
from target.volumes.gateway import AsyncPool
from tests.support.fake_pool import FakePool


def entries(stored: dict[str, bytes], kinds: dict[str, Kind]) -> Entries:
    pool = FakePool()
    pool._kv.update(stored)
    return Entries(AsyncPool(pool), "things", kinds)


def test_each_kind_gets_its_own_and_others_are_left_alone() -> None:
    seen: list[tuple[str, Any]] = []
    entries({"one/7": b"[1]", "two": b"2", "raw/x/y": b"\xff", "other/1": b"no JSON"}, {
        "one": Kind(lambda rest, value: seen.append((rest, value))),
        "two": Kind(lambda rest, value: seen.append((rest, value))),
        "raw": Kind(lambda rest, value: seen.append((rest, value)), opaque=True),
    }).load()
    assert sorted(seen, key=str) == [("", 2), ("7", [1]), ("x/y", b"\xff")]


@pytest.mark.parametrize(("secret", "quoted"), [(False, True), (True, False)])
def test_what_cannot_be_read_is_damage_and_a_secret_is_not_quoted(secret: bool, quoted: bool) -> None:
    def load(rest: str, value: Any) -> None:
        raise ValueError(f"cannot be {value}")

    with pytest.raises(LunetteError, match="the entry 'host/1' cannot be read") as told:
        entries({"host/1": b'"hunter2"'}, {"host": Kind(load, secret=secret)}).load()
    assert told.value.code == "damaged"
    assert ("hunter2" in str(told.value)) is quoted


def test_adopting_drops_what_was_there_before_anything_comes() -> None:
    """Two things that change places must not be in the same one at any moment."""
    order: list[str] = []
    found = entries({}, {
        "at": Kind(lambda rest, value: order.append(f"load {rest} {value}"), lambda rest: order.append(f"drop {rest}")),
        "kept": Kind(lambda rest, value: order.append(f"load kept {value}"))})
    found.adopt(encoded({"at/1": "b", "at/2": "a", "at/3": None, "kept/1": None, "unknown/1": 0}))
    assert order == ["drop 1", "drop 2", "drop 3", "load 1 b", "load 2 a"]


def test_storing_says_what_could_not_be_kept() -> None:
    async def main() -> None:
        await found.store({})
        with pytest.raises(LunetteError, match="keep the things: ") as told:
            await found.store({"one/1": {"a": 1}, "one/2": None})
        assert told.value.code == "io_write"

    found = entries({}, {})

    async def refuse(op: str, **args: Any) -> None:
        from target.volumes.gateway import PoolError

        assert args == {"changes": {"one/1": b'{"a":1}', "one/2": None}}
        raise PoolError("io_write", "refused")

    found._pool.call = refuse  # type: ignore[method-assign]
    asyncio.run(main())
