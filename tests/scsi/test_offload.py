"""ODX: tokens stand for data, only for who may read it, for a time; copies share blocks (SBC-4 §4.28, §5.12, §5.53)."""

from __future__ import annotations

import asyncio

import pytest

from target.scsi import LogicalUnit, Result
from target.scsi.backend import BlockBackend
from target.scsi.copy import offload
from target.scsi.copy.tokens import BLOCK_ZERO, MAX_TOKENS, POINT_IN_TIME, TOKEN_LENGTH_FIELD
from tests.support.scsi_memory import MemoryBackend, RecordingHooks, World, field_pointer, sense_of

UNKNOWN, EXPIRED = (5, 0x2304), (5, 0x2307)


class Hooks(RecordingHooks):
    """A clock to set, and media that can be frozen."""

    def __init__(self, freezes: bool = False) -> None:
        super().__init__()
        self.now_s = 1000
        self.freezes = freezes
        self.thawed = 0

    def timestamp_ms(self) -> int:
        return self.now_s * 1000

    async def freeze(self, unit: LogicalUnit) -> BlockBackend | None:
        if not self.freezes:
            return None
        copy = MemoryBackend(unit.backend.size_bytes, read_only=True)
        assert isinstance(unit.backend, MemoryBackend)
        copy.data[:] = unit.backend.data
        return copy

    async def thaw(self, unit: LogicalUnit, frozen: BlockBackend) -> None:
        self.thawed += 1


def world_with(hooks: Hooks) -> World:
    world = World(MemoryBackend(), MemoryBackend(), nexuses=2)
    for unit in world.units:
        unit.hooks = hooks
    world.backend.data[:8192] = b"s" * 4096 + b"t" * 4096
    return world


def ranges(*pairs: tuple[int, int]) -> bytes:
    return b"".join(lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4) for lba, blocks in pairs)


def populate(world: World, *pairs: tuple[int, int], kind: int | None = None, timeout_s: int = 0, identifier: int = 7,
             lie: int = 0, **more: int) -> Result:
    body = ranges(*pairs)
    data = (14 + len(body) + lie).to_bytes(2, "big") + bytes([0 if kind is None else 2, 0])
    data += timeout_s.to_bytes(4, "big") + (kind or 0).to_bytes(4, "big") + bytes(2) + len(body).to_bytes(2, "big") + body
    return world.run(f"83 10 00000000 {identifier:08x} {len(data):08x} 00 00", data, **more)  # type: ignore[arg-type]


def information(world: World, identifier: int = 7, **more: object) -> bytes:
    result = world.run(f"84 07 {identifier:08x} 00000000 00001000 00 00", **more)  # type: ignore[arg-type]
    assert result.status == 0
    assert int.from_bytes(result.data_in[:4], "big") == len(result.data_in) - 4
    return result.data_in


def token_of(world: World, identifier: int = 7) -> bytes:
    data = information(world, identifier)
    assert data[4:6] == b"\x10\x01"
    return data[-512:]


def write(world: World, token: bytes, *pairs: tuple[int, int], offset: int = 0, delete: bool = False, lun: int = 1,
          who: int = 0) -> Result:
    body = ranges(*pairs)
    data = (534 + len(body)).to_bytes(2, "big") + bytes([1 if delete else 0]) + bytes(5) + offset.to_bytes(8, "big")
    data = data[:2] + bytes([2 if delete else 0]) + data[3:] + token + bytes(6) + len(body).to_bytes(2, "big") + body
    return world.run(f"83 11 00000000 00000009 {len(data):08x} 00 00", data, lun=lun, nexus=world.nexuses[who])


def test_a_token_copies_by_reference() -> None:
    world = world_with(Hooks())
    assert populate(world, (8, 8), (0, 4)).status == 0
    token = token_of(world)
    assert int.from_bytes(token[6:8], "big") == TOKEN_LENGTH_FIELD
    assert int.from_bytes(token[48:64], "big") == 12 * 512
    assert write(world, token, (100, 12)).status == 0
    assert world.backends[1].data[51200:51200 + 6144] == b"t" * 4096 + b"s" * 2048
    assert {call[0] for call in world.backends[1].calls} == {"share"}
    data = information(world, 9, lun=1)
    assert data[4:6] == b"\x11\x01"
    assert int.from_bytes(data[16:24], "big") == 12
    assert write(world, token, (0, 4), offset=10).status == 0
    assert information(world, 9, lun=1)[5] == 0x03
    assert int.from_bytes(information(world, 9, lun=1)[16:24], "big") == 2
    assert sense_of(write(world, token, (0, 1), offset=12)) == (5, 0x2600)


