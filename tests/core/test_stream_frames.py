"""Frames of a stream: what is encoded comes back, and whatever is done to the bytes is met before it is believed."""

from __future__ import annotations

import hashlib
import random
import struct

import pytest

from core.base.crc32c import crc32c
from core.stream import layout
from core.stream.frame import Decoder, StreamError, encode

MIB = 1 << 20
BLOCK = 4096
SIZE = 16 * MIB
STREAM = 0x1122334455667788


def end(frames: list[bytes], *, flags: int = 0, data: int = 0, holes: int = 0, zeros: int = 0, size: int = SIZE,
        stream: int = STREAM) -> bytes:
    digest = hashlib.sha256(b"".join(each[60:64] for each in frames)).digest()
    return encode("end", stream=stream, sequence=len(frames), offset=size, flags=flags,
                  payload=struct.pack("<QQQQ", len(frames), data, holes, zeros) + digest)


def begin(sequence: int = 0, *, stream: int = STREAM, offset: int = 0) -> bytes:
    return encode("begin", stream=stream, sequence=sequence, offset=offset, span=SIZE, payload=b'{"label": "a"}')


def a_stream(*, stream: int = STREAM, compress: bool = False) -> list[bytes]:
    """A small stream with a frame of each type but ERROR."""
    payload = bytes(range(256)) * 48
    frames = [begin(stream=stream), encode("keepalive", stream=stream, sequence=1),
              encode("extents", stream=stream, sequence=2, offset=2 * BLOCK, span=10 * BLOCK, payload=payload, compress=compress,
                     extents=[(0, 2, "data"), (1, 1, "hole"), (0, 4, "zero"), (1, 1, "data")]),
              encode("mark", stream=stream, sequence=3, offset=2 * MIB),
              encode("hole", stream=stream, sequence=4, offset=4 * MIB, span=8 * MIB)]
    return [*frames, end(frames, data=len(payload), holes=8 * MIB + BLOCK, zeros=4 * BLOCK, stream=stream)]


def decode(raw: bytes, *, step: int = 1 << 30, in_order: bool = True):
    decoder = Decoder(in_order=in_order)
    found = [frame for at in range(0, len(raw), step) for frame in decoder.feed(raw[at:at + step])]
    decoder.close()
    return found


def resealed(frame: bytes, **fields: int) -> bytes:
    """The frame with other values in its header, and a checksum that fits them."""
    raw = bytearray(frame)
    for field in layout.HEADER:
        if field.name in fields:
            raw[field.offset:field.offset + field.size] = fields[field.name].to_bytes(field.size, "little")
    raw[60:64] = crc32c(bytes(raw[:60])).to_bytes(4, "little")
    return bytes(raw)


def code_of(raw: bytes, **options: bool) -> str:
    with pytest.raises(StreamError) as error:
        decode(raw, **options)
    return error.value.code


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("step", [1, 63, 64, 4096, 1 << 30])
def test_what_is_encoded_comes_back_however_it_arrives(step, compress):
    frames = decode(b"".join(a_stream(compress=compress)), step=step)
    assert [each.type for each in frames] == ["begin", "keepalive", "extents", "mark", "hole", "end"]
    assert frames[2].extents == [(0, 2, "data"), (1, 1, "hole"), (0, 4, "zero"), (1, 1, "data")]
    assert frames[2].payload == bytes(range(256)) * 48
    assert bool(frames[2].flags & layout.FLAGS["zstd"]) == compress
    assert frames[0].payload == b'{"label": "a"}'


def test_what_does_not_pack_is_stored_raw():
    noise = random.Random(1).randbytes(4 * BLOCK)
    frame = encode("extents", stream=1, sequence=0, span=4 * BLOCK, extents=[(0, 4, "data")], payload=noise, compress=True)
    assert len(frame) == 64 + 8 + len(noise)
    assert decode(frame[:0] + frame, in_order=False)[0].payload == noise


def test_every_cut_is_met():
    raw = b"".join(a_stream())
    boundaries = [0]
    for each in a_stream():
        boundaries.append(boundaries[-1] + len(each))
    cuts = {*boundaries[:-1], *random.Random(2).sample(range(len(raw)), 1000)}
    assert {code_of(raw[:cut]) for cut in cuts} == {"truncated"}


