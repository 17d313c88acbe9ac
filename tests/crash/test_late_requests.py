"""Requests that take very long, while the blocks they go to are freed and wanted by others."""

from __future__ import annotations

import dataclasses

import pytest

from tests.crash.rig import Config, Rig
from tests.support.history import Op, Violation

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
PIECE = 32 << 10


def write(rig: Rig, object_id: int, offset: int, length: int) -> Op:
    data = rig.oracle.make_data(object_id, offset, length)
    return rig.start("write", object_id=object_id, offset_bytes=offset, data=data)


def late(kind: str, config: Config = CONFIG) -> None:
    """Hold the device requests of one operation; free its blocks; fill the pool with another volume; let them go."""
    rig = Rig(1, config)
    rig.do("create", name="v", size_bytes=1 << 20)
    rig.do("create", name="w", size_bytes=16 << 20)
    rig.settle(write(rig, 1, 0, PIECE))
    rig.settle(write(rig, 2, 0, 4096))
    rig.do("flush")
    if kind == "read":
        rig.start("read", object_id=1, offset_bytes=0, length_bytes=PIECE)
    else:
        write(rig, 1, 0, PIECE)
    rig.turn()
    rig.held = {item[0] for item in rig.pool.pending_io() if item[3] == PIECE}     # not the journal's
    assert rig.held
    freeing = rig.start("delete", object_id=1) if kind == "write" else rig.start(
        "unmap", object_id=1, offset_bytes=0, length_bytes=PIECE, fua=True)
    for _ in range(400):
        rig.step()
    filling: list[Op] = []
    for offset in range(64 << 10, 15 << 20, 64 << 10):
        filling.append(write(rig, 2, offset, 64 << 10))
        for _ in range(40):
            rig.step()
        if filling[-1].end < 1 << 60 and not filling[-1].ok:
            break
    rig.held = set()
    rig.settle()
    assert freeing.ok
    rig.verify()
    rig.crash(power=True)
    rig.reopen()


@pytest.mark.parametrize("kind", ["read", "write"])
def test_late_requests_hurt_nobody(kind: str) -> None:
    try:
        late(kind)
    except Violation as error:
        raise Violation(f"{kind}: {error}") from error


def test_a_part_merged_before_another_was_written_in_place() -> None:
    """A part of a shared block is merged and under way to a new block; the block becomes private meanwhile and another part of it
    is written in place. The merge must not bring back what that part was."""
    rig = Rig(1, CONFIG)
    for name in ("v", "w"):
        rig.do("create", name=name, size_bytes=1 << 20)

    def steps(count: int) -> None:
        for _ in range(count):
            rig.step()

    for object_id in (1, 2):
        rig.settle(write(rig, object_id, 0, 4096))
    rig.do("snapshot", pairs=[(1, "v@s")])
    rig.do("flush")
    rig.pool.drain()
    old = rig.start("read", object_id=2, offset_bytes=0, length_bytes=4096)     # keeps an epoch open
    rig.turn()
    rig.held = {io_id for io_id, *_ in rig.pool.pending_io()}
    kept = set(rig.held)
    rig.do("delete", object_id=3)
    steps(100)
    first = write(rig, 1, 0, 512)
    rig.turn()
    merging = [io_id for io_id, kind, *_ in rig.pool.pending_io() if kind == "read" and io_id not in kept]
    assert len(merging) == 1
    rig.perform(merging[0], "read")
    rig.held = {io_id for io_id, kind, _, length in rig.pool.pending_io() if kind == "write" and length == 4096}
    assert rig.held
    rig.settle(old)
    steps(400)
    second = write(rig, 1, 512, 512)
    steps(300)
    assert not first.ok
    assert second.ok
    rig.held = set()
    rig.settle()
    rig.verify()


def shared_meanwhile(mutations: str = "") -> None:
    """A write in place is under way when its block becomes shared; a part of the block is written then, and must not miss it."""
    rig = Rig(1, dataclasses.replace(CONFIG, mutations=mutations))
    rig.do("create", name="v", size_bytes=1 << 20)
    rig.settle(write(rig, 1, 0, 4096))
    rig.do("flush")
    first = write(rig, 1, 0, 512)
    rig.turn()
    rig.held = {io_id for io_id, kind, _, length in rig.pool.pending_io() if kind == "write" and length == 512}
    assert rig.held
    taken = rig.start("snapshot", pairs=[(1, "v@s")])
    for _ in range(200):
        rig.step()
    second = write(rig, 1, 1024, 512)
    for _ in range(200):
        rig.step()
    if not mutations:
        assert not taken.ok
    rig.held = set()
    rig.settle()
    assert first.ok
    assert second.ok
    rig.verify()


def test_a_part_of_a_block_that_is_still_written_in_place() -> None:
    shared_meanwhile()
    with pytest.raises(Violation):
        shared_meanwhile("no_settle")
