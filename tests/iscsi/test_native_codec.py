"""The native PDU codec and the one of target/iscsi say the same of the same bytes (RFC 7143 §11)."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

_pdu = pytest.importorskip("core.wire.pdu", reason="the native code is not built")

from core.wire.reactor import ClosedEvent, CommandEvent, PduEvent  # noqa: E402
from target.iscsi.codes import Opcode  # noqa: E402
from target.iscsi.framing import FramingError, PduReader  # noqa: E402
from target.iscsi.pdu import (  # noqa: E402
    R2T,
    DataIn,
    NopIn,
    NopOut,
    Pdu,
    PduError,
    RawPdu,
    Reject,
    ScsiResponse,
    TaskManagementRequest,
    TextRequest,
    decode,
    encode,
    header,
    parse_ahs,
)
from tests.support.wire import Rig, rig  # noqa: E402

u8, u24, u32 = st.integers(0, 255), st.integers(0, 2**24 - 1), st.integers(0, 2**32 - 1)
lun8 = st.binary(min_size=8, max_size=8)
residual_bits = st.sampled_from((0, 2, 4))


def sized(pdu: Pdu, length: int) -> bytes:
    """The header of `pdu` as it is in front of `length` bytes of data."""
    bhs = header(pdu)
    return bhs[:5] + length.to_bytes(3) + bhs[8:]


@given(u32, u32, u32, u24, st.booleans())
def test_data_in(itt, data_sn, offset, length, final):
    pdu = DataIn(final=final, initiator_task_tag=itt, data_sn=data_sn, buffer_offset=offset)
    assert _pdu.build_data_in(itt, data_sn, offset, length, final) == sized(pdu, length)


@given(u32, u32, u32, u24, residual_bits, u32)
def test_data_in_with_status(itt, data_sn, offset, length, bits, residual):
    pdu = DataIn(
        has_status=True, overflow=bits == 4, underflow=bits == 2, initiator_task_tag=itt, data_sn=data_sn,
        buffer_offset=offset, residual_count=residual,
    )  # fmt: skip
    assert _pdu.build_data_in_status(itt, data_sn, offset, length, bits, residual) == sized(pdu, length)


@given(lun8, u32, u32, u32, u32, u24)
def test_data_in_that_asks_for_an_acknowledgement(lun, itt, ttt, data_sn, offset, length):
    pdu = DataIn(
        acknowledge=True, lun=lun, initiator_task_tag=itt, target_transfer_tag=ttt, data_sn=data_sn, buffer_offset=offset,
    )  # fmt: skip
    assert _pdu.build_data_in_asking(lun, itt, ttt, data_sn, offset, length) == sized(pdu, length)


@given(u32, u8, u8, residual_bits, u32, u32, u24)
def test_scsi_response(itt, response, status, bits, residual, exp_data_sn, length):
    pdu = ScsiResponse(
        response=response, status=status, overflow=bits == 4, underflow=bits == 2, initiator_task_tag=itt,
        exp_data_sn=exp_data_sn, residual_count=residual,
    )  # fmt: skip
    native = _pdu.build_scsi_response(itt, response, status, bits, residual, exp_data_sn, length)
    assert native == sized(pdu, length)


@given(lun8, u32, u32, u32, u32, u32)
def test_r2t(lun, itt, ttt, r2t_sn, offset, length):
    pdu = R2T(
        lun=lun, initiator_task_tag=itt, target_transfer_tag=ttt, r2t_sn=r2t_sn, buffer_offset=offset,
        desired_data_transfer_length=length,
    )  # fmt: skip
    assert _pdu.build_r2t(lun, itt, ttt, r2t_sn, offset, length) == header(pdu)


@given(lun8, u32, u32, u24, u32, u32, u32)
def test_nop_in_and_its_numbers(lun, itt, ttt, length, stat_sn, exp_cmd_sn, max_cmd_sn):
    pdu = NopIn(
        lun=lun, initiator_task_tag=itt, target_transfer_tag=ttt, stat_sn=stat_sn, exp_cmd_sn=exp_cmd_sn,
        max_cmd_sn=max_cmd_sn,
    )  # fmt: skip
    native = _pdu.with_numbers(_pdu.build_nop_in(lun, itt, ttt, length), stat_sn, exp_cmd_sn, max_cmd_sn)
    assert native == sized(pdu, length)


@given(u8)
def test_reject(reason):
    assert _pdu.build_reject(reason) == sized(Reject(reason=reason), 48)


def some_request(rng: random.Random, cmd_sn: int) -> Pdu:
    """A PDU that the data plane hands to Python, or a NOP-Out that it answers."""
    immediate = rng.random() < 0.3
    common = {"immediate": immediate, "cmd_sn": cmd_sn, "exp_stat_sn": rng.getrandbits(32), "lun": rng.randbytes(8)}
    data = rng.randbytes(rng.choice((0, 1, 3, 4, 5, 100, 511, 4096)))
    itt = rng.randrange(1, 2**32 - 1)
    match rng.randrange(4):
        case 0:
            return TextRequest(**common, initiator_task_tag=itt, final=rng.random() < 0.5, data=data)
        case 1:
            return TaskManagementRequest(
                **common, initiator_task_tag=itt, function=rng.randrange(128), referenced_task_tag=rng.getrandbits(32),
                ref_cmd_sn=rng.getrandbits(32), exp_data_sn=rng.getrandbits(32),
            )  # fmt: skip
        case 2:
            return NopOut(**{**common, "lun": bytes(8)}, initiator_task_tag=itt, data=data)
        case _:
            return TextRequest(**{**common, "lun": bytes(8)}, initiator_task_tag=itt, data=data)


def conversation(made: Rig, seed: int, header_digest: bool, data_digest: bool) -> None:
    """Send the same bytes to the reactor and to PduReader; both must see the same PDUs."""
    rng = random.Random(seed)
    digests = {"header_digest": header_digest, "data_digest": data_digest}
    wire = made.wire(**digests, max_send_data_segment_length=8192, max_recv_data_segment_length=8192)
    stream, cmd_sn = b"", 1
    for _ in range(30):
        request = some_request(rng, cmd_sn)
        stream += encode(request, **digests)
        cmd_sn += not request.immediate
    ours = PduReader(max_data_segment_bytes=8192, **digests)
    ours.feed(stream)
    seen: list[RawPdu] = []
    while (got := ours.next_pdu()) is not None:
        seen.append(got)
    at = 0
    while at < len(stream):
        step = rng.choice((1, 47, 48, 49, 1000, 5000))
        wire.sock.sendall(stream[at : at + step])
        at += step
    nops = {raw.initiator_task_tag: raw for raw in seen if raw.opcode == 0}
    answers = PduReader(max_data_segment_bytes=8192, **digests)
    while nops:
        answers.feed(wire.sock.recv(65536))
        while (raw := answers.next_pdu()) is not None:
            answer = decode(raw)
            assert isinstance(answer, NopIn)
            assert raw.data_digest_ok
            assert answer.data == nops.pop(answer.initiator_task_tag).data
    handed = [raw for raw in seen if raw.opcode != 0]
    events = [made.event(PduEvent) for _ in handed]
    # Immediate PDUs may overtake: the same PDUs, and those with a CmdSN in order.
    assert sorted((e.opcode, e.bhs, e.data) for e in events) == sorted((r.opcode, r.bhs, r.data) for r in handed)
    numbered = [e.bhs for e in events if not e.bhs[0] & 0x40]
    assert numbered == [r.bhs for r in handed if not r.immediate]
    wire.sock.close()


@pytest.mark.parametrize(("header_digest", "data_digest"), [(False, False), (True, False), (False, True), (True, True)])
def test_both_cut_the_same_stream_into_the_same_pdus(tmp_path: Path, header_digest, data_digest):
    with rig(tmp_path / "pool") as made:
        for seed in range(5):
            conversation(made, seed, header_digest, data_digest)


@pytest.mark.parametrize(
    ("wire_bytes", "digests"),
    [
        (bytes((0x40, 0x80, 0, 0, 0, 0, 0x20, 0x01)) + bytes(40), False),  # a data segment over the limit
        (encode(NopOut(immediate=True, initiator_task_tag=1)) + bytes(4), True),  # a wrong header digest
    ],
)
def test_both_give_the_same_streams_up(tmp_path: Path, wire_bytes, digests):
    reader = PduReader(max_data_segment_bytes=8192, header_digest=digests)
    reader.feed(wire_bytes)
    with pytest.raises(FramingError):
        reader.next_pdu()
    with rig(tmp_path / "pool") as made:
        wire = made.wire(header_digest=digests, max_recv_data_segment_length=8192)
        wire.sock.sendall(wire_bytes)
        assert wire.closed()
        assert made.event(ClosedEvent).reason in ("protocol", "digest")


@pytest.mark.parametrize("ahs", ["00000100", "ffff0100"])
def test_both_refuse_a_lying_additional_header(tmp_path: Path, ahs):
    segment = bytes.fromhex(ahs)
    with pytest.raises(PduError):
        parse_ahs(segment)
    with rig(tmp_path / "pool") as made:
        wire = made.wire()
        wire.command(bytes((0x7F, 0, 0, 0, 0, 0, 0, 24)) + bytes(8), ahs=segment)
        try:
            assert wire.receive().opcode == Opcode.REJECT
        except EOFError:
            assert made.event(ClosedEvent).reason == "protocol"
        assert not [event for event in made.reactor.events() if isinstance(event, CommandEvent)]
