"""EXTENDED COPY: shares blocks, reaches only the nexus's own units, refuses lists that lie (SPC-4 §5.16, §6.4)."""

from __future__ import annotations

import pytest

from target.scsi import LogicalUnit, Result
from target.scsi.designators import naa
from target.scsi.unit import Erasure
from tests.support.scsi_memory import MemoryBackend, World, sense_of

COPY = "83 00 0000000000000000 {:08x} 00 00"
ABORTED = 0xA


def cscd(unit: LogicalUnit, kind: int = 0xE4) -> bytes:
    name = naa(unit.identity)
    return bytes([kind, 0, 0, 0, 1, 3, 0, len(name)]) + name.ljust(20, b"\0") + b"\0\0\x02\0"


def segment(source: int, destination: int, blocks: int, from_lba: int, to_lba: int, kind: int = 0x02) -> bytes:
    head = bytes([kind, 0, 0, 24]) + source.to_bytes(2, "big") + destination.to_bytes(2, "big")
    return head + bytes(2) + blocks.to_bytes(2, "big") + from_lba.to_bytes(8, "big") + to_lba.to_bytes(8, "big")


def copy(world: World, cscds: bytes, segments: bytes, identifier: int = 1, usage: int = 0, cut: int = 0,
         **more: object) -> Result:
    data = bytes([identifier, usage << 3]) + len(cscds).to_bytes(2, "big") + bytes(4)
    data += len(segments).to_bytes(4, "big") + bytes(4) + cscds + segments
    data = data[:len(data) - cut]
    return world.run(COPY.format(len(data)), data, **more)  # type: ignore[arg-type]


def pair(**more: object) -> World:
    return World(MemoryBackend(**more), MemoryBackend(), MemoryBackend(), nexuses=2)  # type: ignore[arg-type]


def test_copies_between_units_share_blocks() -> None:
    world = pair()
    world.backends[0].data[4096:8192] = b"s" * 4096
    result = copy(world, cscd(world.units[0]) + cscd(world.units[1]), segment(0, 1, 8, 8, 16))
    assert result.status == 0
    assert world.backends[1].data[8192:12288] == b"s" * 4096
    assert [call[0] for call in world.backends[1].calls] == ["share"]
    status = world.run("84 00 01 00000000000000 000000ff 00 00").data_in
    assert status == b"\0\0\0\x08\x01\0\x01\0" + (4096).to_bytes(4, "big")


def test_copies_between_pools_move_data_and_overlaps_are_safe() -> None:
    world = pair(pool_id=b"other")
    world.backends[0].data[:512] = b"p" * 512
    assert copy(world, cscd(world.units[0]) + cscd(world.units[1]), segment(0, 1, 1, 0, 0)).status == 0
    assert world.backends[1].data[:512] == b"p" * 512
    pattern = bytes(range(256)) * 8
    for source, destination in ((0, 1), (1, 0)):
        world.backends[1].data[:2560] = bytes(2560)
        world.backends[1].data[source * 512:source * 512 + 2048] = pattern
        assert copy(world, cscd(world.units[1]), segment(0, 0, 4, source, destination)).status == 0
        assert world.backends[1].data[destination * 512:destination * 512 + 2048] == pattern


def test_only_what_the_nexus_reaches() -> None:
    world = pair()
    other = world.nexuses[1]
    world.target.detach(other, 1)
    world.hush()
    result = copy(world, cscd(world.units[0]) + cscd(world.units[1]), segment(0, 1, 1, 0, 0), nexus=other)
    assert sense_of(result) == (ABORTED, 0x0D02)
    assert world.backends[1].calls == []


def test_nothing_is_copied_to_or_from_a_unit_that_is_erased() -> None:
    world = pair()
    both = cscd(world.units[0]) + cscd(world.units[1])
    for number in (0, 1):
        world.units[number].erasure_began(Erasure(0x0404, sanitize=True))
        for end in (0, 1):
            assert sense_of(copy(world, both, segment(end, 1 - end, 1, 0, 0), lun=2))[0] == ABORTED
        world.units[number].erasure_ended(failed=True)           # then only another SANITIZE reaches the medium
        assert sense_of(copy(world, both, segment(0, 1, 1, 0, 0), lun=2))[0] == ABORTED
        world.units[number].sanitize_failed = False
    assert [each.calls for each in world.backends] == [[], [], []]
    assert copy(world, both, segment(0, 1, 1, 0, 0), lun=2).status == 0


def test_segments_that_cannot_be_done() -> None:
    world = pair()
    both = cscd(world.units[0]) + cscd(world.units[1])
    assert sense_of(copy(world, both, segment(0, 2, 1, 0, 0))) == (ABORTED, 0x0D02)
    assert sense_of(copy(world, both, segment(0, 1, 2, 0, 2047)))[0] == ABORTED
    assert sense_of(copy(world, both, segment(0, 1, 2, (1 << 64) - 1, 0)))[0] == ABORTED
    world.backends[1].fail["share"] = "no_space"
    result = copy(world, both, segment(0, 1, 1, 0, 0) * 2, identifier=9)
    assert sense_of(result) == (ABORTED, 0x2707)
    details = world.run("84 04 09 00000000000000 000000ff 00 00").data_in
    assert details[56] == 2
    assert details[60:] == result.sense
    assert sense_of(world.run("84 04 09 00000000000000 000000ff 00 00")) == (5, 0x2400)