@pytest.mark.parametrize("number", range(6))
def test_every_bit_of_every_header_is_guarded(number):
    frames = a_stream()
    for bit in range(64 * 8):
        raw = bytearray(frames[number])
        raw[bit // 8] ^= 1 << bit % 8
        assert code_of(b"".join([*frames[:number], bytes(raw), *frames[number + 1:]])) in ("header", "foreign"), bit


def test_every_byte_of_a_body_is_guarded():
    frames = a_stream(compress=True)
    for at in range(64, len(frames[2])):
        raw = bytearray(frames[2])
        raw[at] ^= 0x10
        assert code_of(b"".join([*frames[:2], bytes(raw), *frames[3:]])) == "body"


@pytest.mark.parametrize("number", range(6))
def test_a_frame_is_dropped_doubled_swapped_or_of_another_stream(number):
    frames, others = a_stream(), a_stream(stream=7)
    dropped = [*frames[:number], *frames[number + 1:]]
    assert code_of(b"".join(dropped)) == ("truncated" if number == 5 else "order")
    assert code_of(b"".join([*frames[:number + 1], *frames[number:]])) == "order"
    assert code_of(b"".join([*frames[:number], others[number], *frames[number + 1:]])) == "stream"
    if number < 5:
        swapped = [*frames[:number], frames[number + 1], frames[number], *frames[number + 2:]]
        assert code_of(b"".join(swapped)) == "order"


def test_a_lost_frame_is_missed_by_the_end_also_where_numbers_are_made_to_fit():
    frames = a_stream()
    shorter = [*frames[:4], resealed(frames[5], sequence=4)]
    assert code_of(b"".join(shorter)) == "order"


@pytest.mark.parametrize(("number", "fields", "code"), [
    (0, {"version": 2}, "newer"), (0, {"version": 0}, "malformed"), (0, {"reserved": 1}, "malformed"),
    (0, {"flags": 0x81}, "malformed"), (2, {"flags": 5}, "malformed"), (4, {"flags": 3}, "malformed"),
    (0, {"offset": SIZE + BLOCK}, "malformed"), (0, {"span": 1 << 60}, "malformed"),
    (2, {"offset": 100}, "malformed"), (2, {"span": 4 * MIB}, "malformed"), (2, {"span": 0}, "malformed"),
    (2, {"offset": 2 * MIB - BLOCK, "span": 2 * BLOCK}, "malformed"), (2, {"extents": 0}, "malformed"),
    (2, {"extents": 513}, "malformed"), (2, {"extents": 5}, "malformed"), (2, {"extents": 3}, "malformed"),
    (2, {"span": 9 * BLOCK}, "malformed"), (2, {"raw_bytes": 1 << 31, "stored_bytes": 1 << 31}, "malformed"),
    (2, {"offset": 1 << 40}, "order"), (3, {"span": BLOCK}, "malformed"), (3, {"offset": 0}, "order"),
    (3, {"offset": SIZE + BLOCK}, "order"), (4, {"span": 0}, "malformed"), (4, {"span": 1 << 40}, "order"),
    (4, {"offset": 0}, "order"), (5, {"offset": 0}, "order"), (1, {"type": 99}, "unknown"), (1, {"type": 7}, "malformed"),
    (1, {"type": 1}, "order"), (1, {"offset": BLOCK}, "malformed"),
])
def test_headers_that_are_sealed_and_say_what_cannot_be(number, fields, code):
    frames = a_stream()
    frames[number] = resealed(frames[number], **fields)
    assert code_of(b"".join(frames)) == code


def test_an_unknown_frame_is_skipped_unless_it_is_critical():
    frames = a_stream()[:5]
    unknown = resealed(frames[1], type=42, flags=0, offset=123, reserved=9)
    whole = [frames[0], unknown, *frames[2:]]
    whole.append(end(whole, data=12288, holes=8 * MIB + BLOCK, zeros=4 * BLOCK))
    assert [each.type for each in decode(b"".join(whole))] == ["begin", "extents", "mark", "hole", "end"]
    assert code_of(b"".join([frames[0], resealed(frames[1], type=42)])) == "unknown"


def test_a_body_unpacks_to_what_its_header_says_and_no_more():
    bomb = encode("extents", stream=1, sequence=0, span=2 * MIB, extents=[(0, 512, "data")], payload=bytes(2 * MIB),
                  compress=True)
    assert len(bomb) < 4096
    for raw_bytes in (8 + BLOCK, 8 + 2 * MIB - 1):
        assert code_of(resealed(bomb, raw_bytes=raw_bytes), in_order=False) == "packed"
    assert code_of(resealed(bomb, raw_bytes=layout.MAX_BODY_BYTES), in_order=False) == "packed"


def test_more_snapshots_follow_in_one_stream():
    frames = [begin(), encode("mark", stream=STREAM, sequence=1, offset=SIZE)]
    frames.append(end(frames, flags=layout.FLAGS["more"]))
    frames.append(begin(3, offset=BLOCK))
    frames.append(end(frames))
    assert [each.type for each in decode(b"".join(frames))] == ["begin", "mark", "end", "begin", "end"]
    assert code_of(b"".join(frames[:3])) == "truncated"
    assert code_of(b"".join([*frames, begin(5)])) == "order"


def test_random_bytes_are_no_stream():
    noise = random.Random(3)
    for _ in range(300):
        assert code_of(noise.randbytes(noise.randrange(64, 300))) == "foreign"
        assert code_of(b"LNTS" + noise.randbytes(noise.randrange(60, 300))) == "header"
