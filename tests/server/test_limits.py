"""Limits as people set them: shown, kept, live, gone with what they were of (target/server/iscsi/limits.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.wire.limit import Limit
from target.config import format_duration, parse_duration
from target.errors import LunetteError
from target.volumes.rates import HOST, OBJECT, RateStore
from tests.server.conftest import Control, make_control
from tests.support.fake_pool import FakePool

IQN = "iqn.2026-11.dev.lunette.test:a"


class Reached:
    """A reactor that notes what it is told."""

    def __init__(self) -> None:
        self.changed: list[Limit] = []

    def limit_changed(self, limit: Limit) -> None:
        self.changed.append(limit)

    def forget_object(self, object_id: int) -> None: ...


async def test_limits_are_set_shown_and_kept(control: Control, tmp_path: Path) -> None:
    await control.ok("create", "db", "--size", "1M")
    said = await control.ok("set", "db", "--iops", "5000", "--bandwidth", "200M", "--burst", "10s")
    assert "at most 5000 IOPS 200M/s burst 10s" in said
    assert "5000 IOPS 200M/s burst 10s" in await control.ok("ls")
    row = (await control.ls())["db"]
    assert (row["iops"], row["bandwidth_bytes"], row["burst_seconds"]) == (5000, 200 << 20, 10.0)
    await control.ok("set", "db", "--iops", "0")                     # one of them goes, the others stay
    row = (await control.ls())["db"]
    assert (row["iops"], row["bandwidth_bytes"], row["burst_seconds"]) == (None, 200 << 20, 10.0)
    await control.ok("host", "create", "h", IQN)
    assert "at most 300 IOPS burst 100ms" in await control.ok("host", "set", "h", "--iops", "300")
    assert "300 IOPS burst 100ms" in await control.ok("host", "ls")
    await control.ok("rename", "db", "db2")
    store = RateStore(control.daemon.pool, {1})                      # as the next start reads them
    db = control.daemon.catalog.find("db2").id
    assert store.of(OBJECT, db) == control.daemon.limits.rates(OBJECT, db)
    host = store.of(HOST, control.daemon.catalog.host("h").id)
    assert host is not None
    assert host.iops == 300
    await control.ok("set", "db2", "--bandwidth", "0")
    await control.ok("host", "delete", "h")
    assert not [key for key in control.pool.kv() if key.startswith("rates/")]


async def test_limits_end_with_their_object(control: Control) -> None:
    for name in ("a", "b"):
        await control.daemon.commands.run("create", {"name": name, "size_bytes": 4096})
        await control.daemon.commands.run("set", {"name": name, "iops": 5})
    assert sum(key.startswith("rates/") for key in control.pool.kv()) == 2
    await control.daemon.commands.run("delete", {"names": ["a"]})
    assert sum(key.startswith("rates/") for key in control.pool.kv()) == 1


@pytest.mark.parametrize("args", [{"iops": -1}, {"iops": 10**10}, {"iops": 1.5}, {"burst_seconds": -1}, {"burst_seconds": 1e9},
                                  {"bandwidth_bytes": "200M"}])
async def test_rates_that_are_none_are_refused(control: Control, args: dict[str, Any]) -> None:
    await control.daemon.commands.run("create", {"name": "a", "size_bytes": 4096})
    with pytest.raises(LunetteError) as caught:
        await control.daemon.commands.run("set", {"name": "a", **args})
    assert caught.value.code == "invalid"
    assert not [key for key in control.pool.kv() if key.startswith("rates/")]


async def test_a_change_reaches_the_reactors_at_once(control: Control) -> None:
    reached = Reached()
    control.daemon.reactors.append(reached)  # type: ignore[arg-type]
    await control.daemon.commands.run("create", {"name": "a", "size_bytes": 4096})
    number = control.daemon.catalog.find("a").id
    assert control.daemon.limits.of_lun(IQN, number) == {"volume_limit": None, "host_limit": None}
    await control.daemon.commands.run("set", {"name": "a", "iops": 5})
    limit = control.daemon.limits.of_lun(IQN, number)["volume_limit"]
    assert limit is not None
    assert limit.rates == (5, 0)
    await control.daemon.commands.run("set", {"name": "a", "iops": 7, "bandwidth_bytes": 4096})
    assert reached.changed == [limit]
    assert limit.rates == (7, 4096)
    await control.daemon.commands.run("set", {"name": "a", "iops": 0, "bandwidth_bytes": 0})
    assert control.daemon.limits.of_lun(IQN, number)["volume_limit"] is None


async def test_a_damaged_entry_is_said_at_the_start(tmp_path: Path) -> None:
    pool = FakePool()
    pool._op_kv({"rates/object/1": json.dumps({"iops": "many"}).encode()})
    with pytest.raises(LunetteError, match="rates/object/1"):
        await make_control(tmp_path, pool, open_access=True)
    pool.close()


def test_times_are_read_and_shown() -> None:
    assert [parse_duration(text) for text in ("10s", "500ms", "2m", "1h", "3d", "0.5s")] == [10, 0.5, 120, 3600, 259200, 0.5]
    assert parse_duration("0") == 0
    assert [format_duration(seconds) for seconds in (0.1, 10.0, 1.5)] == ["100ms", "10s", "1.5s"]
    for text in ("", "s", "10", "-1s", "1y", "1 0s"):
        with pytest.raises(LunetteError):
            parse_duration(text)
