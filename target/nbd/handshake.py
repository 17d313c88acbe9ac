"""The handshake: fixed newstyle negotiation of one read-only export (docs/export.md, "Options").

A client's options are answered one by one until it goes over to transmission or leaves. What it may make us keep is bounded:
one option of MAX_OPTION_BYTES, and MAX_OPTIONS of them.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass

from target.nbd import codes
from target.nbd.codes import HandshakeFlag, Info, Option, OptionReply, TransmissionFlag

MAX_OPTION_BYTES = 64 << 10
MAX_OPTIONS = 256
BASE_ALLOCATION = "base:allocation"
DIRTY_BITMAP = "qemu:dirty-bitmap:"
FLAGS = (TransmissionFlag.HAS_FLAGS | TransmissionFlag.READ_ONLY | TransmissionFlag.SEND_DF | TransmissionFlag.CAN_MULTI_CONN)
OUR_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


class ProtocolError(Exception):
    """The client broke the protocol where no answer is possible: its connection ends."""


class Phase(enum.Enum):
    FLAGS = enum.auto()             # the client's flags are awaited
    OPTIONS = enum.auto()
    TRANSMISSION = enum.auto()
    CLOSED = enum.auto()            # the client left, or is refused


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported. `contexts` are the names of its metadata contexts; a context's id is its place there, from 1."""

    name: str
    size_bytes: int
    contexts: tuple[str, ...] = (BASE_ALLOCATION,)
    description: str = ""
    minimum_bytes: int = 1
    preferred_bytes: int = 4096
    maximum_bytes: int = 32 << 20


class Refused(Exception):
    """An option is answered with an error."""

    def __init__(self, reply: OptionReply, message: str) -> None:
        super().__init__(message)
        self.reply = reply


