"""INQUIRY, vital product data, REPORT LUNS, modes, logs and what is supported say the truth (SPC-4 §6, §7)."""

from __future__ import annotations

import pytest

from target.scsi import Identity, LogicalUnit
from target.scsi import lun as lun_number
from target.scsi.designators import naa
from target.scsi.mode_pages import PAGES as MODE_PAGES
from target.scsi.sense import Sense, SenseKey
from target.scsi.vpd import PAGES as VPD_PAGES
from tests.support.scsi_memory import TARGET_NAME, MemoryBackend, World, field_pointer, initiator, sense_of


def vpd(world: World, page: int, **more: int) -> bytes:
    return world.run(f"12 01 {page:02x} 0400 00", **more).data_in


def designators(page: bytes) -> dict[tuple[int, int], bytes]:
    """(Association, type) to designator."""
    out, at = {}, 4
    while at < len(page):
        out[page[at + 1] >> 4 & 3, page[at + 1] & 0x0F] = page[at + 4:at + 4 + page[at + 3]]
        at += 4 + page[at + 3]
    assert at == len(page)
    return out


def test_standard_inquiry() -> None:
    world = World()
    data = world.run("12 00 00 0100 00").data_in
    assert data[:8] == b"\x00\x00\x06\x12\x5b\x38\x00\x02"
    assert data[8:36] == b"LUNETTE VOLUME          0001"
    assert (data[4] + 5, data[58:66].hex()) == (len(data), "00a00961046004c0")
    world.target.open_nexus(world.nexuses[0], {0: world.unit}, protocol_level=2)
    assert world.run("12 00 00 0100 00").data_in[60:62].hex() == "0962"       # RFC 7144 §4.2


@pytest.mark.parametrize("length", [0, 1, 4, 5, 36, 95, 96, 97, 65535])
def test_inquiry_is_cut_at_the_allocation_length(length: int) -> None:
    assert len(World().run(f"12 00 00 {length:04x} 00").data_in) == min(length, 96)


def test_every_listed_page_exists_and_no_other() -> None:
    world = World()
    listed = vpd(world, 0)[4:]
    assert list(listed) == sorted(VPD_PAGES)
    for code in range(256):
        result = world.run(f"12 01 {code:02x} 0400 00")
        if code in VPD_PAGES:
            assert result.data_in[1] == code
            assert int.from_bytes(result.data_in[2:4], "big") == len(result.data_in) - 4
        else:
            assert (sense_of(result), field_pointer(result)[1]) == ((5, 0x2400), 2)
    assert sense_of(world.run("12 00 01 0100 00")) == (5, 0x2400)


def test_device_identification() -> None:
    world = World(ports=2)
    found = designators(vpd(world, 0x83))
    serial = "01" * 16
    assert found[0, 3] == bytes.fromhex("6024c4e" + serial[:25])
    assert found[0, 1] == b"LUNETTE " + serial.encode()
    assert (0, 8) not in found      # some initiators would name the disk by it
    assert found[1, 4] == b"\0\0\0\x01"
    assert found[1, 5] == b"\0\0\0\x01"
    assert found[1, 8].rstrip(b"\0") == f"{TARGET_NAME},t,0x0001".encode()
    assert found[2, 8].rstrip(b"\0") == TARGET_NAME.encode()
    other = initiator(1, port=2)
    world.login(other)
    assert designators(world.run("12 01 83 0400 00", nexus=other).data_in)[1, 4] == b"\0\0\0\x02"
    assert vpd(world, 0x80)[4:] == serial.encode()


def test_identities_differ_early_and_are_stable() -> None:
    first, second = Identity("a" * 32), Identity("ab" + "a" * 30)
    assert naa(first) != naa(second)
    assert naa(first) == naa(Identity("A" * 32))
    with pytest.raises(ValueError, match="32 hex"):
        Identity("xyz")


