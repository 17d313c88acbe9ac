"""UNMAP, WRITE SAME and GET LBA STATUS: what is freed, what a lying list costs (SBC-4 §4.7, §5)."""

from __future__ import annotations

import pytest

from tests.support.scsi_memory import MemoryBackend, World, field_pointer, sense_of

BLOCKS = (1 << 20) // 512


def unmap_list(*pairs: tuple[int, int]) -> bytes:
    body = b"".join(lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4) for lba, blocks in pairs)
    return (len(body) + 6).to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes(4) + body


def unmap_cdb(length: int) -> bytes:
    return bytes.fromhex("42 00 00000000 00") + length.to_bytes(2, "big") + b"\0"


def test_unmap_frees_and_reads_as_zeros() -> None:
    world = World()
    world.run("2a 00 00000000 00 0020 00", b"x" * 16384)
    data = unmap_list((8, 8), (0, 0), (BLOCKS, 0))
    assert world.run(unmap_cdb(len(data)), data).status == 0
    assert world.backend.mapped[:4] == [True, False, True, True]
    assert world.backend.data[4096:8192] == bytes(4096)


def test_nothing_is_unmapped_when_one_range_is_wrong() -> None:
    world = World()
    world.run("2a 00 00000000 00 0008 00", b"x" * 4096)
    data = unmap_list((0, 8), (BLOCKS - 1, 2))
    assert sense_of(world.run(unmap_cdb(len(data)), data)) == (5, 0x2100)
    assert world.backend.data[:4096] == b"x" * 4096


@pytest.mark.parametrize(("data", "sense", "byte"), [
    (unmap_list((0, 1))[:7], (5, 0x1A00), None),
    (b"\x00\x16\x00\x20" + unmap_list((0, 1))[4:], (5, 0x2600), 2),      # descriptors beyond the list
    (b"\x00\x04\x00\x10" + unmap_list((0, 1))[4:], (5, 0x2600), 0),      # data length shorter than descriptors
    (unmap_list(*[(0, 1)] * 257), (5, 0x2600), 2),                       # more descriptors than stated
])
def test_lists_that_lie(data: bytes, sense: tuple[int, int], byte: int | None) -> None:
    result = World().run(unmap_cdb(len(data)), data)
    assert sense_of(result) == sense
    if byte is not None:
        assert field_pointer(result)[:2] == (False, byte)


def test_unmap_lengths() -> None:
    assert World().run(unmap_cdb(0)).status == 0
    assert World().run(unmap_cdb(8), unmap_list()).status == 0
    assert sense_of(World().run(unmap_cdb(100), unmap_list((0, 1)))) == (5, 0x1A00)
    assert sense_of(World().run("42 01 00000000 00 0018 00", unmap_list((0, 1)))) == (5, 0x2400)    # ANCHOR


@pytest.mark.parametrize("wide", [False, True])
def test_write_same_repeats_a_block(wide: bool) -> None:
    world = World()
    block = bytes(range(256)) * 2
    text = "93 00 0000000000000003 00000004 00 00" if wide else "41 00 00000003 00 0004 00"
    assert world.run(text, block).status == 0
    assert world.backend.data[1024:4096] == bytes(512) + block * 4 + bytes(512)


def test_write_same_to_the_end_and_its_limit() -> None:
    world = World()
    assert world.run(f"93 00 {BLOCKS - 2:016x} 00000000 00 00", b"e" * 512).status == 0
    assert world.backend.data[-1536:] == bytes(512) + b"e" * 1024
    assert sense_of(world.run(f"93 00 {BLOCKS + 1:016x} 00000000 00 00", b"e" * 512)) == (5, 0x2100)
    assert sense_of(world.run(f"93 00 {1 << 63:016x} 00000000 00 00", b"e" * 512)) == (5, 0x2100)
    big = World(limits=type(world.unit.limits)(write_same_bytes=1 << 19))
    result = big.run("93 00 0000000000000000 00000000 00 00", b"e" * 512)
    assert (sense_of(result), field_pointer(result)[1]) == ((5, 0x2400), 10)


