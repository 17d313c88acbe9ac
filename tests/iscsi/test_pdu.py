"""The PDU codec: tables hold, what is encoded decodes to the same, and hostile framing costs a FramingError only."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target.iscsi.bhs import FIELDS
from target.iscsi.digest import crc32c, digest
from target.iscsi.framing import FramingError, PduReader
from target.iscsi.pdu import PDU_TYPES, Ahs, DataIn, LoginRequest, NopOut, Pdu, PduError, RawPdu, decode, encode, raw


@st.composite
def pdus(draw: st.DrawFn) -> Pdu:
    cls = draw(st.sampled_from(list(PDU_TYPES.values())))
    defaults = {f.name: f.default for f in fields(cls)}
    values = {}
    for item in cls.wire:
        if item.is_bytes:
            values[item.name] = draw(st.binary(min_size=item.size, max_size=item.size))
        else:
            value = draw(st.integers(0, item.mask >> item.shift))
            values[item.name] = bool(value) if isinstance(defaults[item.name], bool) else value
    segment = st.one_of(
        st.builds(Ahs, st.just(1), st.binary(min_size=1, max_size=40)),
        st.builds(Ahs, st.just(2), st.binary(min_size=5, max_size=5)),
    )
    ahs = tuple(draw(st.lists(segment, max_size=3)))
    return cls(**values, data=draw(st.binary(max_size=70)), ahs=ahs)


@given(pdus(), st.booleans(), st.booleans(), st.integers(1, 60))
def test_every_pdu_survives_the_wire_in_any_pieces(pdu, header_digest, data_digest, step):
    wire = encode(pdu, header_digest=header_digest, data_digest=data_digest)
    reader = PduReader(max_data_segment_bytes=70, header_digest=header_digest, data_digest=data_digest)
    seen = []
    for at in range(0, len(wire), step):
        reader.feed(wire[at : at + step])
        while (got := reader.next_pdu()) is not None:
            seen.append(got)
    assert [decode(got) for got in seen] == [pdu]
    assert seen[0].data_digest_ok
    assert len(reader) == 0


def test_no_two_fields_of_a_pdu_share_a_bit():
    for cls in PDU_TYPES.values():
        used = 0x3F << 8 * 47 | 0xFFFFFFFF << 8 * 40
        if cls.final_always:
            used |= 0x80 << 8 * 46
        for item in cls.wire:
            bits = item.mask << 8 * (48 - item.offset - item.size)
            assert used & bits == 0, (cls.__name__, item.name)
            used |= bits


def test_known_bytes_of_a_nop_out():
    pdu = NopOut(immediate=True, initiator_task_tag=0x01020304, cmd_sn=5, exp_stat_sn=6, data=b"ping!")
    assert (
        encode(pdu)
        == bytes.fromhex("40800000 00000005 0000000000000000 01020304 ffffffff 00000005 00000006") + bytes(16) + b"ping!\0\0\0"
    )


def test_known_bytes_of_a_login_request():
    pdu = LoginRequest(transit=True, current_stage=1, next_stage=3, isid=bytes.fromhex("00023d000001"), cid=7, cmd_sn=9)
    assert encode(pdu)[:24].hex() == "438700000000000000023d00000100000000000000070000"


def test_known_bytes_of_data_in_with_status():
    pdu = DataIn(has_status=True, underflow=True, residual_count=12, data_sn=3)
    wire = encode(pdu)
    assert wire[1] == 0x83
    assert wire[44:48] == b"\0\0\0\x0c"


# RFC 7143 appendix A: CRC examples, as they appear on the wire.
@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (bytes(32), "aa36918a"),
        (b"\xff" * 32, "43aba862"),
        (bytes(range(32)), "4e79dd46"),
        (bytes(range(31, -1, -1)), "5cdb3f11"),
        (
            bytes.fromhex("01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000"),
            "563a96d9",
        ),
    ],
)
def test_crc_examples_of_the_rfc(data, wire):
    assert digest(data).hex() == wire


def test_crc_check_value():
    assert crc32c(b"123456789") == 0xE3069283


@given(st.lists(st.binary(max_size=300), max_size=20), st.booleans(), st.booleans())
def test_random_bytes_are_bounded(chunks, header_digest, data_digest):
    reader = PduReader(max_data_segment_bytes=512, header_digest=header_digest, data_digest=data_digest)
    for chunk in chunks:
        reader.feed(chunk)
        try:
            while (got := reader.next_pdu()) is not None:
                try:
                    decode(got)
                except PduError:
                    pass
        except FramingError:
            return
        assert len(reader) < 48 + 1020 + 4 + 512 + 4


def test_oversized_data_segment_is_refused_before_it_arrives():
    reader = PduReader(max_data_segment_bytes=8192)
    reader.feed(bytes((3, 0, 0, 0, 0, 0, 0x20, 0x01)) + bytes(40))
    with pytest.raises(FramingError):
        reader.next_pdu()


def test_header_digest_error_loses_the_stream():
    wire = bytearray(encode(NopOut(), header_digest=True))
    wire[20] ^= 1
    reader = PduReader(max_data_segment_bytes=0, header_digest=True)
    reader.feed(bytes(wire))
    with pytest.raises(FramingError):
        reader.next_pdu()


def test_data_digest_error_is_told_and_the_stream_goes_on():
    wire = bytearray(encode(NopOut(data=b"abc"), data_digest=True))
    wire[49] ^= 1
    reader = PduReader(max_data_segment_bytes=4, data_digest=True)
    reader.feed(bytes(wire) + encode(NopOut(cmd_sn=2)))
    first, second = reader.next_pdu(), reader.next_pdu()
    assert first is not None
    assert not first.data_digest_ok
    assert second is not None
    assert second.data_digest_ok


@pytest.mark.parametrize(
    "ahs",
    [
        "00000100",  # extended CDB of length 0
        "00040200000000",  # bidirectional length of 4
        "ffff0100",  # longer than it is
        "0001",  # cut short
    ],
)
def test_bad_additional_headers(ahs):
    with pytest.raises(PduError):
        decode(RawPdu(raw(NopOut()).bhs, bytes.fromhex(ahs), b""))


@pytest.mark.parametrize("values", [{"cmd_sn": 1 << 32}, {"lun": b"123"}, {"cmd_sn": -1}])
def test_values_that_do_not_fit_are_refused(values):
    with pytest.raises(PduError):
        encode(NopOut(**values))


def test_every_row_of_the_table_is_a_field_of_some_pdu():
    used = {item for cls in PDU_TYPES.values() for item in cls.wire}
    assert used == set(FIELDS.values())