def test_block_limits_state_what_is_enforced() -> None:
    page = vpd(World(), 0xB0)
    assert page[3] == 0x3C
    assert page[5] == 128
    assert int.from_bytes(page[6:8], "big") == 8
    assert int.from_bytes(page[8:12], "big") == (8 << 20) // 512
    assert int.from_bytes(page[20:24], "big") == 0xFFFFFFFF
    assert int.from_bytes(page[24:28], "big") == 256
    assert vpd(World(), 0xB2)[4:8] == b"\x0b\xe4\x02\x00"


def test_a_lun_that_is_not_there() -> None:
    world = World()
    assert world.run("12 00 00 0060 00", lun=9).data_in[0] == 0x7F
    assert list(vpd(world, 0, lun=9)[4:]) == [0x00, 0x83, 0x86, 0x87, 0x88]
    assert sense_of(world.run("00 00 00 00 00 00", lun=9)) == (5, 0x2500)
    assert sense_of(world.run("28 00 00000000 00 0001 00", lun=9)) == (5, 0x2500)
    told = world.run("03 00 0000 ff 00", lun=9)
    assert (told.status, told.data_in[2], told.data_in[12:14]) == (0, 5, b"\x25\x00")
    assert world.run("a0 00 00 000000 00000100 00 00", lun=9).data_in[:4] == b"\0\0\0\x08"


def test_report_luns_lists_what_this_nexus_reaches_and_no_more() -> None:
    world = World(MemoryBackend(), MemoryBackend(), nexuses=2)
    world.target.detach(world.nexuses[1], 0)
    world.hush()
    world.target.attach(world.nexuses[0], 300, world.units[1])
    data = world.run("a0 00 00 000000 00000100 00 00").data_in
    assert data[8:].hex() == "0000000000000000" "0001000000000000" "412c000000000000"
    data = world.run("a0 00 00 000000 00000100 00 00", nexus=world.nexuses[1]).data_in
    assert data[8:].hex() == "0001000000000000"
    assert world.run("a0 00 01 000000 00000100 00 00").data_in[8:].hex() == "c101000000000000"
    assert len(world.run("a0 00 02 000000 00000100 00 00").data_in) == 8 + 4 * 8
    assert sense_of(world.run("a0 00 05 000000 00000100 00 00")) == (5, 0x2400)
    assert sense_of(world.run("a0 00 00 000000 0000000f 00 00")) == (5, 0x2400)


def test_lun_fields() -> None:
    for number in (0, 1, 255, 256, 16383):
        assert lun_number.decode(lun_number.encode(number)) == number
        assert lun_number.decode(number << 48) == number    # as libiscsi writes it
    for field in (1, 0x8000 << 48, lun_number.WLUN_REPORT_LUNS, (1 << 64) - 1):
        assert lun_number.decode(field) is None
    assert lun_number.decode(0x4001 << 48) == 1
    with pytest.raises(ValueError, match="16384"):
        lun_number.encode(16384)


# -- modes -------------------------------------------------------------------------------------------------------------
def mode_page(world: World, page: int, control: int = 0, subpage: int = 0) -> bytes:
    data = world.run(f"5a 08 {control << 6 | page:02x} {subpage:02x} 000000 ffff 00").data_in
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    return data[8:]


def select(world: World, page: bytes, save: bool = False, **more: object) -> object:
    data = bytes(8) + page
    return world.run(f"55 {0x11 if save else 0x10:02x} 0000000000 {len(data):04x} 00", data, **more)  # type: ignore[arg-type]


def test_all_pages_at_once_are_each_page_alone() -> None:
    world = World()
    alone = b"".join(mode_page(world, key.code, subpage=key.subcode) for key in sorted(MODE_PAGES))
    assert mode_page(world, 0x3F, subpage=0xFF) == alone
    short = world.run("1a 00 3f ff ff 00").data_in
    assert short[0] == len(short) - 1
    assert short[2:4] == b"\x10\x08"
    assert short[4:12] == (2048).to_bytes(4, "big") + b"\0\0\x02\x00"
    long = world.run("5a 10 08 00 000000 00ff 00").data_in
    assert long[4:8] == b"\x01\x00\x00\x10"
    assert long[8:24] == (2048).to_bytes(8, "big") + bytes(4) + (512).to_bytes(4, "big")
    assert sense_of(world.run("5a 08 3e 00 000000 ffff 00")) == (5, 0x2400)
    assert sense_of(world.run("5a 08 0a 07 000000 ffff 00")) == (5, 0x2400)


