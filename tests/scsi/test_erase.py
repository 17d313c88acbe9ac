"""FORMAT UNIT and SANITIZE: everything goes, nobody looks meanwhile, a failure is remembered (SBC-4 §4.11, §5.4, §5.30)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from target.scsi import Gate, Identity, LogicalUnit
from tests.support.scsi_memory import MemoryBackend, RecordingHooks, World, field_pointer, sense_of

FORMAT, BLOCK_ERASE, EXIT = "04 00 00 00 00 00", "48 02 00000000 00 0000 00", "48 1f 00000000 00 0000 00"
TUR, READ, REQUEST_SENSE = "00 00 00 0000 00", "28 00 00000000 00 0001 00", "03 00 0000 fc 00"


class Later(RecordingHooks):
    """Keeps background work until the test runs it."""

    work: Coroutine[Any, Any, None] | None = None

    async def background(self, work: Coroutine[Any, Any, None]) -> None:
        self.work = work

    def run(self) -> None:
        assert self.work is not None
        asyncio.run(self.work)  # type: ignore[arg-type]


def world_of(hooks: RecordingHooks | None = None) -> World:
    world = World(MemoryBackend(), nexuses=2)
    world.unit.hooks = hooks or RecordingHooks()
    world.backend.data[:] = b"x" * world.backend.size_bytes
    world.backend.mapped[:] = [True] * len(world.backend.mapped)
    return world


def test_format_deallocates_everything() -> None:
    world = world_of()
    assert world.run(FORMAT).status == 0
    assert not any(world.backend.data)
    assert not any(world.backend.mapped)
    assert ("flush",) in [call[:1] for call in world.backend.calls]
    assert world.run("04 10 00 00 00 00", bytes([0, 0x82, 0, 0])).status == 0
    assert world.run("04 30 00 00 01 00", bytes(8)).status == 0


@pytest.mark.parametrize(("cdb", "data", "sense", "pointer"), [
    ("04 50 00 00 00 00", b"", 0x2400, 1), ("04 20 00 00 00 00", b"", 0x2400, 1), ("04 00 00 00 03 00", b"", 0x2400, 4),
    ("04 10 00 00 00 00", b"\1\0\0\0", 0x2600, 0), ("04 10 00 00 00 00", b"\0\x08\0\0", 0x2600, 1),
    ("04 10 00 00 00 00", b"\0\x20\0\0", 0x2600, 1), ("04 10 00 00 00 00", b"\0\0\0\x04", 0x2600, 2),
    ("04 30 00 00 00 00", b"\0\0\0\0\0\0\0\x08", 0x2600, 4), ("04 10 00 00 00 00", b"\0\0", 0x1A00, None)])
def test_format_lists_that_are_wrong_erase_nothing(cdb: str, data: bytes, sense: int, pointer: int | None) -> None:
    world = world_of()
    result = world.run(cdb, data)
    assert sense_of(result) == (5, sense)
    assert pointer is None or field_pointer(result)[1] == pointer
    assert world.backend.data == b"x" * world.backend.size_bytes


def test_in_the_background_the_medium_is_closed_and_progress_told() -> None:
    hooks = Later()
    world = world_of(hooks)
    other = world.nexuses[1]
    assert world.run("04 10 00 00 00 00", bytes([0, 0x02, 0, 0])).status == 0
    assert world.backend.data[:1] == b"x"
    assert world.unit.gate(other) & Gate.NOT_READY
    for cdb in (TUR, READ, FORMAT, BLOCK_ERASE):
        result = world.run(cdb, nexus=other)
        assert sense_of(result) == (2, 0x0404)
        assert result.sense[15:18] == b"\x80\0\0"
    assert world.run(REQUEST_SENSE).data_in[12:14] == b"\x04\x04"
    assert world.run("12 00 00 0060 00").status == 0
    hooks.run()
    assert not any(world.backend.data)
    assert not world.unit.gate(other) & Gate.NOT_READY
    assert world.run(READ, nexus=other).status == 0


def test_a_failure_in_the_background_is_told_by_request_sense_once() -> None:
    hooks = Later()
    world = world_of(hooks)
    world.run("04 10 00 00 00 00", bytes([0, 0x02, 0, 0]))
    world.backend.fail["unmap"] = "io_write"
    hooks.run()
    data = world.run(REQUEST_SENSE).data_in
    assert (data[0], data[2], data[12:14]) == (0x71, 3, b"\x0c\x00")
    assert world.run(REQUEST_SENSE).data_in[2] == 0


def test_block_erase_deallocates_and_is_remembered_until_it_has_ended() -> None:
    hooks = Later()
    world = world_of(hooks)
    assert world.run("48 a2 00000000 00 0000 00").status == 0
    assert sense_of(world.run(READ)) == (2, 0x041B)
    reborn = LogicalUnit(Identity("0" * 32), world.backend, state=hooks.kept[-1])
    assert reborn.sanitize_failed
    assert reborn.may_exit_failure
    hooks.run()
    assert not any(world.backend.mapped)
    assert world.run(READ).data_in == bytes(512)
    assert not LogicalUnit(Identity("0" * 32), world.backend, state=hooks.kept[-1]).sanitize_failed
    assert world.run("12 01 b1 0040 00").data_in[7] == 0x40


def test_a_sanitize_that_failed_closes_the_medium() -> None:
    world = world_of()
    assert world.run(EXIT).status == 0
    world.backend.fail["unmap"] = "io_write"
    assert sense_of(world.run(BLOCK_ERASE)) == (3, 0x3103)
    assert sense_of(world.run(READ)) == (3, 0x3103)
    assert sense_of(world.run(TUR)) == (3, 0x3103)
    assert sense_of(world.run(EXIT)) == (5, 0x2400)
    assert world.run("12 00 00 0060 00").status == 0
    world.backend.fail["unmap"] = "io_write"
    assert sense_of(world.run("48 22 00000000 00 0000 00")) == (3, 0x3103)
    assert world.run(EXIT).status == 0
    assert world.run(READ).status == 0
    assert world.run(BLOCK_ERASE).status == 0
    assert not any(world.backend.data)


def test_sanitizes_that_are_not_there_erase_nothing() -> None:
    world = world_of()
    for cdb in ("48 42 00000000 00 0000 00", "48 01 0000000000 0000 00", "48 03 00000000 00 0000 00", "48 00 00000000 00 0000 00",
                "48 02 00000000 00 0004 00"):
        assert sense_of(world.run(cdb)) == (5, 0x2400)
    assert world.backend.data == b"x" * world.backend.size_bytes


def test_who_may_not_write_may_not_erase() -> None:
    world = world_of()
    world.run("5f 00 00 00 00 00 00 00 18 00", bytes(8) + b"\0\0\0\0\0\0\0\1" + bytes(8))
    world.run("5f 01 01 00 00 00 00 00 18 00", b"\0\0\0\0\0\0\0\1" + bytes(16))
    for cdb in (FORMAT, BLOCK_ERASE, EXIT):
        assert world.run(cdb, nexus=world.nexuses[1]).status == 0x18
    snapshot = World(MemoryBackend(read_only=True))
    for cdb in (FORMAT, BLOCK_ERASE):
        assert sense_of(snapshot.run(cdb)) == (7, 0x2700)
