"""`lunette pool trim`: the file shrinks to what is in use, beside initiators, at the rate that was asked for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from target.errors import LunetteError
from target.server.background.trim import Trim
from target.volumes.gateway import AsyncPool, check_pool, create_pool, open_pool
from tests.support.daemon import DaemonProcess
from tests.support.places import pool_directory
from tests.support.pumped_pool import PumpedPool
from tests.support.waiting import eventually, until

MIB = 1 << 20


def filled(path: Path) -> tuple[Any, Any]:
    """A pool whose file has all its blocks, with 4 MiB in use."""
    create_pool(path, name="t", size_bytes=128 * MIB)
    pool, device = open_pool(path, cache_bytes=16 * MIB)
    volume = pool.call("create", name="v", size_bytes=16 * MIB)
    pool.call("write", object_id=volume, offset_bytes=0, data=os.urandom(4 * MIB))
    pool.close()
    device.close()
    with path.open("r+b") as file:
        for at in range(0, 128 * MIB, MIB):              # written over with itself: no holes are left
            os.pwrite(file.fileno(), os.pread(file.fileno(), MIB, at), at)
    assert path.stat().st_blocks * 512 >= 128 * MIB
    return open_pool(path, cache_bytes=16 * MIB)


async def finished(trim: Trim) -> dict[str, Any]:
    await eventually(lambda: trim.status()["state"] != "running")
    return trim.status()


async def pumped(raw: Any) -> None:
    """What reactors do in a daemon: background work goes on by itself."""
    while True:
        raw.turn()
        for io in raw.pending_io():
            raw.perform(io[0])
        await asyncio.sleep(0.001)


async def test_the_file_shrinks_to_what_is_used(tmp_path: Path) -> None:
    with pool_directory(tmp_path) as place:
        raw, device = filled(place / "t.pool")
        pool = AsyncPool(PumpedPool(raw))
        pool.attach()
        pump = asyncio.create_task(pumped(raw))
        trim = Trim(pool)
        trim.start(0)
        with pytest.raises(LunetteError, match="running already"):
            trim.start(0)
        state = await finished(trim)
        assert state["state"] == "done"
        assert state["looked_bytes"] == 128 * MIB
        assert state["trimmed_bytes"] == state["found_bytes"] > 80 * MIB
        assert (place / "t.pool").stat().st_blocks * 512 < 40 * MIB
        trim.start(8 * MIB)
        await asyncio.sleep(0.1)
        await trim.stop()
        assert trim.status()["state"] == "stopped"
        pump.cancel()
        pool.detach()
        raw.close()
        device.close()
        assert check_pool(place / "t.pool", data=True)[0]


def test_the_command(tmp_path: Path) -> None:
    with pool_directory(tmp_path) as place:
        daemon = DaemonProcess(place, size="128M")
        try:
            daemon.start()
            daemon.cli("create", "v", "--size", "16M")
            assert "given back" in daemon.cli("pool", "trim", "--rate", "1G")
            assert daemon.cli("pool", "trim", "--status").startswith("done")
        finally:
            daemon.close()


def test_a_start_looks_for_what_the_life_before_left(tmp_path: Path) -> None:
    """Freed, and closed before the sweep: the next daemon gives it back unasked, and the one after it has nothing to look for."""
    with pool_directory(tmp_path) as place:
        daemon = DaemonProcess(place, size="128M")
        try:
            daemon.start()
            daemon.cli("create", "v", "--size", "32M")
            daemon.stop()
            raw, device = open_pool(daemon.pool, cache_bytes=16 * MIB)
            volume = raw.lookup("v").id
            raw.call("write", object_id=volume, offset_bytes=0, data=os.urandom(32 * MIB))
            raw.call("unmap", object_id=volume, offset_bytes=0, length_bytes=32 * MIB)
            raw.close()
            device.close()
            kept = daemon.pool.stat().st_blocks
            daemon.start()
            until(lambda: daemon.cli("pool", "trim", "--status").startswith("done"))
            assert daemon.pool.stat().st_blocks * 512 <= kept * 512 - 30 * MIB
            daemon.stop()
            daemon.start()
            assert "never run" in daemon.cli("pool", "trim", "--status")
        finally:
            daemon.close()