def test_a_protected_or_reserved_destination() -> None:
    world = World(MemoryBackend(), MemoryBackend(read_only=True), nexuses=2)
    both = cscd(world.units[0]) + cscd(world.units[1])
    assert sense_of(copy(world, both, segment(0, 1, 1, 0, 0)))[0] == ABORTED
    assert copy(world, both, segment(1, 0, 1, 0, 0)).status == 0
    world = pair()
    world.run("16 00 000000 00", nexus=world.nexuses[1], lun=1)
    both = cscd(world.units[0]) + cscd(world.units[1])
    assert sense_of(copy(world, both, segment(0, 1, 1, 0, 0)))[0] == ABORTED
    assert sense_of(copy(world, both, segment(1, 0, 1, 0, 0)))[0] == ABORTED


@pytest.mark.parametrize(("cscds", "segments", "cut", "asc"), [
    (9, 1, 0, 0x2606), (1, 65, 0, 0x2608), (9, 65, 0, 0x1A00), (1, 1, 1, 0x1A00), (1, 1, 29, 0x1A00)])
def test_limits_and_truncation(cscds: int, segments: int, cut: int, asc: int) -> None:
    world = pair()
    result = copy(world, cscd(world.units[0]) * cscds, segment(0, 0, 1, 0, 8) * segments, cut=cut)
    assert sense_of(result) == (5, asc)
    assert world.backend.calls == []


def test_unsupported_descriptors() -> None:
    world = pair()
    assert sense_of(copy(world, cscd(world.units[0], kind=0xE0), segment(0, 0, 1, 0, 8))) == (5, 0x2607)
    assert sense_of(copy(world, cscd(world.units[0]), segment(0, 0, 1, 0, 8, kind=0x03))) == (5, 0x2609)
    assert sense_of(copy(world, cscd(world.units[0])[:31], b"")) == (5, 0x1A00)
    assert copy(world, b"", b"").status == 0
    assert world.run(COPY.format(0)).status == 0
    assert sense_of(world.run(COPY.format(8), bytes(8))) == (5, 0x1A00)


def test_offset_segments() -> None:
    world = pair()
    world.backends[0].data[1024:2048] = b"o" * 1024
    raw = bytes([0x0A, 0, 0, 28, 0, 0, 0, 1]) + (1024).to_bytes(4, "big") + (1).to_bytes(8, "big")
    raw += (3).to_bytes(8, "big") + (512).to_bytes(2, "big") + (512).to_bytes(2, "big")
    both = cscd(world.units[0]) + cscd(world.units[1])
    assert copy(world, both, raw).status == 0
    assert world.backends[1].data[2048:3072] == b"o" * 1024
    assert sense_of(copy(world, both, raw[:-1] + b"\x01"))[0] == ABORTED


def test_results_belong_to_their_nexus_and_are_bounded() -> None:
    world = pair()
    assert sense_of(world.run("84 00 05 00000000000000 000000ff 00 00")) == (5, 0x2400)
    for identifier in range(60):
        copy(world, cscd(world.units[0]), segment(0, 0, 1, 0, 8), identifier=identifier)
    assert world.run("84 00 3b 00000000000000 000000ff 00 00").status == 0
    assert sense_of(world.run("84 00 05 00000000000000 000000ff 00 00")) == (5, 0x2400)
    assert sense_of(world.run("84 00 3b 00000000000000 000000ff 00 00", nexus=world.nexuses[1])) == (5, 0x2400)
    assert copy(world, cscd(world.units[0]), b"", identifier=0, usage=3).status == 0
    assert sense_of(world.run("84 00 00 00000000000000 000000ff 00 00")) == (5, 0x2400)


def test_lid4() -> None:
    world = pair()
    world.backends[0].data[:512] = b"4" * 512
    cscds, segments = cscd(world.units[0]) + cscd(world.units[1]), segment(0, 1, 1, 0, 0)
    head = bytearray(48)
    head[0], head[3], head[16], head[20:24] = 1, 0x20, 0xFF, (0x12345678).to_bytes(4, "big")
    head[42:44], head[44:46] = len(cscds).to_bytes(2, "big"), len(segments).to_bytes(2, "big")
    data = bytes(head) + cscds + segments
    assert world.run(f"83 01 0000000000000000 {len(data):08x} 00 00", data).status == 0
    assert world.backends[1].data[:512] == b"4" * 512
    status = world.run("84 05 12345678 00000000 000000ff 00 00").data_in
    assert status[4:6] == b"\x01\x01"
    assert int.from_bytes(status[16:24], "big") == 512
    head[0] = 2
    assert sense_of(world.run(f"83 01 0000000000000000 {len(data):08x} 00 00", bytes(head) + cscds)) [0] == 5


def test_operating_parameters_and_page() -> None:
    world = pair()
    data = world.run("84 03 0000000000000000 000000ff 00 00").data_in
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert data[8:12] == b"\x00\x08\x00\x40"
    assert data[43:] == b"\x03\x02\x0a\xe4"
    page = world.run("12 01 8f 0400 00").data_in
    at, kinds = 4, []
    while at < len(page):
        kinds.append(int.from_bytes(page[at:at + 2], "big"))
        at += 4 + int.from_bytes(page[at + 2:at + 4], "big")
    assert at == len(page)
    assert {0x0001, 0x0004, 0x0008, 0x8001} <= set(kinds)
