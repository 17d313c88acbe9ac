"""Transmission: requests out of bytes, each judged, and replies into bytes (docs/export.md, "Requests").

Nothing of an export is read here. What a client may make us keep is one incomplete request; the payload of a write, which is
refused, is thrown away as it comes.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from target.nbd import codes
from target.nbd.codes import Chunk, ChunkFlag, Command, CommandFlag, Error
from target.nbd.handshake import Export, ProtocolError

# Flags that a client may set with each command.
COMMAND_FLAGS = {
    Command.READ: CommandFlag.DF | CommandFlag.FUA,
    Command.WRITE: CommandFlag.FUA,
    Command.DISC: CommandFlag(0),
    Command.TRIM: CommandFlag.FUA,
    Command.WRITE_ZEROES: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
    Command.BLOCK_STATUS: CommandFlag.REQ_ONE | CommandFlag.FUA,
}
CHANGES = (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)     # refused with EPERM: exports are read-only


class Request(NamedTuple):
    """What a client asks; with an `error` it is answered by that alone."""

    command: int
    flags: int
    cookie: int
    offset_bytes: int
    length_bytes: int
    error: Error | None = None


class Requests:
    """The requests of one connection, out of its bytes."""

    def __init__(self, export: Export, *, structured: bool, has_contexts: bool) -> None:
        self._export = export
        self._structured = structured
        self._has_contexts = has_contexts
        self._input = bytearray()
        self._unwanted = 0          # bytes of a write's payload that are still to come

    def receive(self, data: bytes) -> Iterator[Request]:
        """Take in bytes; the requests that they complete. ProtocolError: the connection must end."""
        self._input += data
        while True:
            if self._unwanted:
                gone = min(self._unwanted, len(self._input))
                del self._input[:gone]
                self._unwanted -= gone
            if self._unwanted or len(self._input) < codes.REQUEST.size:
                return
            magic, flags, command, cookie, offset, length = codes.REQUEST.unpack_from(self._input)
            if magic != codes.REQUEST_MAGIC:
                raise ProtocolError("a request does not begin with its magic")
            del self._input[:codes.REQUEST.size]
            if command == Command.WRITE:
                self._unwanted = length
            request = Request(command, flags, cookie, offset, length)
            yield request._replace(error=self._judge(request))

    def _judge(self, request: Request) -> Error | None:
        """Why a request is refused; None: it is to be done."""
        allowed = COMMAND_FLAGS.get(Command(request.command)) if request.command in COMMAND_FLAGS else None
        if allowed is None:
            return Error.EINVAL
        if request.command in CHANGES:
            return Error.EPERM
        if request.flags & ~int(allowed) or (request.flags & CommandFlag.DF and not self._structured):
            return Error.EINVAL
        if request.command == Command.DISC:
            return None
        if request.offset_bytes + request.length_bytes > self._export.size_bytes or not request.length_bytes:
            return Error.EINVAL
        if request.command == Command.BLOCK_STATUS and not self._has_contexts:
            return Error.EINVAL
        if request.command == Command.READ and request.length_bytes > self._export.maximum_bytes:
            return Error.EOVERFLOW if self._structured else Error.EINVAL
        return None


def simple_reply(cookie: int, error: int = 0) -> bytes:
    """A reply that is no chunk."""
    return codes.SIMPLE_REPLY.pack(codes.SIMPLE_REPLY_MAGIC, error, cookie)


def status_chunk(cookie: int, context_id: int, descriptors: bytes, *, done: bool) -> bytes:
    """A context's descriptors (see `descriptors`)."""
    header = _chunk(cookie, Chunk.BLOCK_STATUS, codes.CONTEXT.size + len(descriptors), done)
    return header + codes.CONTEXT.pack(context_id) + descriptors


def error_chunk(cookie: int, error: int, message: str = "") -> bytes:
    """An error of a whole request."""
    text = message.encode()[:1024]
    body = codes.ERROR.pack(error, len(text)) + text
    return _chunk(cookie, Chunk.ERROR, len(body), True) + body


def descriptors(runs: bytes, skip_bytes: int, length_bytes: int, *, one: bool = False) -> bytes:
    """Runs (pairs of u32 length and state, little-endian) as a context's descriptors.

    They begin `skip_bytes` behind the first run's start, and end at most `length_bytes` after that.
    """
    pairs = array("I", runs)
    assert pairs.itemsize == 4
    if sys.byteorder == "big":
        pairs.byteswap()
    pairs[0] -= skip_bytes
    if one:
        pairs = pairs[:2]
    excess = sum(pairs[0::2]) - length_bytes
    while excess > 0:
        cut = min(excess, pairs[-2])
        pairs[-2] -= cut
        excess -= cut
        if not pairs[-2]:
            del pairs[-2:]
    if sys.byteorder == "little":
        pairs.byteswap()
    return pairs.tobytes()


def _chunk(cookie: int, kind: Chunk, length_bytes: int, done: bool) -> bytes:
    return codes.CHUNK.pack(codes.CHUNK_MAGIC, ChunkFlag.DONE if done else 0, kind, cookie, length_bytes)
