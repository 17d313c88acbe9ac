"""The commands on the real engine, pumped by the event loop: what they leave in the pool, and after a reopening."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from target.config import ServeConfig
from target.errors import LunetteError
from target.scsi.backend import BackendError
from target.scsi.copy.extended_copy import copy_range
from target.server.api.differences import Differences
from target.server.background.scrub import Scrub
from target.server.daemon import Daemon
from target.server.disks.backend import PoolBackend
from target.volumes.gateway import PoolError, check_pool, create_pool, open_pool
from tests.support.places import pool_directory
from tests.support.pumped_pool import PumpedPool

MIB = 1 << 20
Open = Callable[[], Awaitable[Daemon]]


@pytest.fixture
async def reopen(tmp_path: Path) -> AsyncIterator[Open]:
    """Open the pool, again each time it is called; the last one is closed and the pool checked at the end."""
    with pool_directory(tmp_path) as place:
        path = place / "t.pool"
        create_pool(path, name="t", size_bytes=3 << 30)
        opened: list[tuple[Daemon, Any, Any]] = []

        def close() -> None:
            if opened:
                daemon, pool, device = opened.pop()
                daemon.pool.detach()
                pool.close()
                device.close()

        async def begin() -> Daemon:
            close()
            pool, device = open_pool(path, cache_bytes=64 << 20)
            daemon = Daemon(ServeConfig(pool_path=path, open_access=True))
            daemon.wire(PumpedPool(pool))
            daemon._device = device
            daemon.pool.attach()
            opened.append((daemon, pool, device))
            return daemon

        yield begin
        close()
        clean, errors, _ = check_pool(path)
    assert clean, errors


async def listed(daemon: Daemon) -> dict[str, dict[str, Any]]:
    return {row["name"]: row async for rows in daemon.listing.objects() for row in rows}


async def write(daemon: Daemon, name: str, offset_bytes: int, data: bytes) -> None:
    await daemon.pool.call("write", object_id=daemon.catalog.find(name).id, offset_bytes=offset_bytes, data=data)


async def read(daemon: Daemon, name: str, offset_bytes: int, length_bytes: int) -> bytes:
    data: bytes = await daemon.pool.call("read", object_id=daemon.catalog.find(name).id, offset_bytes=offset_bytes,
                                         length_bytes=length_bytes)
    return data


async def test_everything_survives_a_reopening(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": 64 * MIB, "labels": {"app": "db"}, "block_bytes": 4096})
    await write(daemon, "v", 0, b"a" * 8192)
    await run("snapshot", {"names": ["v@s"]})
    await write(daemon, "v", 0, b"b" * 4096)
    await run("clone", {"source": "v@s", "name": "c"})
    await run("connect", {"name": "v@s", "lun": 9})
    await run("host_create", {"name": "h", "initiators": ["iqn.2026-01.test:h"], "secret": "correct-horse"})
    await run("connect", {"name": "c", "host": "h", "lun": 3})
    before = await listed(daemon)
    daemon = await reopen()
    assert await listed(daemon) == before
    assert [before[name]["lun"] for name in ("v", "c", "v@s")] == [0, 1, 9]
    assert before["v"]["labels"] == {"app": "db"}
    assert daemon.access.lun_map("iqn.2026-01.test:h") == {0: before["v"]["id"], 1: before["c"]["id"], 9: before["v@s"]["id"],
                                                           3: before["c"]["id"]}
    assert await read(daemon, "v", 0, 8192) == b"b" * 4096 + b"a" * 4096
    assert await read(daemon, "c", 0, 8192) == await read(daemon, "v@s", 0, 8192) == b"a" * 8192


async def test_the_physical_block_is_inherited_kept_and_set(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": MIB, "physical_block_bytes": 4096})
    await run("create", {"name": "w", "size_bytes": MIB, "physical_block_bytes": 512})
    await run("snapshot", {"names": ["v@s"]})
    await run("clone", {"source": "v@s", "name": "c"})
    unit = daemon.units.get(daemon.catalog.find("v").id)
    assert unit is not None
    await run("set", {"name": "v", "physical_block_bytes": 512})
    assert unit.backend.physical_block_bytes == 512
    await run("revert", {"name": "v@s", "safety": "before"})
    await run("rename", {"name": "c", "new_name": "d"})
    await run("label", {"name": "d", "set": {"a": "b"}})
    for bad in (0, 1024, 8192):
        with pytest.raises(LunetteError, match="512"):
            await run("set", {"name": "w", "physical_block_bytes": bad})
    with pytest.raises(LunetteError, match="physical block"):
        await run("create", {"name": "x", "size_bytes": MIB, "block_bytes": 4096, "physical_block_bytes": 512})
    daemon = await reopen()
    told = {name: row["physical_block_bytes"] for name, row in (await listed(daemon)).items()}
    assert told == {"v": 512, "w": 512, "v@s": 4096, "d": 4096, "v@before": 512}


async def test_labels_and_properties_set_at_once_are_all_kept(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": MIB})
    await asyncio.gather(*(run("label", {"name": "v", "set": {f"k{i}": str(i)}}) for i in range(5)),
                         run("set", {"name": "v", "quota_bytes": MIB}), run("rename", {"name": "v", "new_name": "w"}))
    daemon = await reopen()
    rows = await listed(daemon)
    assert rows["w"]["labels"] == {f"k{i}": str(i) for i in range(5)}
    assert rows["w"]["quota_bytes"] == MIB


async def test_exclusive_bytes_are_what_deleting_frees(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": 64 * MIB})
    await write(daemon, "v", 0, b"a" * MIB)
    await run("snapshot", {"names": ["v@s"]})
    await write(daemon, "v", 0, b"b" * (256 << 10))
    daemon.pool.pool.drain()      # references are given back in the background
    rows = await listed(daemon)
    assert (rows["v"]["mapped_bytes"], rows["v"]["exclusive_bytes"]) == (MIB, 256 << 10)
    assert (rows["v@s"]["mapped_bytes"], rows["v@s"]["exclusive_bytes"]) == (MIB, 256 << 10)
    await run("delete", {"names": ["v"]})
    assert (await listed(daemon))["v@s"]["exclusive_bytes"] == MIB


async def test_revert_keeps_newer_snapshots_and_can_be_undone(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": MIB})
    for label in ("one", "two"):
        await write(daemon, "v", 0, label.encode().ljust(512))
        await run("snapshot", {"names": [f"v@{label}"]})
    await write(daemon, "v", 0, b"three".ljust(512))
    await run("revert", {"name": "v@one", "safety": "undo"})
    assert (await read(daemon, "v", 0, 512)).strip() == b"one"
    assert set(await listed(daemon)) == {"v", "v@one", "v@two", "v@undo"}
    await run("revert", {"name": "v@undo"})
    assert (await read(daemon, "v", 0, 512)).strip() == b"three"


async def differences(daemon: Daemon, a: str, b: str, **what: Any) -> list[dict[str, Any]]:
    """The ranges, without the header."""
    found = Differences(daemon.pool, daemon.catalog, daemon.holds, daemon.replicas.guid).rows(a, b, header=False, **what)
    return [row for rows in [each async for each in found] for row in rows]


async def test_diff_tells_data_from_holes_and_what_one_size_adds(reopen: Open) -> None:
    """By what both read as: outside the ranges the same, in a hole zeros, and beyond the smaller one all of the larger."""
    daemon = await reopen()
    run, pool = daemon.commands.run, daemon.pool
    await run("create", {"name": "v", "size_bytes": 16 * MIB})
    await write(daemon, "v", MIB, b"a" * 4 * MIB)
    await run("snapshot", {"names": ["v@s"]})
    v = daemon.catalog.find("v").id
    await write(daemon, "v", 0, b"b" * 8192)
    await pool.call("unmap", object_id=v, offset_bytes=MIB, length_bytes=8192)
    await write(daemon, "v", MIB + 8192, b"c" * 4096)
    await run("resize", {"name": "v", "size_bytes": 24 * MIB})
    await write(daemon, "v", 20 * MIB, b"d" * 4096)
    changed = [(0, 8192, "data"), (MIB, 8192, "hole"), (MIB + 8192, 4096, "data")]
    grown = [(16 * MIB, 4 * MIB, "hole"), (20 * MIB, 4096, "data"), (20 * MIB + 4096, 4 * MIB - 4096, "hole")]
    rows = [tuple(row.values()) for row in await differences(daemon, "v@s", "v")]
    assert rows == changed + grown
    back = [(0, 8192, "hole"), (MIB, 12288, "data"), (16 * MIB, 8 * MIB, "beyond")]
    assert [tuple(row.values()) for row in await differences(daemon, "v", "v@s")] == back
    assert [tuple(row.values()) for row in await differences(daemon, "v@s", "v", offset_bytes=MIB + 4096, limit=2)] == [
        (MIB + 4096, 4096, "hole"), (MIB + 8192, 4096, "data")]
    assert [tuple(row.values()) for row in await differences(daemon, "v", "v@s", offset_bytes=20 * MIB)] == [
        (20 * MIB, 4 * MIB, "beyond")]
    assert await differences(daemon, "v", "v@s", offset_bytes=24 * MIB) == []


@pytest.mark.parametrize("piece", [1, 3, 4096])
async def test_diff_is_the_same_in_any_pieces_and_by_limits(reopen: Open, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    daemon = await reopen()
    r = random.Random(piece)
    await daemon.commands.run("create", {"name": "v", "size_bytes": 32 * MIB})
    v = daemon.catalog.find("v").id
    await write(daemon, "v", 0, b"a" * 6 * MIB)
    await daemon.commands.run("snapshot", {"names": ["v@s"]})
    blocks: dict[int, str] = {}
    for _ in range(60):
        block = r.randrange(8 * 256)
        blocks[block] = r.choice(["data", "hole"])
        if blocks[block] == "data":
            await write(daemon, "v", block * 4096, b"n" * 4096)
        else:
            await daemon.pool.call("unmap", object_id=v, offset_bytes=block * 4096, length_bytes=4096)
            if block >= 6 * 256:
                del blocks[block]       # a hole before and after
    monkeypatch.setattr("target.server.api.differences.MAX_RANGES", piece)
    seen: dict[int, str] = {}
    at = 0
    while rows := await differences(daemon, "v@s", "v", offset_bytes=at, limit=7):
        for row in rows:
            assert row["offset_bytes"] >= at
            at = row["offset_bytes"] + row["length_bytes"]
            seen.update(dict.fromkeys(range(row["offset_bytes"] // 4096, at // 4096), row["content"]))
    assert seen == blocks


async def test_holds_survive_a_restart_and_follow_a_rename(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": 16 * MIB})
    await run("snapshot", {"names": ["v@s"]})
    for tag in ("backup", "send:1"):
        await run("hold", {"name": "v@s", "tag": tag})
    await run("rename", {"name": "v", "new_name": "w"})
    daemon = await reopen()
    for force in (False, True):
        with pytest.raises(LunetteError, match="w@s is held by backup, send:1") as refused:
            await daemon.commands.run("delete", {"names": ["w", "w@s"], "force": force})
        assert refused.value.code == "held"
    assert set(await listed(daemon)) == {"w", "w@s"}            # all of them or none
    await daemon.commands.run("release", {"name": "w@s", "tag": "send:1"})
    daemon = await reopen()
    assert daemon.stored_holds.tags(daemon.catalog.find("w@s").id) == ["backup"]
    await daemon.commands.run("release", {"name": "w@s", "tag": "backup"})
    assert (await daemon.commands.run("delete", {"names": ["w", "w@s"]})) is None
    assert not [key for key in daemon.pool.kv() if key.startswith("hold/")]


async def test_diff_and_scrub_walk_the_whole_pool(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": 64 * MIB, "checksum": True})
    await write(daemon, "v", 0, b"a" * MIB)
    await run("snapshot", {"names": ["v@s"]})
    await write(daemon, "v", 4096, b"b" * 8192)
    ranges = await differences(daemon, "v@s", "v")
    assert sum(row["length_bytes"] for row in ranges) == 8192
    assert ranges[0]["offset_bytes"] == 4096
    scrub = Scrub(daemon.pool)
    scrub.start(0)
    await scrub.over()
    status = scrub.status()
    assert (status["state"], status["objects_done"]) == ("clean", 2)
    assert MIB <= status["read_bytes"] <= MIB + 16384


async def test_a_pool_grows_while_it_is_open(reopen: Open) -> None:
    daemon = await reopen()
    before = daemon.pool.pool.size_bytes
    with pytest.raises(LunetteError, match="already"):
        await daemon.commands.run("grow", {"size_bytes": before})
    await daemon.commands.run("grow", {"size_bytes": 2 * before})
    assert daemon.pool.pool.size_bytes > before
    assert daemon.config.pool_path.stat().st_size == 2 * before
    daemon = await reopen()
    assert daemon.pool.pool.size_bytes > before


async def test_hundreds_of_each_come_and_go(reopen: Open) -> None:
    daemon = await reopen()
    run = daemon.commands.run
    await run("create", {"name": "v", "size_bytes": 64 * MIB})
    await write(daemon, "v", 0, b"a" * MIB)
    for number in range(300):
        await run("snapshot", {"names": [f"v@{number}"]})
        await run("clone", {"source": f"v@{number}", "name": f"c{number}"})
    daemon = await reopen()
    rows = await listed(daemon)
    assert len(rows) == 601
    assert len({row["lun"] for row in rows.values() if row["lun"] is not None}) == 301
    assert json.dumps(rows)
    for number in range(300):
        await daemon.commands.run("delete", {"names": [f"v@{number}", f"c{number}"]})
    assert set(await listed(daemon)) == {"v"}
    assert (await listed(daemon))["v"]["exclusive_bytes"] == MIB


async def test_copies_of_one_block_without_end(reopen: Open) -> None:
    """What dozens of EXTENDED COPY commands do that double one block: where it can be shared no more, it gets second copies."""
    daemon = await reopen()
    await daemon.commands.run("create", {"name": "v", "size_bytes": 1 << 30})
    info = daemon.catalog.find("v")
    medium = PoolBackend(daemon.pool, info)
    await medium.write(0, b"z" * 4096, False)
    done = 4096
    while done < info.size_bytes:
        await copy_range(medium, 0, medium, done, done)
        done *= 2
    assert daemon.pool.failure() == ""
    for offset in (0, (256 * MIB) - 4096, 256 * MIB, 600 * MIB, info.size_bytes - 4096):
        assert await read(daemon, "v", offset, 4096) == b"z" * 4096
    mapped = daemon.pool.stats()["used_bytes"]
    assert mapped < info.size_bytes                    # most of it is shared


async def test_the_ranges_of_an_unmap_are_one_operation_and_share_journal_frames(reopen: Open) -> None:
    daemon = await reopen()
    await daemon.commands.run("create", {"name": "v", "size_bytes": 4 * MIB})
    medium = PoolBackend(daemon.pool, daemon.catalog.find("v"))
    await medium.write(0, b"z" * MIB, False)
    before = daemon.pool.stats()["journal_frames"]
    await medium.unmap_ranges([(at, 4096) for at in range(0, MIB, 8192)], False)
    assert daemon.pool.stats()["journal_frames"] - before <= 4
    assert await read(daemon, "v", 0, 16384) == (bytes(4096) + b"z" * 4096) * 2
    with pytest.raises(BackendError):
        await medium.unmap_ranges([(0, 4096), (8 * MIB, 4096), (8192, 4096)], False)


async def test_a_pool_that_cannot_be_closed_is_an_error_of_one_line_and_its_medium_is_let_go() -> None:
    class Medium:
        closed = False

        def close(self) -> None:
            self.closed = True

    class Unclosable:
        def close(self) -> None:
            raise PoolError("io_write", "checkpoint failed: io write")

    daemon, medium = Daemon(ServeConfig(pool_path=Path("t.pool"))), Medium()
    daemon._pool, daemon._device = Unclosable(), medium  # type: ignore[assignment]
    with pytest.raises(LunetteError, match=r"t\.pool could not be closed: checkpoint failed.*the next start recovers"):
        await daemon._close()
    assert medium.closed


def save(daemon: Daemon, path: Path) -> None:
    """As docs/operations.md says, "A file that was deleted"."""
    held = f"/proc/{os.getpid()}/fd/{daemon._device.fileno()}"
    subprocess.run(["cp", "--sparse=always", held, path], check=True)


async def test_a_file_that_loses_its_name_is_told(reopen: Open, caplog: pytest.LogCaptureFixture) -> None:
    daemon = await reopen()
    path = daemon.config.pool_path
    saved = path.with_suffix(".saved")

    def told() -> str:
        caplog.clear()
        daemon.monitor.look()
        daemon.monitor.look()
        assert len(caplog.records) <= 1
        return caplog.text

    assert told() == ""
    path.rename(saved)
    assert "not where it was" in told()
    assert daemon.listing.pool()["lost_name"] == "moved"
    path.write_bytes(b"another")
    assert told() == ""
    saved.replace(path)
    assert "where it was again" in told()
    os.link(path, saved)
    path.unlink()
    assert "not where it was" in told()
    saved.unlink()
    assert "deleted" in told()
    assert daemon.listing.pool()["lost_name"] == "deleted"
    await daemon.commands.run("create", {"name": "v", "size_bytes": MIB})      # and all goes on
    save(daemon, path)              # it is checked at the end


async def test_a_file_that_is_cut_is_written_no_more(reopen: Open, caplog: pytest.LogCaptureFixture) -> None:
    daemon = await reopen()
    await daemon.commands.run("create", {"name": "v", "size_bytes": 64 * MIB})
    await write(daemon, "v", 0, b"a" * MIB)
    await daemon.pool.call("flush")
    path = daemon.config.pool_path
    size_bytes = path.stat().st_size
    os.truncate(path, size_bytes // 2)
    daemon.monitor.look()
    with pytest.raises(PoolError) as caught:
        await write(daemon, "v", 2 * MIB, b"b" * MIB)
    assert caught.value.code == "read_only"
    assert path.stat().st_size == size_bytes // 2      # and nobody has made it longer again
    pool = daemon.listing.pool()
    assert pool["failure"] == "its file or device was made shorter while it was served"
    assert pool["cut_off_bytes"] == size_bytes // 2
    assert "shorter" in caplog.text
    os.truncate(path, size_bytes)
