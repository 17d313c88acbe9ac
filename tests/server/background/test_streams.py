"""Streams between pools, and what may go wrong on either side: a snapshot appears whole or not at all, nothing else changes."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from target.errors import LunetteError
from target.server.background import receiving, sending
from target.volumes.gateway import PoolError
from target.volumes.replicas import EXPIRES_SECONDS, Rest
from tests.core.test_stream_frames import resealed
from tests.support.places import pool_directory
from tests.support.site import BLOCK, MIB, Site, frames
from tests.support.waiting import eventually


@pytest.fixture
async def sites(tmp_path: Path) -> AsyncIterator[list[Site]]:
    """Two pools, `v` in the first with v@1 and v@2."""
    with pool_directory(tmp_path) as place:
        async for made in two_sites(place):
            yield made


async def two_sites(place: Path) -> AsyncIterator[list[Site]]:
    made = [Site(place / name).open() for name in ("here", "there")]
    here = made[0]
    await here.create("v")
    await here.write("v", 0, random.Random(1).randbytes(5 * MIB))
    await here.scatter("v", 2)
    await here.snapshot("v@1")
    await here.scatter("v", 3)
    await here.snapshot("v@2")
    yield made
    for site in made:
        site.close(clean=False)


async def same(here: Site, name: str, there: Site, other: str) -> None:
    assert await here.read(name) == await there.read(other)


def crash_full(config: pytest.Config) -> bool:
    return bool(config.getoption("--crash-full", default=False) or os.environ.get("CRASH_FULL"))


def marked(stream: bytes) -> list[bytes]:
    """The frames of a stream with a MARK after each that says something: a place to go on from wherever it is cut."""
    from core.base.crc32c import crc32c
    from core.stream.frame import encode

    found: list[bytes] = []
    for each in frames(stream):
        number = int.from_bytes(each[8:16], "little")
        if each[6] == 7:
            break                                   # what comes is cut before its end
        found.append(resealed(each, sequence=len(found)))
        assert crc32c(found[-1][:60]) == int.from_bytes(found[-1][60:64], "little")
        if each[6] in (2, 3):
            end = int.from_bytes(each[24:32], "little") + int.from_bytes(each[32:40], "little")
            found.append(encode("mark", stream=number, sequence=len(found), offset=end))
    return found


async def test_a_stream_that_is_cut_after_any_frame_goes_on_there(sites: list[Site]) -> None:
    here, there = sites
    await there.receive("w", await here.send("v@1"))
    pieces = marked(await here.send("v@2", "v@1"))
    for count in range(1, len(pieces) + 1):
        error = await there.refused("w", b"".join(pieces[:count]))
        assert "ends before its end" in str(error)
        assert there.names() == {"w", "w@1"}
        await same(here, "v@1", there, "w")
        rows = there.receiving.status("w")
        marks = [int.from_bytes(each[24:32], "little") for each in pieces[:count] if each[6] == 4]
        assert [row["offset_bytes"] for row in rows] == marks[-1:]
        if count % 5 == 0 and rows:
            there.close(clean=False)                # what it has outlives a kill
            there.open()
            assert there.receiving.status("w") == rows
    (row,) = there.receiving.status("w")
    rest = await here.send("", resume=row["token"])
    assert len(rest) < 4096                         # all of it is there but the end
    await there.receive("w", rest)
    for name, other in (("v@1", "w@1"), ("v@2", "w@2"), ("v@2", "w")):
        await same(here, name, there, other)
    assert not there.receiving.status("w")
    assert not there.pool.hidden()


async def test_what_a_stream_makes_durable_is_no_command_of_an_initiator(sites: list[Site]) -> None:
    """Where that looks like one, a receive rests as it does beside initiators, and so takes twice the time."""
    here, there = sites
    flushed = there.native.stats()["requests"]
    await there.pool.call("flush")
    assert there.native.stats()["requests"] == flushed + 1        # of somebody who waits for it
    stream = await here.send("v@1")
    await there.refused("w", b"".join(marked(stream)[:8]))
    assert there.receiving.status("w")[0]["offset_bytes"]         # a MARK made it durable
    await there.receive("w", stream)                              # and its end
    assert there.native.stats()["requests"] == flushed + 1


async def test_a_stream_that_is_cut_anywhere_leaves_nothing_half(sites: list[Site], pytestconfig: pytest.Config) -> None:
    here, there = sites
    stream = await here.send("v@2", compress="zstd")
    for cut in random.Random(7).sample(range(len(stream)), 1000 if crash_full(pytestconfig) else 40):
        assert (await there.refused("w", stream[:cut])).code in ("invalid", "aborted")
        assert not there.names()
        assert all(row["offset_bytes"] <= cut * 100 for row in there.receiving.status("w"))
    await there.receive("w", stream)
    await same(here, "v@2", there, "w")


async def test_frames_that_are_lost_doubled_swapped_or_foreign_end_it(sites: list[Site]) -> None:
    here, there = sites
    pieces, others = frames(await here.send("v@1")), frames(await here.send("v@1"))
    hurt = {}
    for number in range(len(pieces)):
        before, each, after = pieces[:number], pieces[number], pieces[number + 1:]
        hurt[f"dropped {number}"] = [*before, *after]
        hurt[f"doubled {number}"] = [*before, each, each, *after]
        hurt[f"foreign {number}"] = [*before, others[number], *after]
        for at in (0, 5, 6, 7, 9, 17, 25, 33, 41, 45, 49, 53, 57, 61):
            hurt[f"byte {at} of {number}"] = [*before, bytes([*each[:at], each[at] ^ 4, *each[at + 1:]]), *after]
    for one, two in itertools.pairwise(range(len(pieces))):
        hurt[f"swapped {one}"] = [*pieces[:one], pieces[two], pieces[one], *pieces[two + 1:]]
    hurt["newer"] = [resealed(pieces[0], version=2), *pieces[1:]]
    hurt["beyond"] = [pieces[0], resealed(pieces[1], offset=1 << 40), *pieces[2:]]
    bomb = resealed(pieces[1], flags=3, stored_bytes=64, raw_bytes=2 * MIB)
    hurt["bomb"] = [pieces[0], bomb[:128], *pieces[2:]]
    for what, given in hurt.items():
        if what == f"doubled {len(pieces) - 1}":
            continue                                # what follows the end is not read
        error = await there.refused("w", b"".join(given))
        assert error.code in (("newer",) if what == "newer" else ("invalid", "aborted")), what
        assert not there.names(), what
    await there.receive("w", b"".join(pieces))
    await same(here, "v@1", there, "w")


async def test_the_base_is_renamed_reverted_resized_or_deleted_before_between_and_meanwhile(sites: list[Site]) -> None:
    here, there = sites
    await there.receive("w", await here.send("v@1"))
    changes = await here.send("v@2", "v@1")
    part = b"".join(marked(changes)[:9])

    async def rename() -> None:
        for name, new in (("w@1", "x@first"), ("w", "x")):
            await there.pool.call("rename", object_id=there.info(name).id, name=new)

    assert "ends before" in str(await there.refused("w", part))
    (row,) = there.receiving.status("w")
    await rename()
    assert there.receiving.status("x") == [{**row, "name": "x@2"}]
    assert not there.receiving.status("w")
    await there.pool.call("resize", object_id=there.info("x").id, size_bytes=20 * MIB)
    await there.delete("x@first")                   # what was received of it does not need it any more
    done = await there.receive("x", await here.send("", resume=row["token"]))
    assert "stays as it is" in done["note"]
    assert there.info("x").size_bytes == 20 * MIB
    await same(here, "v@2", there, "x@2")
    assert (await there.refused("x", changes)).code == "exists"
    await here.scatter("v", 9)
    await here.snapshot("v@3")
    await there.pool.call("revert", volume_id=there.info("x").id, snapshot_id=there.info("x@2").id, safety_name="")
    assert (await there.receive("x", await here.send("v@3", "v@2")))["note"] is None      # reverted: as if nobody had written
    await same(here, "v@3", there, "x")
    assert (await there.refused("x", await here.send("v@3", "v@1"))).code == "exists"
    await here.snapshot("v@4")
    error = await there.refused("x", await here.send("v@4", "v@1"))
    assert error.code == "not_found"
    assert "has not the snapshot" in str(error)


async def test_the_volume_goes_while_it_is_received(sites: list[Site]) -> None:
    here, there = sites
    await there.receive("w", await here.send("v@1"))
    assert "ends before" in str(await there.refused("w", b"".join(marked(await here.send("v@2", "v@1"))[:9])))
    (row,) = there.receiving.status("w")
    for name in ("w@1", "w"):
        await there.delete(name)
    rest = await here.send("", resume=row["token"])
    assert (await there.refused("w", rest)).code == "gone"
    assert await there.receiving.abort("w") == ["w@2"]
    assert not there.pool.hidden()


async def test_what_is_sent_is_held_and_what_is_gone_is_told(sites: list[Site], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = sites
    start, plain = here.pool.start, sending.Sink.plain
    held: list[list[str]] = []
    said: list[str] = []

    async def slow(**args: Any) -> Any:
        held.append([tag for name in ("v@1", "v@2") for tag in here.holds.tags(here.info(name).id)])
        with pytest.raises(LunetteError, match="is held by send:"):
            await here.delete("v@1")
        before = len(said)                      # a walk that takes long: the other end hears that there is nothing yet
        await eventually(lambda: len(said) > before)
        return await start("changes", **args)

    async def heard(self: sending.Sink, type_: str, payload: bytes = b"") -> None:
        said.append(type_)
        await plain(self, type_, payload)

    monkeypatch.setattr(here.pool, "start",
                        lambda op, **args: asyncio.ensure_future(slow(**args)) if op == "changes" else start(op, **args))
    monkeypatch.setattr(sending.Sink, "plain", heard)
    monkeypatch.setattr(sending, "QUIET_SECONDS", 0.01)
    stream = await here.send("v@2", "v@1")
    assert held
    assert all(len(each) == 2 for each in held)
    assert any(each[6] == 5 for each in frames(stream))
    assert not [tag for each in here.pool.objects() for tag in here.holds.tags(each.id)]
    await there.receive("w", await here.send("v@1"))
    await there.receive("w", stream)
    await same(here, "v@2", there, "w")
    guid, base = (here.replicas.guid(here.info(name)) for name in ("v@2", "v@1"))
    monkeypatch.undo()
    await here.delete("v@1")
    for token, code in ((Rest(guid, base, 0).token, "gone"), (Rest("0" * 32, "", 0).token, "gone"),
                        (Rest(guid, "", 1 << 40).token, "invalid"), (Rest(guid, "", 1).token, "invalid"),
                        (Rest(guid, "x", 0).token, "invalid"), ("x" * 50, "invalid")):
        with pytest.raises(LunetteError) as error:
            await here.send("", resume=token)
        assert error.value.code == code
    forged = await here.send("", resume=Rest(guid, "", 4 * MIB).token)
    assert "of which nothing is here" in str(await there.refused("y", forged))


async def test_from_one_to_the_other_and_back_again(sites: list[Site]) -> None:
    here, there = sites
    await there.receive("w", await here.send("v@2", intermediates=True))
    assert there.names() == {"w", "w@1", "w@2"}
    for turn in range(3):
        source, target, name, other = (there, here, "w", "v") if turn % 2 == 0 else (here, there, "v", "w")
        await source.scatter(name, 20 + turn)
        await source.snapshot(f"{name}@turn{turn}")
        last = "2" if turn == 0 else f"turn{turn - 1}"
        done = await target.receive(other, await source.send(f"{name}@turn{turn}", f"{name}@{last}"))
        assert done["note"] is None
        await same(source, name, target, other)
    guids = [{site.replicas.guid(each) for each in site.pool.objects() if each.kind == "snapshot"} for site in sites]
    assert guids[0] == guids[1]


async def test_a_copied_pool_is_a_replica_like_any_other(sites: list[Site]) -> None:
    here, there = sites
    await here.pool.call("flush")
    copy = here.copy(there.path.with_name(there.path.name + "-copy")).open()
    try:
        await here.scatter("v", 30)
        await here.snapshot("v@3")
        await copy.scatter("v", 31)
        await copy.snapshot("v@other")
        mine = await copy.read("v")
        done = await copy.receive("v", await here.send("v@3", "v@2"))
        assert "stays as it is" in done["note"]
        await same(here, "v@3", copy, "v@3")
        assert await copy.read("v") == await copy.read("v@other") == mine
        error = await there.refused("w", await copy.send("v@other", "v@2"))
        assert error.code == "not_found"
    finally:
        copy.close(clean=False)
        copy.path.unlink()


async def test_two_streams_to_one_volume_and_one_that_is_let_go_of(sites: list[Site]) -> None:
    here, there = sites
    stream = await here.send("v@1")
    r, w = os.pipe()
    first = asyncio.ensure_future(there.receiving.receive("w", r))
    os.write(w, stream[:40000])
    await asyncio.sleep(0)
    assert (await there.refused("w", stream)).code == "busy"
    with pytest.raises(LunetteError, match="is being received"):
        await there.receiving.abort("w")
    await there.receive("other", stream)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    os.close(r)
    os.close(w)
    assert there.names() == {"other", "other@1"}
    assert not there.pool.hidden()                  # there was no mark: nothing of it was sure
    await there.receive("w", stream)
    await same(here, "v@1", there, "w")


async def test_a_full_pool_ends_it_and_it_goes_on_when_there_is_room(sites: list[Site]) -> None:
    here, there = sites
    await here.create("big", 80 * MIB)
    for at in range(0, 80, 4):
        await here.write("big", at * MIB, random.Random(at).randbytes(4 * MIB))
    await here.snapshot("big@1")
    await there.create("filler", 64 * MIB)
    await there.write("filler", 0, b"f" * 32 * MIB)
    stream = await here.send("big@1")
    error = await there.refused("w", b"".join(marked(stream)))
    assert error.code == "no_space"
    (row,) = there.receiving.status("w")
    assert row["offset_bytes"] > 8 * MIB
    await there.delete("filler")
    await there.receive("w", await here.send("", resume=row["token"]))
    await same(here, "big@1", there, "w")


async def test_a_volume_with_a_quota_follows_as_far_as_that_lets_it(sites: list[Site]) -> None:
    here, there = sites
    await there.receive("w", await here.send("v@1"))
    await there.pool.call("set", object_id=there.info("w").id, quota_bytes=there.info("w").mapped_bytes + 8 * BLOCK)
    await here.write("v", 8 * MIB, random.Random(3).randbytes(4 * MIB))
    await here.snapshot("v@3")
    await there.receive("w", await here.send("v@3", "v@1"))
    await same(here, "v@3", there, "w@3")
    with pytest.raises(PoolError) as error:         # it has more than its quota now, and gets no more
        await there.write("w", 14 * MIB, b"n" * 64 * BLOCK)
    assert error.value.code == "no_space"


async def test_a_pool_that_is_read_only_sends_and_receives_nothing(sites: list[Site]) -> None:
    here, there = sites
    stream = await here.send("v@1")
    for site in sites:
        site.pool.fail_cut()
        assert site.pool.failure()
    again = await here.send("v@1")                  # data must be got away from a pool that fails
    assert len(again) == len(stream)
    error = await there.refused("w", stream)
    assert error.code == "read_only"
    assert not there.names()


@pytest.mark.parametrize("beside", [False, True])
async def test_what_cannot_be_read_is_told_to_the_other_end(sites: list[Site], beside: bool) -> None:
    here, there = sites
    await here.create("sure", 8 * MIB, checksum=True)
    content = random.Random(5).randbytes(MIB)
    await here.write("sure", 2 * MIB, content)
    await here.snapshot("sure@1")
    await here.pool.call("flush")
    raw = here.path.read_bytes()
    at = raw.index(content[300 * BLOCK // 2:300 * BLOCK // 2 + BLOCK]) if content[:BLOCK] in raw else -1
    assert at >= 0
    with here.path.open("r+b") as file:
        file.seek(at)
        file.write(b"rotten")

    async def ask() -> None:
        while True:                                 # as initiators do: then it goes in small batches, some of which are sound
            await here.pool.call("flush")

    asking = [asyncio.ensure_future(ask())] if beside else []
    with pytest.raises(LunetteError) as error:
        await here.send("sure@1")
    for each in asking:
        each.cancel()
    assert error.value.code == "checksum"
    stream: bytes = error.value.stream              # type: ignore[attr-defined]
    told = await there.refused("w", stream)
    assert "the sender gave up" in str(told)
    assert "cannot be read" in str(told)
    assert not there.names()
    assert not here.holds.tags(here.info("sure@1").id)


async def test_what_nobody_goes_on_with_expires(sites: list[Site], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = sites
    monkeypatch.setattr(receiving, "LOOK_SECONDS", 0.01)
    assert "ends before" in str(await there.refused("w", b"".join(marked(await here.send("v@1"))[:9])))
    assert len(there.pool.hidden()) == len(there.receiving.status("w")) == 1
    there.receiving.start()
    there.now_s += EXPIRES_SECONDS - 1
    await asyncio.sleep(0.05)
    assert there.receiving.status("w")
    there.now_s += 2
    await eventually(lambda: not there.pool.hidden())
    assert not there.receiving.status("w")
    there.receiving.stop()


async def test_a_limit_is_waited_for(sites: list[Site]) -> None:
    here, _ = sites
    for name, since, limit_bytes in (("v@1", None, 16 * MIB), ("v@2", "v@1", MIB)):
        began = time.monotonic()
        stream = await here.send(name, since, limit_bytes=limit_bytes)
        assert time.monotonic() - began >= 0.9 * len(stream) / limit_bytes
