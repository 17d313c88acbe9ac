"""Digests of spans become rows of what differs (core/stream/hashes.pyx)."""

from __future__ import annotations

import hashlib
import struct

import pytest

from core.stream.hashes import CHUNK_BYTES, CHUNKS, SPAN_BYTES, differing, rows

DATA, ZEROS = hashlib.sha256(b"x" * CHUNK_BYTES).digest(), hashlib.sha256(bytes(CHUNK_BYTES)).digest()
BLOCKS = CHUNK_BYTES // 4096


def triples(raw: bytes) -> list[tuple[int, ...]]:
    return [struct.unpack_from("<3Q", raw, at) for at in range(0, len(raw), 24)]


def test_spans_that_differ_have_their_numbers() -> None:
    ours, theirs = DATA * 4, DATA + ZEROS + DATA + ZEROS
    assert differing(ours, theirs, 10) == [11, 13]
    assert differing(ours, ours, 0) == []


def test_chunks_that_differ_are_rows_joined_by_kind_and_cut_at_the_end() -> None:
    theirs = hashlib.sha256(b"y" * CHUNK_BYTES).digest() * CHUNKS
    ours = bytearray(theirs)
    for number, digest in ((0, DATA), (1, DATA), (2, ZEROS), (5, DATA), (CHUNKS - 1, ZEROS)):
        ours[number * 32:number * 32 + 32] = digest
    first = 3 * SPAN_BYTES // 4096
    size = 4 * SPAN_BYTES
    assert triples(rows(3, bytes(ours), theirs, size)) == [
        (first, 2 * BLOCKS, 1), (first + 2 * BLOCKS, BLOCKS, 2), (first + 5 * BLOCKS, BLOCKS, 1),
        (first + (CHUNKS - 1) * BLOCKS, BLOCKS, 2)]
    assert triples(rows(3, bytes(ours), theirs, 3 * SPAN_BYTES + CHUNK_BYTES + 4096)) == [(first, BLOCKS + 1, 1)]
    assert rows(3, bytes(ours), bytes(ours), size) == b""
    with pytest.raises(ValueError, match="as many digests"):
        rows(3, b"", b"", size)
