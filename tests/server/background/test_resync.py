"""`receive --resync`: a whole stream into a volume that has nothing in common with it; only what differs is written."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.stream.frame import encode
from tests.support.site import BLOCK, MIB, Site, frames

SIZE = 16 * MIB


@pytest.fixture
async def sites() -> AsyncIterator[list[Site]]:
    """Two pools that have a volume `v` of the same contents, but for what is scattered, and no snapshot in common."""
    place = f"/dev/shm/lunette-resync-{os.getpid()}"
    made = [Site(Path(f"{place}-{name}"), size_bytes=192 * MIB).open() for name in ("here", "there")]
    for number, site in enumerate(made):
        await site.create("v", SIZE)
        await site.write("v", 0, random.Random(1).randbytes(5 * MIB))
        await site.scatter("v", number, 60)
        await site.snapshot("v@1" if number == 0 else "v@old")
    yield made
    for site in made:
        site.close(clean=False)
        site.path.unlink()


def kept(site: Site) -> list[str]:
    return sorted(each for each in site.names() if each.startswith("v@before-resync-"))


async def test_the_volume_becomes_a_replica_and_shares_what_did_not_differ(sites: list[Site]) -> None:
    here, there = sites
    held = await there.read("v")
    stream = await here.send("v@1")
    error = await there.refused("v", stream)
    assert (error.code, "--resync" in str(error)) == ("exists", True)
    assert not kept(there)
    free = there.pool.stats()["free_bytes"]
    await there.receive("v", stream, resync=True)
    wanted = await here.read("v@1")
    assert await there.read("v") == await there.read("v@1") == wanted
    (before,) = kept(there)
    assert await there.read(before) == await there.read("v@old") == held
    differing = sum(held[at:at + BLOCK] != wanted[at:at + BLOCK] for at in range(0, SIZE, BLOCK))
    assert 0 < free - there.pool.stats()["free_bytes"] < differing * BLOCK + 96 * BLOCK < 3 * MIB
    await here.scatter("v", 9)
    await here.snapshot("v@2")
    await there.receive("v", await here.send("v@2", "v@1"))         # from now on as ever
    assert await there.read("v") == await here.read("v@2")


@pytest.mark.parametrize("size", [12 * MIB, 20 * MIB])
async def test_sizes_may_differ_and_holes_of_the_sender_become_holes(sites: list[Site], size: int) -> None:
    here, there = sites
    await here.pool.call("resize", object_id=here.info("v").id, size_bytes=size)
    await here.pool.call("unmap", object_id=here.info("v").id, offset_bytes=MIB, length_bytes=3 * MIB)
    await here.snapshot("v@2")
    await there.write("v", 10 * MIB, b"x" * MIB)
    await there.receive("v", await here.send("v@2"), resync=True)
    assert await there.read("v") == await here.read("v@2")
    assert there.info("v").size_bytes == size
    assert there.info("v").mapped_bytes <= here.info("v@2").mapped_bytes + 64 * BLOCK


async def test_it_goes_on_where_it_was_cut_and_writes_the_volume_holds_back(sites: list[Site]) -> None:
    here, there = sites
    await here.write("v", 0, random.Random(5).randbytes(15 * MIB))
    await here.snapshot("v@2")
    pieces = frames(await here.send("v@2"))
    number = int.from_bytes(pieces[0][8:16], "little")
    cut = [*pieces[:4], encode("mark", stream=number, sequence=4, offset=6 * MIB)]
    assert int.from_bytes(pieces[3][24:32], "little") + int.from_bytes(pieces[3][32:40], "little") == 6 * MIB
    assert "ends before its end" in str(await there.refused("v", b"".join(cut), resync=True))
    (row,) = there.receiving.status("v")
    assert row["offset_bytes"] == 6 * MIB
    await there.receive("v", await here.send("", resume=row["token"]), resync=True)
    assert await there.read("v@2") == await there.read("v") == await here.read("v@2")
    assert len(kept(there)) == 1
    await there.write("v", 0, b"mine" * 1024)                      # a second time, and what was written meanwhile stays
    await here.write("v", 5 * MIB, b"z" * BLOCK)
    await here.snapshot("v@3")
    broken = frames(await here.send("v@3"))[:3]
    await there.refused("v", b"".join(broken), resync=True)
    await there.refused("v", b"".join(broken), resync=True)         # what was kept once is kept
    assert len(kept(there)) == 2
    assert not there.pool.hidden()
    assert (await there.read("v"))[:4096] == b"mine" * 1024


async def test_without_a_volume_it_is_a_whole_receive_and_a_difference_needs_its_base(sites: list[Site]) -> None:
    here, there = sites
    await there.receive("w", await here.send("v@1"), resync=True)
    assert await there.read("w") == await here.read("v@1")
    await here.scatter("v", 4)
    await here.snapshot("v@2")
    error = await there.refused("v", await here.send("v@2", "v@1"), resync=True)
    assert error.code == "not_found"
    assert not kept(there)
    await here.create("s", SIZE, block_bytes=4096)
    await here.snapshot("s@1")
    assert "blocks of v have 512" in str(await there.refused("v", await here.send("s@1"), resync=True))
    assert not kept(there)
