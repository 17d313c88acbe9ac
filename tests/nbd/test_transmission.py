"""Requests judged and replies packed, without sockets."""

from __future__ import annotations

import struct

import pytest

from target.nbd import codes, transmission
from target.nbd.codes import Command, CommandFlag, Error
from target.nbd.handshake import Export, ProtocolError
from target.nbd.transmission import Requests

MIB = 1 << 20
EXPORT = Export("v@b", 64 * MIB)


def requests(*, structured: bool = True, has_contexts: bool = True) -> Requests:
    return Requests(EXPORT, structured=structured, has_contexts=has_contexts)


def raw(command: int, offset: int = 0, length: int = 4096, flags: int = 0, cookie: int = 9) -> bytes:
    return codes.REQUEST.pack(codes.REQUEST_MAGIC, flags, command, cookie, offset, length)


@pytest.mark.parametrize(("command", "offset", "length", "flags", "error"), [
    (Command.READ, 0, 32 * MIB, 0, None), (Command.READ, 64 * MIB - 1, 1, CommandFlag.DF, None),
    (Command.READ, 0, 32 * MIB + 1, 0, Error.EOVERFLOW), (Command.READ, 0, 0, 0, Error.EINVAL),
    (Command.READ, 64 * MIB - 1, 2, 0, Error.EINVAL), (Command.READ, (1 << 64) - 1, 1, 0, Error.EINVAL),
    (Command.READ, 0, 1, CommandFlag.REQ_ONE, Error.EINVAL), (Command.READ, 0, 1, 0x8000, Error.EINVAL),
    (Command.WRITE, 0, 0, 0, Error.EPERM), (Command.TRIM, 0, 1, 0, Error.EPERM),
    (Command.WRITE_ZEROES, 0, 1, CommandFlag.NO_HOLE, Error.EPERM), (Command.FLUSH, 0, 0, 0, Error.EINVAL),
    (Command.CACHE, 0, 1, 0, Error.EINVAL), (8, 0, 1, 0, Error.EINVAL), (999, 0, 1, 0, Error.EINVAL),
    (Command.BLOCK_STATUS, 0, 64 * MIB, CommandFlag.REQ_ONE, None), (Command.BLOCK_STATUS, 1, 64 * MIB, 0, Error.EINVAL),
    (Command.DISC, 0, 0, 0, None),
])
def test_each_request_is_judged(command, offset, length, flags, error):
    (found,) = requests().receive(raw(command, offset, length, flags))
    assert (found.error, found.cookie) == (error, 9)


def test_what_was_not_negotiated_is_refused():
    assert next(requests(has_contexts=False).receive(raw(Command.BLOCK_STATUS))).error is Error.EINVAL
    assert next(requests(structured=False).receive(raw(Command.READ, flags=CommandFlag.DF))).error is Error.EINVAL
    assert next(requests(structured=False).receive(raw(Command.READ, length=33 * MIB))).error is Error.EINVAL


def test_the_payload_of_a_write_is_thrown_away_however_it_comes():
    stream = raw(Command.WRITE, 0, 5000) + bytes(5000) + raw(Command.READ, 4096, 1, cookie=10)
    for size in (1, 7, 1000, len(stream)):
        parser, found = requests(), []
        for at in range(0, len(stream), size):
            found += parser.receive(stream[at:at + size])
        assert [(each.command, each.error) for each in found] == [(Command.WRITE, Error.EPERM), (Command.READ, None)]


def test_a_request_without_its_magic_ends_the_connection():
    with pytest.raises(ProtocolError):
        list(requests().receive(b"\0" * 28))


@pytest.mark.parametrize(("skip", "length", "one", "expected"), [
    (0, 12288, False, [(4096, 0), (8192, 3)]), (100, 12188, False, [(3996, 0), (8192, 3)]),
    (100, 5000, False, [(3996, 0), (1004, 3)]),
    (0, 4096, False, [(4096, 0)]), (0, 100, False, [(100, 0)]), (0, 12288, True, [(4096, 0)]), (10, 20, True, [(20, 0)]),
])
def test_descriptors_begin_and_end_where_they_are_asked_for(skip, length, one, expected):
    runs = struct.pack("<4I", 4096, 0, 8192, 3)
    found = transmission.descriptors(runs, skip, length, one=one)
    assert list(struct.iter_unpack(">II", found)) == expected


def test_chunks_say_how_long_they_are():
    for chunk in (transmission.status_chunk(1, 2, bytes(16), done=True), transmission.error_chunk(1, Error.EIO, "no")):
        *_, length = codes.CHUNK.unpack_from(chunk)
        assert len(chunk) == codes.CHUNK.size + length
