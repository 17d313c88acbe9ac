"""Scrub and `pool check --data` find bits that were turned in the pool's file: under an open pool, and in a closed one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import layout
from core.base.crc32c import crc32c
from target.server.background.scrub import POOL, Scrub
from target.volumes.gateway import AsyncPool, check_pool, create_pool, open_pool
from tests.support.places import pool_directory
from tests.support.pumped_pool import PumpedPool

BLOCK = layout.BLOCK_BYTES
MIB = 1 << 20
KIND_OF = {number: name for name, number in layout.PAGE_KINDS.items()}
PART_OF = {"node": {"map", "catalog"}, "catalog": {"catalog"}, "count": {"count"}, "csum": {"checksum"}, "summary": {"summary"}}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A pool with maps of two levels that share nodes, checksums and keys, all checkpointed and closed."""
    with pool_directory(tmp_path) as place:
        made = place / "t.pool"
        create_pool(made, name="t", size_bytes=256 * MIB)
        pool, device = open_pool(made, cache_bytes=64 * MIB)
        volume = pool.call("create", name="v", size_bytes=64 * MIB, checksum=True)
        for at in (0, 40 * MIB):
            pool.call("write", object_id=volume, offset_bytes=at, data=os.urandom(256 << 10))
        pool.call("snapshot", pairs=[(volume, "v@s")])
        pool.call("write", object_id=volume, offset_bytes=8192, data=os.urandom(BLOCK))
        plain = pool.call("create", name="plain", size_bytes=64 * MIB)
        pool.call("write", object_id=plain, offset_bytes=0, data=os.urandom(128 << 10))
        pool.call("kv", changes={"key": b"value" * 500})
        pool.close()
        device.close()
        yield made


