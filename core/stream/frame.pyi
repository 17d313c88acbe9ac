"""Frames of a stream for Python: bytes from values, values from bytes (docs/stream-format.md). Pure: no I/O."""

from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import Buffer

Extent = tuple[int, int, str]      # blocks unchanged before it, blocks, a key of layout.KINDS

class StreamError(Exception):
    """Bytes are not a stream; `code` is the name of one of layout.ERRORS, `str(error)` one line for people."""

    code: str

class Frame(NamedTuple):
    """One frame, checked. The payload of an EXTENTS frame is unpacked, without its table; `bytes` is its length as it came."""

    type: str
    flags: int
    stream: int
    sequence: int
    offset: int
    span: int
    extents: list[Extent]
    payload: bytes
    header_crc: int
    bytes: int

class Taken(NamedTuple):
    """A frame that who takes a stream decides about: BEGIN, MARK, END or ERROR; `payload` is the JSON of BEGIN and ERROR."""

    type: str
    offset: int
    span: int
    more: bool
    payload: bytes

def encode(type: str, *, stream: int, sequence: int, offset: int = 0, span: int = 0, extents: Sequence[Extent] = (),
           payload: bytes = b"", flags: int = 0, compress: bool = False) -> bytes:
    """The bytes of one frame, critical as all known ones are. With `compress` the body is packed where that saves 5 %.

    StreamError: malformed, or zstd when the library is not there.
    """

def payload_of(frame: bytes) -> bytes:
    """The payload of one EXTENTS frame that stands for itself. StreamError."""

class Decoder:
    """Takes bytes as they come and gives frames back; never keeps more than one frame's bytes."""

    def __init__(self, *, in_order: bool = True) -> None:
        """Without `in_order` frames stand for themselves: numbers, positions, counts and SHA-256 are not looked at."""

    def feed(self, data: Buffer) -> list[Frame]:
        """The frames that are whole now; what may be skipped is. StreamError ends the stream."""

    def close(self) -> None:
        """No bytes come any more. StreamError truncated unless the last frame was an END without more, or an ERROR."""