def test_write_same_deallocates_zeros() -> None:
    world = World()
    fill = b"x" * 16384
    for text, data in (("93 08 0000000000000000 00000010 00 00", bytes(512)),    # UNMAP with a block of zeros
                       ("93 08 0000000000000000 00000010 00 00", b""),           # UNMAP without data
                       ("93 09 0000000000000000 00000010 00 00", b""),           # UNMAP and NDOB
                       ("41 08 00000000 00 0010 00", bytes(512))):
        world.run("2a 00 00000000 00 0020 00", fill)
        assert world.run(text, data).status == 0
        assert world.backend.mapped[:4] == [False, False, True, True], text
    world.run("2a 00 00000000 00 0020 00", fill)
    assert world.run("93 01 0000000000000000 00000010 00 00").status == 0           # NDOB alone writes zeros
    assert world.backend.mapped[:2] == [True, True]
    assert world.backend.data[:8192] == bytes(8192)
    assert world.run("93 00 0000000000000000 00000010 00 00", b"n" * 512).status == 0
    assert world.run("93 08 0000000000000000 00000010 00 00", b"n" * 512).status == 0   # not zeros: UNMAP wins
    assert world.backend.data[:8192] == bytes(8192)


@pytest.mark.parametrize("data", [b"x" * 256, b"x" * 1024, b""])
def test_write_same_of_the_wrong_size(data: bytes) -> None:
    assert sense_of(World().run("93 00 0000000000000000 00000001 00 00", data)) == (5, 0x0E03)


def test_anchor_is_refused() -> None:
    for text in ("93 18 0000000000000000 00000001 00 00", "41 18 00000000 00 0001 00"):
        assert sense_of(World().run(text, bytes(512))) == (5, 0x2400)


def test_lba_status() -> None:
    world = World(MemoryBackend(64 << 10))
    world.run("2a 00 00000008 00 0008 00", b"x" * 4096)
    data = world.run("9e 12 0000000000000003 00001000 00 00").data_in
    rows = [(int.from_bytes(data[at:at + 8], "big"), int.from_bytes(data[at + 8:at + 12], "big"), data[at + 12])
            for at in range(8, len(data), 16)]
    assert rows == [(3, 5, 1), (8, 8, 0), (16, 112, 1)]
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert world.run("9e 12 0000000000000003 00000018 00 00").data_in == data[:3] + b"\x14" + data[4:24]
    assert len(world.run("9e 12 0000000000000000 00000005 00 00").data_in) == 5
    assert sense_of(world.run("9e 12 0000000000000080 00000018 00 00")) == (5, 0x2100)
    assert sense_of(world.run("9e 12 ffffffffffffffff 00000018 00 00")) == (5, 0x2100)


def test_lba_status_32() -> None:
    world = World(MemoryBackend(64 << 10))
    text = "7f 00 00000000 00 18 0012 00 00 0000000000000002 00000004 00000000 00000100"
    data = world.run(text).data_in
    assert data[8:20] == (2).to_bytes(8, "big") + (4).to_bytes(4, "big")
    assert sense_of(world.run(text.replace("00 18 0012", "00 17 0012"))) == (5, 0x2400)
    assert sense_of(world.run(text.replace("00 18 0012", "00 18 0013"))) == (5, 0x2400)
    assert sense_of(world.run("7f 00 00000000 00 18 0012")) == (5, 0x2400)


def test_threshold_attention_once_until_space_is_back() -> None:
    world = World(nexuses=2)
    page = bytearray(20)
    page[12], page[13], page[16:20] = 0x80, 0x01, (100).to_bytes(4, "big")
    assert world.run("55 10 0000000000 0020 00", bytes(8) + b"\x5c\x02\x00\x14" + page).status == 0
    world.hush()
    world.backend.available_bytes = 101 << 20
    world.unit.check_space()
    assert world.run("00 00 00 00 00 00").status == 0
    world.backend.available_bytes = 100 << 20
    world.unit.check_space()
    world.unit.check_space()
    for nexus in world.nexuses:
        assert sense_of(world.run("00 00 00 00 00 00", nexus=nexus)) == (6, 0x3807)
    world.unit.check_space()
    assert world.run("00 00 00 00 00 00").status == 0
