"""READ, WRITE, VERIFY and their kin move the right bytes and refuse the rest with the right sense (SBC-4 §5)."""

from __future__ import annotations

import pytest

from tests.support.scsi_memory import GRAIN, MemoryBackend, World, field_pointer, sense_of

BLOCKS = (1 << 20) // 512
OUT_OF_RANGE, INVALID_FIELD, INVALID_UNIT, MISCOMPARE = (5, 0x2100), (5, 0x2400), (5, 0x0E03), (0xE, 0x1D00)


def cdb(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    """A block CDB of the length that the operation code has."""
    size = {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}[opcode >> 5]
    if size == 6:
        return bytes([opcode]) + lba.to_bytes(3, "big") + bytes([blocks & 0xFF, 0])
    if size == 10:
        return bytes([opcode, flags]) + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"
    if size == 12:
        return bytes([opcode, flags]) + lba.to_bytes(4, "big") + blocks.to_bytes(4, "big") + b"\0\0"
    return bytes([opcode, flags]) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + b"\0\0"


READS, WRITES = (0x08, 0x28, 0xA8, 0x88), (0x0A, 0x2A, 0xAA, 0x8A)
WRITE_VERIFIES, VERIFIES = (0x2E, 0xAE, 0x8E), (0x2F, 0xAF, 0x8F)


@pytest.mark.parametrize(("write", "read"), list(zip(WRITES, READS, strict=True)))
def test_what_is_written_is_read(write: int, read: int) -> None:
    world = World()
    data = bytes(range(256)) * 6
    assert world.run(cdb(write, 7, 3), data).status == 0
    result = world.run(cdb(read, 7, 3))
    assert (result.status, result.data_in, result.transfer_bytes) == (0, data, len(data))


@pytest.mark.parametrize("opcode", [*READS, *WRITES, *WRITE_VERIFIES, *VERIFIES, 0x8B, 0x34, 0x90, 0x35, 0x91])
def test_the_end_of_the_medium(opcode: int) -> None:
    world = World()
    data = b"x" * 1024
    assert world.run(cdb(opcode, BLOCKS - 2, 2), data).status == 0
    assert sense_of(world.run(cdb(opcode, BLOCKS - 1, 2), data)) == OUT_OF_RANGE
    if opcode >> 5:
        assert sense_of(world.run(cdb(opcode, 0xFFFFFFFF, 1), data)) == OUT_OF_RANGE
        assert world.run(cdb(opcode, BLOCKS, 0)).status == 0
        assert sense_of(world.run(cdb(opcode, BLOCKS + 1, 0))) == OUT_OF_RANGE


@pytest.mark.parametrize("opcode", [*READS[1:], *WRITES[1:], *WRITE_VERIFIES, *VERIFIES, 0x8B, 0x89, 0x41, 0x93])
@pytest.mark.parametrize("protect", [1, 4, 7])
def test_protection_information_is_refused(opcode: int, protect: int) -> None:
    result = World().run(cdb(opcode, 0, 1, protect << 5), b"x" * 512)
    assert sense_of(result) == INVALID_FIELD
    assert field_pointer(result) == (True, 1, 7 if protect > 1 and protect & 4 else 5)


def test_read_6_of_zero_blocks_is_256() -> None:
    assert len(World().run(cdb(0x08, 0, 0)).data_in) == 256 * 512


def test_more_than_the_maximum_transfer_length_is_refused() -> None:
    world = World(MemoryBackend(16 << 20))
    assert sense_of(world.run(cdb(0x88, 0, (8 << 20) // 512 + 1))) == INVALID_FIELD
    assert len(world.run(cdb(0x88, 0, (8 << 20) // 512)).data_in) == 8 << 20


def test_fua_and_a_disabled_write_cache_make_writes_durable() -> None:
    world = World()
    world.run(cdb(0x2A, 0, 1), b"x" * 512)
    world.run(cdb(0x2A, 0, 1, 0x08), b"x" * 512)
    world.run("15 10 00 00 18 00", b"\0\0\0\0" + bytes([0x08, 18]) + bytes(18))
    world.run(cdb(0x2A, 0, 1), b"x" * 512)
    world.run(cdb(0x0A, 0, 1), b"x" * 512)
    assert [call[3] for call in world.backend.calls if call[0] == "write"] == [False, True, True, True]


def test_less_data_than_asked_for_writes_what_came() -> None:
    world = World()
    result = world.run(cdb(0x2A, 0, 2), b"b" * 512, expected=512)
    assert (result.status, result.transfer_bytes) == (0, 1024)
    assert world.backend.data[:1024] == b"b" * 512 + bytes(512)
    assert sense_of(world.run(cdb(0x2A, 0, 1), b"c" * 200, expected=200)) == INVALID_UNIT


def test_more_data_than_asked_for_is_ignored() -> None:
    world = World()
    assert world.run(cdb(0x2E, 0, 1), b"d" * 1024).transfer_bytes == 512
    assert world.backend.data[:1024] == b"d" * 512 + bytes(512)


@pytest.mark.parametrize("opcode", VERIFIES)
def test_verify_compares(opcode: int) -> None:
    world = World()
    world.backend.data[0:1024] = b"a" * 1024
    assert world.run(cdb(opcode, 0, 2, 0x02), b"a" * 1024).status == 0
    assert sense_of(world.run(cdb(opcode, 0, 2, 0x02), b"a" * 1023 + b"b")) == MISCOMPARE
    assert world.run(cdb(opcode, 0, 2, 0x06), b"a" * 512).status == 0
    assert sense_of(world.run(cdb(opcode, 0, 3, 0x06), b"a" * 512)) == MISCOMPARE
    assert world.run(cdb(opcode, 0, 2), b"").status == 0
    assert sense_of(world.run(cdb(opcode, 0, 2, 0x04), b"a" * 1024)) == INVALID_FIELD
    assert sense_of(world.run(cdb(opcode, 0, 2, 0x02), b"a" * 512)) == INVALID_UNIT


def test_verify_without_data_reads_only_what_is_mapped() -> None:
    world = World()
    world.run(cdb(0x2A, 9, 1), b"x" * 512)
    world.backend.calls.clear()
    assert world.run(cdb(0x8F, 3, BLOCKS - 3)).status == 0
    assert [call for call in world.backend.calls if call[0] == "read"] == [("read", 4096, 4096)]
    world.backend.fail["read"] = "checksum"
    assert sense_of(world.run(cdb(0x8F, 3, BLOCKS - 3))) == (3, 0x1100)


@pytest.mark.parametrize("opcode", WRITE_VERIFIES)
def test_write_and_verify_is_durable(opcode: int) -> None:
    world = World()
    assert world.run(cdb(opcode, 4, 1, 0x02), b"v" * 512).status == 0
    assert world.backend.calls[0] == ("write", 2048, 512, True)
    assert sense_of(world.run(cdb(opcode, 4, 1, 0x06), b"v" * 512)) == INVALID_FIELD


def test_compare_and_write() -> None:
    world = World()
    compare = bytes.fromhex("89 08 0000000000000003 000000 02 00 00")
    assert world.run(compare, bytes(1024) + b"n" * 1024).status == 0
    assert world.backend.data[1536:2560] == b"n" * 1024
    result = world.run(compare, b"n" * 700 + b"m" * 324 + b"z" * 1024)
    assert sense_of(result) == MISCOMPARE
    assert result.sense[0] & 0x80
    assert int.from_bytes(result.sense[3:7], "big") == 700
    assert world.backend.data[1536:2560] == b"n" * 1024
    assert sense_of(world.run(compare, bytes(1024))) == INVALID_FIELD
    too_long = world.run("89 00 0000000000000000 000000 81 00 00", bytes(2 * 129 * 512))
    assert (sense_of(too_long), field_pointer(too_long)[1]) == (INVALID_FIELD, 13)


def test_orwrite_survives_a_write_in_between() -> None:
    class Racing(MemoryBackend):
        raced = False

        async def compare_and_write(self, offset_bytes: int, expected: bytes, data: bytes, fua: bool) -> int | None:
            if not self.raced:
                self.raced = True
                self.data[0] = 0x80
            return await super().compare_and_write(offset_bytes, expected, data, fua)

    world = World(Racing())
    world.backend.data[0:512] = b"\x01" * 512
    assert world.run(cdb(0x8B, 0, 1), b"\x02" * 512).status == 0
    assert world.backend.data[:512] == b"\x82" + b"\x03" * 511


def test_backend_failures_become_sense() -> None:
    expected = {"no_space": (7, 0x2707), "read_only": (7, 0x2700), "io_write": (3, 0x0C00), "gone": (5, 0x2500),
                "checksum": (3, 0x1100), "aborted": (0xB, 0), "something new": (4, 0x4400)}
    for code, sense in expected.items():
        world = World()
        world.backend.fail["write"] = code
        assert sense_of(world.run(cdb(0x2A, 0, 1), b"x" * 512)) == sense, code


def test_synchronize_cache_flushes_and_stop_forbids_the_medium() -> None:
    world = World()
    assert world.run(cdb(0x35, 0, 1, 0x02)).status == 0
    assert world.backend.calls == [("flush",)]
    assert world.run("1b 00 00 00 00 00").status == 0
    assert world.backend.calls == [("flush",), ("flush",)]
    assert sense_of(world.run("00 00 00 00 00 00")) == (2, 0x0402)
    assert sense_of(world.run(cdb(0x28, 0, 1))) == (2, 0x0402)
    assert world.run("12 00 00 00 60 00").status == 0
    assert world.run("1b 00 00 00 01 00").status == 0
    assert world.run(cdb(0x28, 0, 1)).status == 0
    assert sense_of(world.run("1b 00 00 00 02 00")) == INVALID_FIELD     # eject: the disk is fixed
    assert sense_of(world.run("1b 00 00 00 30 00")) == INVALID_FIELD     # power conditions
    assert sense_of(world.run("1e 00 00 00 01 00")) == INVALID_FIELD     # prevent removal
    assert world.run("1e 00 00 00 00 00").status == 0


def test_a_snapshot_refuses_every_write_and_answers_every_read() -> None:
    world = World(MemoryBackend(read_only=True))
    writes = [cdb(code, 0, 1) for code in (*WRITES, *WRITE_VERIFIES, 0x8B, 0x89, 0x41, 0x93)]
    for each in [*writes, bytes.fromhex("42000000000000001800"), cdb(0x93, 0, 1, 0x08)]:
        assert sense_of(world.run(each, b"x" * 512)) == (7, 0x2700), each.hex()
    for code in (*READS, *VERIFIES, 0x34, 0x35):
        assert world.run(cdb(code, 0, 1)).status == 0


def test_capacity() -> None:
    world = World(MemoryBackend(1 << 20, 4096))
    assert world.run("25 00 00000000 0000 00 00").data_in == (255).to_bytes(4, "big") + (4096).to_bytes(4, "big")
    long = world.run("9e 10 0000000000000000 00000020 00 00").data_in
    assert long[:16] == (255).to_bytes(8, "big") + (4096).to_bytes(4, "big") + bytes([0, 0, 0xC0, 0])
    assert len(world.run("9e 10 0000000000000000 0000000c 00 00").data_in) == 12
    assert GRAIN == 4096


@pytest.mark.parametrize(("logical", "physical", "exponent"), [(512, 512, 0), (512, 4096, 3), (4096, 4096, 0)])
def test_the_physical_block_is_the_backend_s(logical: int, physical: int, exponent: int) -> None:
    world = World(MemoryBackend(1 << 20, logical, physical_block_bytes=physical))
    told = world.run("9e 10 0000000000000000 00000020 00 00").data_in
    assert told[13:16] == bytes([exponent, 0xC0, 0])    # the lowest aligned block is 0
    limits = world.run("12 01 b0 00 ff 00").data_in
    assert int.from_bytes(limits[6:8], "big") * logical == physical if exponent else GRAIN
    assert int.from_bytes(limits[28:32], "big") * logical % physical == 0


def test_defect_lists_are_empty() -> None:
    assert World().run("37 00 18 00000000 0020 00").data_in == b"\x00\x18\x00\x00"
    assert World().run("b7 18 00000000 00000020 00 00").data_in == b"\x00\x18" + bytes(6)


def test_write_atomic_exists_only_where_the_backend_promises_it() -> None:
    class Atomic(MemoryBackend):
        atomic_bytes = 128 << 10

        async def write_atomic(self, offset_bytes: int, data: bytes, fua: bool) -> None:
            self.calls.append(("atomic", offset_bytes, len(data)))

    write = bytes.fromhex("9c 00 0000000000000008 0000 0010 00 00")
    assert sense_of(World().run(write, bytes(8192))) == (5, 0x2000)
    world = World(Atomic())
    assert world.run(write, bytes(8192)).status == 0
    assert world.backend.calls == [("atomic", 4096, 8192)]
    for cdb, at in (("9c 00 0000000000000001 0000 0008 00 00", 2), ("9c 00 0000000000000000 0000 0007 00 00", 12)):
        odd = world.run(cdb, bytes(4096))
        assert (sense_of(odd), field_pointer(odd)) == (INVALID_FIELD, (True, at, None))
    assert world.run("9c 18 0000000000000001 0000 0000 00 00").status == 0
    too_long = world.run("9c 00 0000000000000000 0000 0101 00 00", bytes(257 * 512))
    assert (sense_of(too_long), field_pointer(too_long)) == (INVALID_FIELD, (True, 12, None))
    bounded = world.run("9c 00 0000000000000000 0008 0008 00 00", bytes(4096))
    assert (sense_of(bounded), field_pointer(bounded)) == (INVALID_FIELD, (True, 11, 3))
    assert sense_of(world.run("9c 20 0000000000000000 0000 0008 00 00", bytes(4096))) == INVALID_FIELD   # WRPROTECT
    assert sense_of(world.run("9c 00 00000000000007f8 0000 0010 00 00", bytes(8192))) == (5, 0x2100)
    assert sense_of(world.run("9c 00 0000000000000000 0000 0008 00 00", bytes(2048))) == (5, 0x0E03)
    limits = world.run("12 01 b0 00 ff 00").data_in
    assert [int.from_bytes(limits[at:at + 4], "big") for at in range(44, 64, 4)] == [256, 8, 8, 0, 0]
