"""Faults that lives do not see within their seeds: a mutation each, and the sequence that shows it (docs/crash-tests.md)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from core import layout
from core.base.crc32c import crc32c
from core.errors import PoolError
from tests.crash.rig import BLOCK, Config, format_disk, open_pool
from tests.support.simdisk import SimDisk

LEAF = 2 << 20
V = 1


class Fault(AssertionError):
    """What must not be, is."""


def opened(mutation: str, disk: SimDisk | None = None, *, checksum: bool = False, **config: Any) -> tuple[SimDisk, Any]:
    """A pool, new with one volume of 64 MiB unless a medium is given."""
    settings = Config(mutations=mutation, **{"size_bytes": 64 << 20, "cache_bytes": 0, **config})
    fresh = disk is None
    disk = disk or format_disk(settings)
    pool = open_pool(disk, settings)
    if fresh:
        pool.call("create", name="v", size_bytes=64 << 20, checksum=checksum)
    return disk, pool


def want(holds: bool, what: str) -> None:
    if not holds:
        raise Fault(what)


def node_that_waits(mutation: str) -> None:
    """A deleted volume's root, which a checkpoint's pending list names, is worked off after a crash as the node that it is."""
    disk, pool = opened(mutation)
    for leaf in range(4):
        pool.call("write", object_id=V, offset_bytes=leaf * LEAF, data=b"x" * BLOCK)
    pool.call("checkpoint")
    free = pool.stats()["free_bytes"]
    pool.start("delete", object_id=V)
    done = pool.start("checkpoint")
    while done not in [each.token for each in pool.reap()]:
        pool.turn(1)                  # no time passes, so nothing is committed but what the checkpoint needs
        for io_id, *_ in pool.pending_io():
            pool.perform(io_id)
    pool.abandon()
    disk.power_cut("none")
    disk, pool = opened(mutation, disk)
    pool.drain()
    want(pool.stats()["damage_met"] == 0 and pool.stats()["set_aside_bytes"] == 0, "what is sound is taken for damage")
    want(pool.stats()["free_bytes"] >= free, "the space of what was deleted does not come back")


def unmapped_to_the_end(mutation: str) -> None:
    """UNMAP and a flush, a loss of power: all of the range reads as zeros."""
    disk, pool = opened(mutation)
    pool.call("write", object_id=V, offset_bytes=0, data=b"x" * (8 * BLOCK))
    pool.call("flush")
    pool.call("checkpoint")
    pool.call("unmap", object_id=V, offset_bytes=2 * BLOCK, length_bytes=4 * BLOCK)
    pool.call("flush")
    pool.abandon()
    disk.power_cut("none")
    _, pool = opened(mutation, disk)
    want(pool.call("read", object_id=V, offset_bytes=0, length_bytes=8 * BLOCK)
         == b"x" * (2 * BLOCK) + bytes(4 * BLOCK) + b"x" * (2 * BLOCK), "what was unmapped is there again")


def atomic_elsewhere(mutation: str) -> None:
    """Checksums cannot be kept where an atomic write has taken blocks: it goes elsewhere, as any write does."""
    disk, pool = opened(mutation, checksum=True)
    pool.call("write", object_id=V, offset_bytes=0, data=b"x" * BLOCK)
    pool.close()
    for block in range(layout.CSUM_START, layout.CSUM_START + 20):
        if disk.view.get(block):
            disk.fail("read", forever=True, within=(block * BLOCK, (block + 1) * BLOCK))
    _, pool = opened(mutation, disk)
    try:
        pool.call("write_atomic", object_id=V, offset_bytes=4 * BLOCK, data=b"y" * (4 * BLOCK))
    except PoolError as error:
        raise Fault(f"an atomic write is refused where another is not: {error}") from error
    want(pool.call("read", object_id=V, offset_bytes=4 * BLOCK, length_bytes=4 * BLOCK) == b"y" * (4 * BLOCK), "other data")


def copy_of_one_instant(mutation: str) -> None:
    """A write in place to the source is under way: the copy is answered when that can change it no more."""
    _, pool = opened(mutation)
    pool.call("write", object_id=V, offset_bytes=0, data=b"a" * BLOCK)
    pool.call("flush")
    pool.start("write", object_id=V, offset_bytes=0, data=b"b" * BLOCK)
    pool.turn()
    held = {io_id for io_id, kind, *_ in pool.pending_io() if kind == "write"}
    want(len(held) == 1, "one write is under way")
    copied = pool.start("share", dst_id=V, dst_offset_bytes=LEAF, src_id=V, src_offset_bytes=0, length_bytes=BLOCK)
    for _ in range(30):
        pool.turn()
        for io_id, *_ in pool.pending_io():
            if io_id not in held:
                pool.perform(io_id)
        want(copied not in [each.token for each in pool.reap()], "a copy is answered that may still change")


def hole_stays(mutation: str) -> None:
    _, pool = opened(mutation)
    pool.call("unmap", object_id=V, offset_bytes=512, length_bytes=512)
    want(pool.info(V).mapped_bytes == 0, "UNMAP of a part of a hole takes space")


def record_within_a_leaf(mutation: str) -> None:
    """A frame with a sound checksum whose record reaches over the end of a leaf is refused, as no engine has written it."""
    disk, pool = opened(mutation)
    pool.call("write", object_id=V, offset_bytes=0, data=b"x" * (8 * BLOCK))
    pool.call("flush")
    pool.abandon()
    for block, page in list(disk.view.items()):
        if page[:4] != layout.FRAME_MAGIC.to_bytes(4, "little") or page[layout.FRAME_HEADER_BYTES] != layout.RECORD_TYPES["map"]:
            continue
        frame = bytearray(page)
        length = int.from_bytes(frame[48:52], "little")
        frame[layout.FRAME_HEADER_BYTES + 16:layout.FRAME_HEADER_BYTES + 24] = (508).to_bytes(8, "little")
        frame[4:8] = crc32c(bytes(frame[8:length])).to_bytes(4, "little")
        disk.view[block] = bytes(frame)
    try:
        _, pool = opened(mutation, disk)
    except PoolError as error:
        want(error.code == "damaged", error.code)
        return
    raise Fault("a record that cannot be is replayed")


def first_bad_block(mutation: str) -> None:
    """A read whose sixth block has rotted says that it is the sixth."""
    disk, pool = opened(mutation, checksum=True)
    pool.call("write", object_id=V, offset_bytes=0, data=b"".join(bytes([65 + i]) * BLOCK for i in range(8)))
    pool.close()
    disk.flip(next(block for block, page in disk.view.items() if page == b"F" * BLOCK) * BLOCK + 7, 1)
    _, pool = opened(mutation, disk)
    with pytest.raises(PoolError) as caught:
        pool.call("read", object_id=V, offset_bytes=0, length_bytes=8 * BLOCK)
    want((caught.value.code, caught.value.value) == ("checksum", 5 * BLOCK), "another block is blamed")


def nodes_of_an_atomic_write(mutation: str) -> None:
    """An atomic write of 256 pieces where there is space for its data, but not surely for its nodes: refused as a whole."""
    _, pool = opened(mutation, size_bytes=40 << 20)
    for block in range(0, 64, 2):
        pool.call("write", object_id=V, offset_bytes=block * BLOCK, data=b"a" * BLOCK)
    for done in (64, 128):            # holes and shared blocks in turn, each a piece of its own
        pool.call("share", dst_id=V, dst_offset_bytes=done * BLOCK, src_id=V, src_offset_bytes=0, length_bytes=done * BLOCK)
    pool.call("checkpoint")
    pool.drain()
    at = 8 * LEAF
    for length in (64, 8):
        while pool.stats()["available_bytes"] > (272 + length) * BLOCK:
            pool.call("write", object_id=V, offset_bytes=at, data=b"f" * (length * BLOCK))
            at += length * BLOCK
    try:
        pool.call("write_atomic", object_id=V, offset_bytes=0, data=b"b" * (256 * BLOCK))
    except PoolError as error:
        want(error.code == "no_space", error.code)
        want(pool.call("read", object_id=V, offset_bytes=0, length_bytes=BLOCK) == b"a" * BLOCK, "a part was written")
        return
    raise Fault("it was not asked whether there is space for all of it")


def scrubbed_beside_a_checkpoint(mutation: str) -> None:
    """A page that was torn when scrub read it, as a checkpoint wrote it meanwhile, is read again before it is called damaged."""
    disk, pool = opened(mutation)
    pool.call("write", object_id=V, offset_bytes=0, data=b"x" * BLOCK)
    pool.call("checkpoint")
    pool.drain()
    scrub = pool.start("scrub", object_id=V)
    pool.turn()
    held, _, offset, _ = next(each for each in pool.pending_io() if each[1] == "read")
    others = {pool.start("write", object_id=V, offset_bytes=BLOCK, data=b"y" * BLOCK), pool.start("checkpoint")}
    torn, value = False, None
    for _ in range(200):
        pool.turn()
        for io_id, *_ in pool.pending_io():
            if io_id != held:
                pool.perform(io_id)
            elif not others:
                disk.flip(offset + 1000, 3)
                pool.perform(io_id)
                disk.flip(offset + 1000, 3)
                torn = True
        for done in pool.reap():
            others.discard(done.token)
            value = done.value if done.token == scrub else value
        if value is not None:
            break
    want(torn and value is not None, "the read was torn")
    want(value.damaged == [], "a sound page is called damaged")


def grown_again(mutation: str) -> None:
    """Shrunk and grown again, both only in the journal: no shrink is left that the open would have to finish."""
    disk, pool = opened(mutation)
    pool.call("write", object_id=V, offset_bytes=40 << 20, data=b"x" * BLOCK)
    pool.call("checkpoint")
    pool.call("resize", object_id=V, size_bytes=32 << 20)
    pool.call("resize", object_id=V, size_bytes=64 << 20)
    pool.abandon()
    disk.power_cut("all")
    _, pool = opened(mutation, disk)
    want(pool.call("read", object_id=V, offset_bytes=40 << 20, length_bytes=BLOCK) == bytes(BLOCK), "what was cut off is back")
    pool.drain()
    want(pool.stats()["journal_records"] == 0, "a shrink goes on that is none")


def sums_of_the_second_zone(mutation: str) -> None:
    """Data behind the first zone is read with its checksum pages cold, over the border of two of them."""
    from core.pool.engine import Pool

    disk = SimDisk(9 << 30, 1)
    Pool.create(disk, name="wide", journal_blocks=512, area_blocks=(layout.ZONE_BLOCKS - 3072) // 2)    # it fills the first zone
    _, pool = opened(mutation, disk)
    pool.call("create", name="v", size_bytes=64 << 20, checksum=True)
    data = b"".join(bytes([i % 251]) * BLOCK for i in range(1100))
    pool.call("write", object_id=V, offset_bytes=0, data=data)
    pool.close()
    want(min(block for block, page in disk.view.items() if page == bytes([250]) * BLOCK) > layout.ZONE_BLOCKS, "the second zone")
    _, pool = opened(mutation, disk)
    want(pool.call("read", object_id=V, offset_bytes=0, length_bytes=len(data)) == data, "other data")


def half_overwritten(mutation: str, **config: Any) -> tuple[SimDisk, Any, bytearray]:
    """One region of which every other block was overwritten after a snapshot that stays; what it holds, which no memory did."""
    old, new = os.urandom(BLOCK), os.urandom(BLOCK)
    disk, pool = opened(mutation, **config)
    pool.call("write", object_id=V, offset_bytes=0, data=old * (LEAF // BLOCK))
    pool.call("snapshot", pairs=[(V, "v@s")])
    pool.order(False)
    for at in range(0, LEAF, 2 * BLOCK):
        pool.call("write", object_id=V, offset_bytes=at, data=new)
    return disk, pool, bytearray(new + old) * (LEAF // BLOCK // 2)


def move_amid_writes(mutation: str) -> None:
    """What is written to a region while it is moved is there afterwards."""
    _, pool, content = half_overwritten(mutation)
    pool.start("move", object_id=V, offset_bytes=0, length_bytes=LEAF)
    while not (requests := pool.pending_io()) or requests[0][1] != "write":       # the first slice has been read
        pool.turn(pool.stats()["epoch"] + 1)
        for io_id, kind, *_ in pool.pending_io():
            if kind != "write":
                pool.perform(io_id)
    written = pool.start("write", object_id=V, offset_bytes=0, data=b"c" * BLOCK)
    pool.turn(1)
    for io_id, _, _, length in pool.pending_io():
        if length == BLOCK:
            pool.perform(io_id)                # it is over before the move's own, where that lets it
    pool.turn(1)
    pool.drain()
    want(written in [each.token for each in pool.reap()], "the write is not over")
    content[:BLOCK] = b"c" * BLOCK
    want(pool.call("read", object_id=V, offset_bytes=0, length_bytes=LEAF) == content, "a write is lost")


def move_beside_a_write_that_waits(mutation: str) -> None:
    """A write to a part of a block has left its epoch, since a snapshot came while it merged; a move waits for it."""
    beside_a_write_that_waits(mutation, "move", object_id=V, offset_bytes=0, length_bytes=LEAF)


def beside_a_write_that_waits(mutation: str, operation: str, **args: Any) -> None:
    _, pool, content = half_overwritten(mutation)
    part, requests = b"p" * 512, pool.pending_io
    pool.start("write", object_id=V, offset_bytes=LEAF, data=b"x" * BLOCK)
    pool.drain()
    in_place = pool.start("write", object_id=V, offset_bytes=LEAF, data=b"y" * BLOCK)
    written = pool.start("write", object_id=V, offset_bytes=BLOCK, data=part)
    pool.turn(1)
    held = {io_id: kind for io_id, kind, *_ in requests()}
    assert sorted(held.values()) == ["read", "write"], "what it merges, and a write in place that the snapshot waits for"
    pool.start("snapshot", pairs=[(V, "v@t")])
    new = os.urandom(BLOCK)
    for at in range(2 * BLOCK, LEAF, 2 * BLOCK):
        pool.start("write", object_id=V, offset_bytes=at, data=new)
        content[at:at + BLOCK] = new
    perform(pool, lambda io_id, *_: io_id not in held)
    if operation == "compare_and_write":
        args["expected"] = part + bytes(content[BLOCK + 512:2 * BLOCK])
    alone = pool.start(operation, **args)
    perform(pool, lambda io_id, *_: io_id not in held)          # it is in line, and the write is not
    perform(pool, lambda io_id, kind, *_: held.get(io_id) != "write")
    done = pool.reap()
    ended = {in_place, written, alone} & {each.token for each in done}
    assert not ended, "all of them wait for the write in place"
    pool.perform(next(io_id for io_id, kind in held.items() if kind == "write"))
    while written not in ended:
        turn = requests()
        for io_id, kind, _, length in turn:
            if kind != "write" or length == BLOCK or all(kind == "write" and length != BLOCK for _, kind, _, length in turn):
                pool.perform(io_id)            # the write before the move, where that lets it
        pool.turn(pool.stats()["epoch"] + 1)
        done += pool.reap()
        ended |= {each.token for each in done}
    pool.drain()
    done += pool.reap()
    content[BLOCK:BLOCK + 512] = part
    if operation == "compare_and_write":
        want({each.token: each.code for each in done}[alone] == "ok", "what the write left is not what is compared")
        content[BLOCK:2 * BLOCK] = args["data"]
    want(pool.call("read", object_id=V, offset_bytes=0, length_bytes=LEAF) == content, "a write is lost")


def perform(pool: Any, chosen: Callable[..., bool]) -> None:
    """Turn and perform what is chosen of the requests until none of those is left."""
    for _ in range(200):
        pool.turn(1)
        for io_id, *rest in pool.pending_io():
            if chosen(io_id, *rest):
                pool.perform(io_id)


def bad_place_between(mutation: str) -> None:
    """A request for several pieces that fails says nothing of them: each is read by itself, and only what is bad is refused."""
    disk, pool, content = half_overwritten(mutation, gap_bytes=32 << 10)
    disk.fail("read")
    want(pool.call("read", object_id=V, offset_bytes=0, length_bytes=64 << 10) == content[:64 << 10],
         "what was not read is taken for data")


PLANTED: dict[str, Callable[[str], None]] = {
    "move_leaves": move_amid_writes, "move_hasty": move_beside_a_write_that_waits, "join_deaf": bad_place_between,
    "flat_pending": node_that_waits, "short_unmap": unmapped_to_the_end, "atomic_stays": atomic_elsewhere,
    "hasty_copy": copy_of_one_instant, "hole_writes": hole_stays, "long_record": record_within_a_leaf,
    "first_bad": first_bad_block, "atomic_space": nodes_of_an_atomic_write,
    "scrub_once": scrubbed_beside_a_checkpoint, "keep_tail": grown_again,
}


@pytest.mark.parametrize("mutation", PLANTED)
def test_a_planted_fault_is_seen(mutation: str) -> None:
    PLANTED[mutation]("")
    with pytest.raises(Fault):
        PLANTED[mutation](mutation)


def test_a_comparison_waits_for_a_write_that_left_its_epoch() -> None:
    beside_a_write_that_waits("", "compare_and_write", object_id=V, offset_bytes=BLOCK, data=b"n" * BLOCK)


def test_a_part_of_a_block_that_became_shared_is_not_merged_before_writes_in_place_are_over() -> None:
    """A copy by reference concerns its source, too: what is under way to a block there is in what is written beside it."""
    _, pool = opened("")
    pool.call("create", name="d", size_bytes=64 << 20)
    pool.call("write", object_id=V, offset_bytes=0, data=b"o" * BLOCK)
    pool.drain()
    pool.start("write", object_id=V, offset_bytes=0, data=b"1" * 512)
    pool.turn(1)
    ((held, *_),) = pool.pending_io()
    pool.start("share", dst_id=2, dst_offset_bytes=0, src_id=V, src_offset_bytes=0, length_bytes=BLOCK)
    pool.start("write", object_id=V, offset_bytes=1024, data=b"2" * 512)
    perform(pool, lambda io_id, *_: io_id != held)
    pool.perform(held)
    pool.drain()
    assert pool.call("read", object_id=V, offset_bytes=0, length_bytes=2048) == b"1" * 512 + b"o" * 512 + b"2" * 512 + b"o" * 512


def test_checksum_pages_begin_anew_in_each_zone() -> None:
    """The fault would read through a page that is not there: in a process of its own."""
    fault = ("from tests.crash.test_planted import sums_of_the_second_zone as tried\n"
             "tried(''); print('sound', flush=True); tried('zoneless_sums'); print('unseen', flush=True)")
    ran = subprocess.run([sys.executable, "-c", fault], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.returncode != 0) == ("sound\n", True), ran.stderr