def test_write_protection_shows_and_can_be_set() -> None:
    world = World(nexuses=2)
    assert World(MemoryBackend(read_only=True)).run("1a 08 08 00 ff 00").data_in[2] == 0x90
    page = bytearray(mode_page(world, 0x0A))
    page[4] |= 0x08
    assert select(world, bytes(page)).status == 0
    assert world.run("1a 08 08 00 ff 00").data_in[2] == 0x90
    assert sense_of(world.run("2a 00 00000000 00 0001 00", b"x" * 512)) == (7, 0x2702)
    assert sense_of(world.run("00 00 00 00 00 00", nexus=world.nexuses[1])) == (6, 0x2A01)


def test_descriptor_sense() -> None:
    world = World()
    page = bytearray(mode_page(world, 0x0A))
    page[2] |= 0x04
    select(world, bytes(page))
    result = world.run("28 00 ffffffff 00 0001 00")
    assert result.sense[:8] == b"\x72\x05\x21\x00\x00\x00\x00\x00"
    field = world.run("28 20 00000000 00 0001 00").sense
    assert field[:8] == b"\x72\x05\x24\x00\x00\x00\x00\x08"
    assert field[8:] == b"\x02\x06\x00\x00\xcd\x00\x01\x00"


def test_only_changeable_bits_change() -> None:
    world = World()
    for key in MODE_PAGES:
        changeable = mode_page(world, key.code, control=1, subpage=key.subcode)
        current = mode_page(world, key.code, subpage=key.subcode)
        header = 4 if key.subcode else 2
        for index in range(header, len(current)):
            for bit in range(8):
                page = bytearray(current)
                page[index] ^= 1 << bit
                result = select(world, bytes(page))
                if changeable[index] >> bit & 1:
                    assert result.status == 0
                    assert mode_page(world, key.code, subpage=key.subcode)[index] == page[index]
                    select(world, current)
                else:
                    assert sense_of(result) == (5, 0x2600), (key, index, bit)
                    assert field_pointer(result) == (False, 8 + index, bit)


@pytest.mark.parametrize("page", [b"\x08\x11" + bytes(17), b"\x08\x12" + bytes(3), b"\x3e\x02\0\0", b"\x48\x00\x00\x00",
                                  b"\x08", b"\x5c\x02\xff\xff"])
def test_broken_pages_are_refused(page: bytes) -> None:
    assert sense_of(select(World(), page))[1] in (0x2600, 0x1A00)


def test_mode_select_headers() -> None:
    world = World()
    assert world.run("15 10 00 00 00 00").status == 0
    assert sense_of(world.run("15 10 00 00 03 00", bytes(3))) == (5, 0x1A00)
    assert sense_of(world.run("15 00 00 00 04 00", bytes(4))) == (5, 0x2400)
    assert world.run("15 10 00 00 0c 00", b"\0\0\0\x08" + bytes(5) + b"\0\x02\0").status == 0
    assert sense_of(world.run("15 10 00 00 0c 00", b"\0\0\0\x08" + bytes(5) + b"\0\x10\0")) == (5, 0x2600)
    assert sense_of(world.run("15 10 00 00 0c 00", b"\0\0\0\x09" + bytes(8))) == (5, 0x2600)


def test_saved_pages_survive_reset_and_restart() -> None:
    world = World()
    off = bytes([0x08, 18]) + bytes(18)
    select(world, off)
    assert world.hooks.kept == []
    world.unit.reset()
    assert world.unit.mode.write_cache_enabled
    world.hush()
    select(world, off, save=True)
    world.unit.reset()
    assert not world.unit.mode.write_cache_enabled
    again = LogicalUnit(world.unit.identity, world.backend, state=world.hooks.kept[-1])
    assert not again.mode.write_cache_enabled
    for state in (b"junk", b"{}", b'{"version":9}', b'{"version":1,"mode":{"08.00":"ff"},"reservations":{},"identifying":""}'):
        with pytest.raises(ValueError):  # noqa: PT011
            LogicalUnit(world.unit.identity, world.backend, state=state)


