"""The data plane's PDU codec and the front-end's agree on the same bytes (RFC 7143 §11); the CDB decoder (SBC-4 §5)."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.wire import pdu as native
from target.iscsi.pdu import R2T, DataIn, NopIn, Pdu, RawPdu, Reject, ScsiResponse, decode, encode

u8, u32, u24 = st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**24 - 1)
lun = st.binary(min_size=8, max_size=8)
RESIDUALS = {0: {}, 2: {"underflow": True}, 4: {"overflow": True}}
residual_flags = st.sampled_from(sorted(RESIDUALS))


def bhs(pdu: Pdu, length: int) -> bytes:
    """What the front-end's codec writes, with a DataSegmentLength of its own (the data itself may be 16 MiB)."""
    wire = encode(pdu)[:48]
    return wire[:5] + length.to_bytes(3, "big") + wire[8:]


@given(u32, u32, u32, u24, st.booleans())
def test_data_in(itt: int, sn: int, offset: int, length: int, final: bool) -> None:
    made = native.build_data_in(itt, sn, offset, length, final)
    assert made == bhs(DataIn(initiator_task_tag=itt, data_sn=sn, buffer_offset=offset, final=final), length)


@given(u32, u32, u32, u24, residual_flags, u32, u32, u32, u32)
def test_data_in_with_status(itt, sn, offset, length, flags, residual, stat_sn, exp_cmd_sn, max_cmd_sn) -> None:
    made = native.with_numbers(native.build_data_in_status(itt, sn, offset, length, flags, residual),
                               stat_sn, exp_cmd_sn, max_cmd_sn)
    want = DataIn(initiator_task_tag=itt, data_sn=sn, buffer_offset=offset, has_status=True, residual_count=residual,
                  stat_sn=stat_sn, exp_cmd_sn=exp_cmd_sn, max_cmd_sn=max_cmd_sn, **RESIDUALS[flags])
    assert made == bhs(want, length)
    assert decode(RawPdu(made, b"", b"")) == want


@given(u32, u8, u8, residual_flags, u32, u32, u24)
def test_scsi_response(itt, response, status, flags, residual, exp_data_sn, length) -> None:
    made = native.build_scsi_response(itt, response, status, flags, residual, exp_data_sn, length)
    want = ScsiResponse(initiator_task_tag=itt, response=response, status=status, residual_count=residual,
                        exp_data_sn=exp_data_sn, **RESIDUALS[flags])
    assert made == bhs(want, length)
    assert decode(RawPdu(made, b"", b"")) == want


@given(lun, u32, u32, u32, u32, u32)
def test_r2t(lun, itt, ttt, sn, offset, length) -> None:
    made = native.build_r2t(lun, itt, ttt, sn, offset, length)
    want = R2T(lun=lun, initiator_task_tag=itt, target_transfer_tag=ttt, r2t_sn=sn, buffer_offset=offset,
               desired_data_transfer_length=length)
    assert made == bhs(want, 0)
    assert decode(RawPdu(made, b"", b"")) == want


@given(lun, u32, u32, u24)
def test_nop_in(lun, itt, ttt, length) -> None:
    assert native.build_nop_in(lun, itt, ttt, length) == bhs(
        NopIn(lun=lun, initiator_task_tag=itt, target_transfer_tag=ttt), length)


@given(u8)
def test_reject(reason: int) -> None:
    assert native.build_reject(reason) == bhs(Reject(reason=reason), 48)


@pytest.mark.parametrize(("cdb", "want"), [
    (bytes(6), (4, 0, 0, 0)),
    (bytes.fromhex("081f234500000000"), (1, 0x1F2345 & 0x1FFFFF, 256, 0)),
    (bytes.fromhex("0a0000017f00"), (2, 1, 127, 0)),
    (bytes.fromhex("28080000010000ffff00"), (1, 0x100, 0xFFFF, 1)),
    (bytes.fromhex("2a100000010000000200"), (2, 0x100, 2, 0)),
    (bytes.fromhex("a800ffffffff000100000000"), (1, 0xFFFFFFFF, 0x10000, 0)),
    (bytes.fromhex("aa18ffffffff000100000000"), (2, 0xFFFFFFFF, 0x10000, 1)),
    (struct.pack(">BBQIBB", 0x88, 0, 2**63 + 5, 2**31, 0, 0), (1, 2**63 + 5, 2**31, 0)),
    (struct.pack(">BBQIBB", 0x8A, 8, 7, 9, 0x1F, 0), (2, 7, 9, 1)),
    (struct.pack(">BBIBHB", 0x35, 0, 7, 0, 9, 0), (3, 7, 9, 0)),
    (struct.pack(">BBQIBB", 0x91, 0, 7, 9, 0, 0), (3, 7, 9, 0)),
    (struct.pack(">BBIBHB", 0x35, 2, 7, 0, 9, 0), (0, 0, 0, 0)),        # IMMED
    (struct.pack(">BBIBHB", 0x28, 0x20, 7, 0, 9, 0), None),             # RDPROTECT
    (struct.pack(">BBQIBB", 0x8A, 0xE0, 7, 9, 0, 0), None),             # WRPROTECT
    (struct.pack(">BBIBHB", 0x2A, 0, 7, 0, 9, 4), None),                # NACA
    (b"\x2e" + bytes(9), None), (b"\x12" + bytes(5), None), (b"\x7f" + bytes(15), None), (b"\x89" + bytes(15), None),
])
def test_cdbs_of_the_fast_path(cdb: bytes, want: tuple[int, int, int, int] | None) -> None:
    assert native.decode_cdb(cdb.ljust(16, b"\0"))[0 if want is None else slice(None)] == (0 if want is None else want)


@given(st.binary(min_size=16, max_size=16))
def test_only_what_may_be_fast_is_fast(cdb: bytes) -> None:
    kind, lba, blocks, _ = native.decode_cdb(cdb)
    assert (kind == 0) or cdb[0] in (0x00, 0x08, 0x28, 0x88, 0xA8, 0x0A, 0x2A, 0x8A, 0xAA, 0x35, 0x91)
    assert 0 <= lba < 2**64
    assert 0 <= blocks < 2**32


@pytest.mark.parametrize(("field", "number"), [
    ("0000000000000000", 0), ("00ff000000000000", 255), ("4100000000000000", 256), ("7fff000000000000", 16383),
    ("4003000000000000", 3), ("8001000000000000", -1), ("c101000000000000", -1), ("0001000000000001", -1),
    ("0101000000000000", 257), ("012c000000000000", 300), ("3fff000000000000", 16383), ("0101000000000001", -1),
])
def test_lun_fields(field: str, number: int) -> None:
    assert native.decode_lun(bytes.fromhex(field)) == number


@given(u32, st.integers(1, 2**31 - 1))
def test_serial_numbers_wrap(a: int, step: int) -> None:
    b = (a + step) % 2**32
    assert native.serial_less(a, b)
    assert not native.serial_less(b, a)
    assert not native.serial_less(a, a)