class Handshake:
    """One connection until transmission. `receive` bytes, send `output`; `rest` is what came behind the last option."""

    def __init__(self, export: Export) -> None:
        self.export = export
        self.phase = Phase.FLAGS
        self.structured = False
        self.contexts: dict[int, str] = {}      # those the client chose, by id
        self.rest = b""
        self._zeroes = True
        self._input = bytearray()
        self._output = bytearray(codes.GREETING.pack(codes.GREETING_MAGIC, codes.OPTION_MAGIC, OUR_FLAGS))
        self._options = 0

    def output(self) -> bytes:
        """What is to be sent now."""
        found = bytes(self._output)
        self._output.clear()
        return found

    def receive(self, data: bytes) -> None:
        """Take in bytes; `phase` tells what became of it. ProtocolError: the connection must end, `output` unsent or not."""
        self._input += data
        if self.phase is Phase.FLAGS and len(self._input) >= codes.CLIENT_FLAGS.size:
            self._client_flags()
        while self.phase is Phase.OPTIONS and self._option():
            pass
        if self.phase is Phase.TRANSMISSION:
            self.rest = bytes(self._input)
            self._input.clear()

    def _client_flags(self) -> None:
        (flags,) = codes.CLIENT_FLAGS.unpack_from(self._input)
        if flags & ~int(OUR_FLAGS):
            raise ProtocolError(f"client flags {flags:#x} were not offered")
        self._zeroes = not flags & HandshakeFlag.NO_ZEROES
        del self._input[:codes.CLIENT_FLAGS.size]
        self.phase = Phase.OPTIONS

    def _option(self) -> bool:
        """Answer the next option if it has come whole."""
        if len(self._input) < codes.OPTION.size:
            return False
        magic, option, length = codes.OPTION.unpack_from(self._input)
        if magic != codes.OPTION_MAGIC:
            raise ProtocolError("an option does not begin with its magic")
        if length > MAX_OPTION_BYTES or self._options >= MAX_OPTIONS:
            raise ProtocolError("an option is too long, or there are too many")
        end = codes.OPTION.size + length
        if len(self._input) < end:
            return False
        self._options += 1
        data = bytes(self._input[codes.OPTION.size:end])
        del self._input[:end]
        handler = HANDLERS.get(option)
        try:
            if handler is None:
                raise Refused(OptionReply.ERR_UNSUP, "this option is not supported")
            handler(self, option, data)
        except Refused as refused:
            self._reply(option, refused.reply, str(refused).encode())
        return True

    def _reply(self, option: int, reply: OptionReply, data: bytes = b"") -> None:
        self._output += codes.OPTION_REPLY.pack(codes.OPTION_REPLY_MAGIC, option, reply, len(data)) + data

    def _find(self, raw: bytes) -> None:
        """Accept an export's name: its own, or none. Refused ERR_UNKNOWN."""
        if raw not in (b"", self.export.name.encode()):
            raise Refused(OptionReply.ERR_UNKNOWN, "there is no export of that name")

    # -- options -------------------------------------------------------------------------------------------------
    def _export_name(self, option: int, data: bytes) -> None:
        """It has no error reply: a wrong name ends the connection."""
        try:
            self._find(data)
        except Refused as refused:
            raise ProtocolError(str(refused)) from None
        self._output += codes.EXPORT.pack(self.export.size_bytes, FLAGS)
        if self._zeroes:
            self._output += bytes(codes.NO_ZEROES_BYTES)
        self.phase = Phase.TRANSMISSION

    def _abort(self, option: int, data: bytes) -> None:
        self._reply(option, OptionReply.ACK)
        self.phase = Phase.CLOSED

    def _list(self, option: int, data: bytes) -> None:
        _require_empty(data)
        name = self.export.name.encode()
        self._reply(option, OptionReply.SERVER, codes.CONTEXT.pack(len(name)) + name)
        self._reply(option, OptionReply.ACK)

    def _info(self, option: int, data: bytes) -> None:
        """INFO and GO."""
        reader = _Fields(data)
        name = reader.text()
        wanted = {reader.number(2) for _ in range(reader.number(2))}
        reader.end()
        self._find(name)
        export = self.export
        self._reply(option, OptionReply.INFO, codes.INFO_EXPORT.pack(Info.EXPORT, export.size_bytes, FLAGS))
        if Info.NAME in wanted:
            self._reply(option, OptionReply.INFO, struct.pack(">H", Info.NAME) + export.name.encode())
        if Info.DESCRIPTION in wanted and export.description:
            self._reply(option, OptionReply.INFO, struct.pack(">H", Info.DESCRIPTION) + export.description.encode())
        self._reply(option, OptionReply.INFO, codes.INFO_BLOCK_SIZE.pack(
            Info.BLOCK_SIZE, export.minimum_bytes, export.preferred_bytes, export.maximum_bytes))
        self._reply(option, OptionReply.ACK)
        if option == Option.GO:
            self.phase = Phase.TRANSMISSION

    def _structured_reply(self, option: int, data: bytes) -> None:
        _require_empty(data)
        self.structured = True
        self._reply(option, OptionReply.ACK)

    def _meta_context(self, option: int, data: bytes) -> None:
        """LIST_META_CONTEXT and SET_META_CONTEXT."""
        setting = option == Option.SET_META_CONTEXT
        if setting:
            self.contexts = {}
            if not self.structured:
                raise Refused(OptionReply.ERR_INVALID, "metadata contexts need structured replies")
        reader = _Fields(data)
        name = reader.text()
        queries = [reader.text() for _ in range(reader.number(4))]
        reader.end()
        self._find(name)
        for number, context in enumerate(self.export.contexts, 1):
            if _asked_for(context.encode(), queries, setting):
                self._reply(option, OptionReply.META_CONTEXT, codes.CONTEXT.pack(0 if not setting else number) + context.encode())
                if setting:
                    self.contexts[number] = context
        self._reply(option, OptionReply.ACK)


HANDLERS: dict[int, Callable[[Handshake, int, bytes], None]] = {
    Option.EXPORT_NAME: Handshake._export_name,
    Option.ABORT: Handshake._abort,
    Option.LIST: Handshake._list,
    Option.INFO: Handshake._info,
    Option.GO: Handshake._info,
    Option.STRUCTURED_REPLY: Handshake._structured_reply,
    Option.LIST_META_CONTEXT: Handshake._meta_context,
    Option.SET_META_CONTEXT: Handshake._meta_context,
}


def _asked_for(context: bytes, queries: list[bytes], setting: bool) -> bool:
    """Whether queries name a context: exactly, or when they only list, by its namespace or a part of it that ends in a colon."""
    if context in queries:
        return True
    return not setting and (not queries or any(each.endswith(b":") and context.startswith(each) for each in queries))


def _require_empty(data: bytes) -> None:
    if data:
        raise Refused(OptionReply.ERR_INVALID, "this option has no data")


class _Fields:
    """Numbers and counted texts of an option's data, in order. Refused ERR_INVALID when they do not fit it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, length_bytes: int) -> int:
        return int.from_bytes(self._take(length_bytes))

    def text(self) -> bytes:
        return self._take(self.number(4))

    def end(self) -> None:
        if self._at != len(self._data):
            raise Refused(OptionReply.ERR_INVALID, "the option is longer than its fields")

    def _take(self, length_bytes: int) -> bytes:
        found = self._data[self._at:self._at + length_bytes]
        if len(found) != length_bytes:
            raise Refused(OptionReply.ERR_INVALID, "the option is shorter than its fields")
        self._at += length_bytes
        return found