def pages(path: Path) -> dict[int, str]:
    """Every block of the file that looks like a page of metadata, by kind; images of the checkpoint area under `area`."""
    raw = path.read_bytes()
    found = {}
    for at in range(0, len(raw), BLOCK):
        if raw[at:at + 4] == layout.PAGE_MAGIC.to_bytes(4, "little"):
            kind = KIND_OF[raw[at + 8]]
            home = int.from_bytes(raw[at + 16:at + 24], "little")
            found[at // BLOCK] = kind if home == at // BLOCK else "area"
    return found


def flip(path: Path, offset_bytes: int, bit: int = 3) -> None:
    with path.open("r+b") as file:
        file.seek(offset_bytes)
        was = file.read(1)[0]
        file.seek(offset_bytes)
        file.write(bytes([was ^ 1 << bit]))


async def scrubbed(pool: Any, rate_bytes: int = 0) -> dict[str, Any]:
    door = AsyncPool(PumpedPool(pool))
    door.attach()
    try:
        scrub = Scrub(door)
        scrub.start(rate_bytes)
        await scrub.over()
        return scrub.status()
    finally:
        door.detach()


async def test_flips_in_pages_that_are_in_memory_are_named(path: Path) -> None:
    """Byte 20 lies in the header, 1000 in the payload. Everything is in the cache when the file is damaged."""
    before = pages(path)
    assert set(before.values()) >= {"node", "catalog", "count", "csum", "summary"}
    pool, device = open_pool(path, cache_bytes=64 * MIB)
    try:
        first = await scrubbed(pool)
        assert (first["state"], first["damaged"]) == ("clean", [])
        assert first["metadata_pages"] >= 2 + sum(kind != "area" for kind in before.values())
        misses = pool.stats()["cache_misses"]
        for block, kind in before.items():
            if kind == "area":
                continue
            for byte in (0, 5, 20, 1000):
                flip(path, block * BLOCK + byte)
                status = await scrubbed(pool)
                rows = [row for row in status["damaged"] if row.get("block") == block]
                assert status["damaged"] == rows != [], (kind, byte, status)
                assert {row["part"] for row in rows} <= PART_OF[kind]
                assert (rows[0]["name"] == POOL) == (rows[0]["part"] != "map")
                flip(path, block * BLOCK + byte)
        assert pool.stats()["cache_misses"] == misses, "pages were not in memory: this test does not test what it says"
        assert (await scrubbed(pool))["state"] == "clean"
    finally:
        pool.close()
        device.close()


async def test_flips_in_checksum_pages_that_nobody_has_read_are_named(path: Path) -> None:
    """What a page says of itself is enough: nothing in memory tells that it was ever written."""
    before = [block for block, kind in pages(path).items() if kind == "csum"]
    assert before
    pool, device = open_pool(path, cache_bytes=64 * MIB)
    for block in before:
        for byte in (0, 5, 8, 12, 16, 24, 1000):
            flip(path, block * BLOCK + byte)
            assert {row["block"] for row in (await scrubbed(pool))["damaged"] if "block" in row} == {block}, byte
            flip(path, block * BLOCK + byte)
    pool.close()
    device.close()


FIELDS = {each.name: each for each in layout.PAGE_HEADER}


@pytest.mark.parametrize("name", ["kind", "level", "tag", "home", "gen"])
async def test_a_sound_page_that_belongs_elsewhere_is_named(path: Path, name: str) -> None:
    """Its checksum is right: one of another kind, level, pool, place or time. (Checksum pages: docs/on-disk-format.md.)"""
    before = {block: kind for block, kind in pages(path).items() if kind not in ("area", "csum")}
    pool, device = open_pool(path, cache_bytes=64 * MIB)
    await scrubbed(pool)
    field, crc = FIELDS[name], FIELDS["crc"]
    for block, kind in before.items():
        if name == "level" and kind not in ("node", "catalog"):
            continue
        page = bytearray(device.read(block * BLOCK, BLOCK))
        was = bytes(page)
        page[field.offset + field.size - 1 if name == "gen" else field.offset] ^= 1
        page[crc.offset:crc.offset + 4] = crc32c(page[crc.offset + 4:]).to_bytes(4, "little")
        device.write(block * BLOCK, bytes(page))
        assert {row.get("block") for row in (await scrubbed(pool))["damaged"]} == {block}, kind
        device.write(block * BLOCK, was)
    pool.close()
    device.close()


@pytest.mark.parametrize("copy", layout.SUPERBLOCK_SLOTS)
async def test_flips_in_either_superblock(path: Path, copy: int) -> None:
    pool, device = open_pool(path, cache_bytes=MIB)
    flip(path, copy * BLOCK + 100)
    rows = (await scrubbed(pool))["damaged"]
    assert [(row["part"], row["block"]) for row in rows] == [("superblock", copy)]
    pool.close()
    device.close()


async def test_flips_in_the_checkpoint_area(path: Path) -> None:
    """Recovery would write these images home: rot there is damage before it is needed."""
    pool, device = open_pool(path, cache_bytes=MIB)
    found = set()
    for block in [block for block, kind in pages(path).items() if kind == "area"]:
        flip(path, block * BLOCK + 30)
        found |= {row["block"] for row in (await scrubbed(pool))["damaged"] if row.get("part") == "checkpoint area"}
        flip(path, block * BLOCK + 30)
    at = next(each.offset for each in layout.SUPERBLOCK if each.name == "area_images")
    images = int.from_bytes(device.read(0, BLOCK)[at:at + 4], "little")
    assert 0 < images < len(found)
    pool.close()
    device.close()


async def test_a_map_page_names_the_range_behind_it(path: Path) -> None:
    pool, device = open_pool(path, cache_bytes=64 * MIB)
    await scrubbed(pool)
    hit = {}
    for block in [block for block, kind in pages(path).items() if kind == "node"]:
        flip(path, block * BLOCK + 200)
        for row in (await scrubbed(pool))["damaged"]:
            if row["part"] == "map":
                hit[row["name"], row["offset_bytes"], row["length_bytes"]] = block
        flip(path, block * BLOCK + 200)
    assert {("v", 40 * MIB, 2 * MIB), ("v", 0, 2 * MIB), ("plain", 0, 2 * MIB), ("v@s", 0, 2 * MIB)} <= set(hit)
    assert ("v@s", 40 * MIB, 2 * MIB) not in hit       # shared: verified once
    pool.close()
    device.close()


def block_of(path: Path, data: bytes) -> int:
    at = path.read_bytes().find(data)
    assert at > 0
    assert at % BLOCK == 0
    return at


async def test_flips_in_data_are_found_open_and_closed(path: Path) -> None:
    pool, device = open_pool(path, cache_bytes=64 * MIB)
    volume, plain = pool.lookup("v").id, pool.lookup("plain").id
    places = [block_of(path, pool.call("read", object_id=volume, offset_bytes=at, length_bytes=BLOCK))
              for at in (40 * MIB + 12288, 40 * MIB + 16384, 8192)]
    unsummed = block_of(path, pool.call("read", object_id=plain, offset_bytes=0, length_bytes=BLOCK))
    assert (await scrubbed(pool))["state"] == "clean"
    for at in [*places, unsummed]:
        flip(path, at + 77)
    rows = [(row["name"], row["offset_bytes"], row["length_bytes"], row["code"]) for row in (await scrubbed(pool))["damaged"]]
    assert rows == [("v", 8192, BLOCK, "checksum"), ("v", 40 * MIB + 12288, 2 * BLOCK, "checksum")]
    pool.close()
    device.close()
    assert check_pool(path)[0], "without --data only metadata is verified"
    clean, errors, summary = check_pool(path, data=True)
    assert not clean
    assert [error.split(": ")[1] for error in errors] == [
        "4K of data from 8K on fail their checksums",
        "8K of data from 40.0M on fail their checksums"]
    assert "verified blocks" in summary
    for at in places:
        flip(path, at + 77)
    assert check_pool(path, data=True)[0]


async def test_scrub_beside_writes_and_checkpoints_finds_nothing(path: Path) -> None:
    """Pages change, move and are written home while they are looked at: never damage."""
    pool, device = open_pool(path, cache_bytes=MIB)
    door = AsyncPool(PumpedPool(pool))
    door.attach()
    scrub = Scrub(door)
    volume = pool.lookup("v").id
    for turn in range(12):
        scrub.start(0)
        while scrub.status()["state"] == "running":
            await door.call("write", object_id=volume, offset_bytes=(turn * 37 % 60) * MIB, data=os.urandom(32 << 10))
            snapshot, = await door.call("snapshot", pairs=[(volume, "v@live")])
            waiting = door.start("checkpoint")
            await door.call("delete", object_id=snapshot)
            await waiting
        assert scrub.status()["state"] == "clean", scrub.status()
    door.detach()
    pool.close()
    device.close()
    assert check_pool(path, data=True)[0]


async def test_the_rate_bounds_metadata_too(path: Path) -> None:
    pool, device = open_pool(path, cache_bytes=MIB)
    status = await scrubbed(pool, rate_bytes=4 * MIB)
    read = status["read_bytes"] + status["metadata_pages"] * BLOCK
    assert status["finished_s"] - status["started_s"] > 0.8 * read / (4 * MIB)
    pool.close()
    device.close()