# -- logs --------------------------------------------------------------------------------------------------------------
def test_log_pages() -> None:
    world = World()

    def log(page: int, subpage: int = 0, pointer: int = 0) -> bytes:
        return world.run(f"4d 00 {0x40 | page:02x} {subpage:02x} 00 {pointer:04x} 0400 00").data_in

    assert log(0) == b"\x00\x00\x00\x04\x00\x0c\x19\x2f"
    assert log(0, 0xFF)[:8] == b"\x40\xff\x00\x0a\x00\x00\x00\xff"
    performance = log(0x19)
    assert performance[8:40] == b"".join(n.to_bytes(8, "big") for n in (1, 2, 4, 3))
    assert log(0x19, pointer=3)[4:] == b"\x00\x03\x03\x08" + (3).to_bytes(4, "big") + (1).to_bytes(4, "big")
    assert int.from_bytes(log(0x0C)[8:12], "big") == 1 << 20
    assert sense_of(world.run("4d 00 4d 00 00 0000 0400 00")) == (5, 0x2400)
    assert sense_of(world.run("4d 00 59 00 00 0009 0400 00")) == (5, 0x2400)
    assert sense_of(world.run("4d 01 59 00 00 0000 0400 00")) == (5, 0x2400)


# -- the rest ----------------------------------------------------------------------------------------------------------
def test_identifying_information_and_timestamp() -> None:
    world = World()
    assert world.run("a4 06 00000000 00000005 00 00", b"rack7").status == 0
    assert world.run("a3 05 00000000 000000ff 00 00").data_in == b"\0\0\0\x05rack7"
    assert b"7261636b37" in world.hooks.kept[-1]
    assert sense_of(world.run("a4 06 00000000 00000101 00 00", bytes(257))) == (5, 0x2400)
    assert len(world.run("a3 0f 00000000 000000ff 00 00").data_in) == 12


def test_diagnostics() -> None:
    assert World().run("1d 04 00 0000 00").status == 0
    world = World()
    world.backend.fail["read"] = "io_read"
    assert sense_of(world.run("1d 04 00 0000 00")) == (3, 0x1100)
    assert sense_of(World().run("1d 20 00 0000 00")) == (5, 0x2400)
    assert World().run("1c 01 00 00ff 00").data_in == b"\0\0\0\x01\0"


def test_sense_encodings() -> None:
    sense = Sense(SenseKey.MISCOMPARE, 0x1D00, information=1 << 33, command_specific=5, progress=0x8000)
    fixed, described = sense.encode(), sense.encode(descriptor=True)
    assert fixed[0] == 0x70                                   # the information does not fit
    assert fixed[8:12] == b"\0\0\0\x05"
    assert fixed[15:18] == b"\x80\x80\x00"
    assert described[7] == len(described) - 8 == 32
    assert described[8:20] == b"\x00\x0a\x80\x00" + (1 << 33).to_bytes(8, "big")


def test_the_well_known_unit_reports_luns() -> None:
    world = World()
    nexus = world.nexuses[0]
    from target.scsi import Command, execute

    def ask(cdb: str) -> object:
        import asyncio
        raw = bytes.fromhex(cdb).ljust(16, b"\0")
        return asyncio.run(execute(world.target, nexus, Command(lun_number.WLUN_REPORT_LUNS, raw)))

    assert ask("12 00 00 0060 00").data_in[0] == 0x1E  # type: ignore[attr-defined]
    assert ask("00 00 00 0000 00").status == 0  # type: ignore[attr-defined]
    assert ask("a0 00 00 000000 00000100 00 00").data_in[8:] == bytes(8)  # type: ignore[attr-defined]
    assert ask("28 00 00000000 00 0001 00").status == 2  # type: ignore[attr-defined]