def test_the_zero_token() -> None:
    world = world_with(Hooks())
    zero = BLOCK_ZERO.to_bytes(4, "big") + bytes(2) + TOKEN_LENGTH_FIELD.to_bytes(2, "big") + bytes(504)
    assert write(world, zero, (0, 8), lun=0).status == 0
    assert world.backend.data[:8192] == bytes(4096) + b"t" * 4096


def test_a_frozen_source_is_a_point_in_time() -> None:
    hooks = Hooks(freezes=True)
    world = world_with(hooks)
    assert populate(world, (0, 8)).status == 0
    token = token_of(world)
    assert int.from_bytes(token[0:4], "big") == POINT_IN_TIME
    world.backend.data[:4096] = b"n" * 4096
    assert write(world, token, (0, 8), delete=True).status == 0
    assert world.backends[1].data[:4096] == b"s" * 4096
    assert hooks.thawed == 1
    assert sense_of(write(world, token, (0, 8))) == UNKNOWN
    assert sense_of(populate(world_with(Hooks()), (0, 8), kind=POINT_IN_TIME)) == (5, 0x2600)


def test_what_was_sanitized_does_not_come_back_by_a_token() -> None:
    hooks = Hooks(freezes=True)
    world = world_with(hooks)
    populate(world, (0, 8))
    token = token_of(world)
    assert world.run("48 02 00000000 00 0000 00", lun=1).status == 0
    assert write(world, token, (0, 8)).status == 0               # the source is another unit
    assert world.run("48 02 00000000 00 0000 00").status == 0
    assert sense_of(write(world, token, (0, 8))) == UNKNOWN
    assert hooks.thawed == 1


def test_tokens_expire_and_being_used_keeps_them() -> None:
    hooks = Hooks(freezes=True)
    world = world_with(hooks)
    populate(world, (0, 8), timeout_s=10)
    token = token_of(world)
    for _ in range(3):
        hooks.now_s += 9
        assert write(world, token, (0, 8)).status == 0
    hooks.now_s += 11
    assert sense_of(write(world, token, (0, 8))) == EXPIRED
    asyncio.run(offload.expire(world.target, hooks.now_s))
    assert hooks.thawed == 1
    assert sense_of(write(world, token, (0, 8))) == UNKNOWN
    assert sense_of(populate(world, (0, 8), timeout_s=3601)) == (5, 0x2600)


def test_a_token_is_worth_nothing_to_who_cannot_reach_the_source() -> None:
    world = world_with(Hooks())
    populate(world, (0, 8))
    token = token_of(world)
    world.target.detach(world.nexuses[1], 0)
    world.hush()
    assert sense_of(write(world, token, (0, 8), who=1)) == UNKNOWN
    forged = bytearray(token)
    forged[100] ^= 1
    assert sense_of(write(world, bytes(forged), (0, 8))) == UNKNOWN
    assert not any(world.backends[1].data)
    world.run("16 00 000000 00", nexus=world.nexuses[1], lun=1)
    result = world.run("84 07 00000007 00000000 00001000 00 00", nexus=world.nexuses[1])
    assert sense_of(result) == (5, 0x2500)


def test_tokens_are_bounded_for_each_nexus() -> None:
    hooks = Hooks(freezes=True)
    world = world_with(hooks)
    populate(world, (0, 1))
    first = token_of(world)
    for _ in range(MAX_TOKENS):
        populate(world, (0, 1))
    assert hooks.thawed == 1
    assert sense_of(write(world, first, (0, 1))) == UNKNOWN
    assert write(world, token_of(world), (0, 1)).status == 0


@pytest.mark.parametrize(("pairs", "sense"), [
    ([], (5, 0x2600)), ([(0, 8), (4, 8)], (5, 0x2600)), ([(2047, 2)], (5, 0x2100)), ([(0, 1)] * 65, (5, 0x2608))])
def test_ranges_that_are_wrong(pairs: list[tuple[int, int]], sense: tuple[int, int]) -> None:
    world = world_with(Hooks())
    assert sense_of(populate(world, *pairs)) == sense
    assert sense_of(world.run("84 07 00000007 00000000 00001000 00 00")) == (5, 0x2400)


def test_lists_that_lie() -> None:
    world = world_with(Hooks())
    for lie in (1, 100, -30):
        result = populate(world, (0, 8), lie=lie)
        assert (sense_of(result), field_pointer(result)[1]) == ((5, 0x2600), 0)
    assert sense_of(world.run("83 10 00000000 00000007 00000008 00 00", bytes(8))) == (5, 0x1A00)
    assert sense_of(world.run("83 11 00000000 00000007 00000010 00 00", bytes(16))) == (5, 0x1A00)
    assert world.run("83 11 00000000 00000007 00000000 00 00").status == 0
