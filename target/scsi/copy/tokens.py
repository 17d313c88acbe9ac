"""ROD tokens: what POPULATE TOKEN makes and WRITE USING TOKEN takes (SPC-4 §5.16.6, §6.27, SBC-4 §5.12, §5.53)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from target.scsi.backend import BlockBackend
from target.scsi.fields import Field, build
from target.scsi.model import ITNexus
from target.scsi.unit import LogicalUnit

TOKEN_BYTES = 512
# A ROD token (SPC-4 table 110)
ROD_TYPE, TOKEN_LENGTH, COPY_MANAGER_IDENTIFIER = Field(0, 4), Field(6, 2), Field(8, 8)
CREATOR_AT = 16              # a CSCD descriptor: the unit whose data it stands for
BYTES_REPRESENTED = Field(48, 16)
SECRET_AT = 96
TOKEN_LENGTH_FIELD = TOKEN_BYTES - TOKEN_LENGTH.end
POINT_IN_TIME, ACCESS_UPON_REFERENCE, BLOCK_ZERO = 0x00800000, 0x00010000, 0xFFFF0001
DEFAULT_TIMEOUT_S, MAX_TIMEOUT_S = 60, 3600
MAX_RANGES = 64
MAX_TOKEN_BYTES = 4 << 30
MAX_TOKENS = 64              # for one nexus
MAX_TOKENS_IN_ALL = 256      # each may hold a frozen medium


class Range(NamedTuple):
    """Consecutive bytes of one unit."""

    offset_bytes: int
    length_bytes: int


@dataclass(slots=True)
class Token:
    """A representation of data: ranges of a source. `frozen` is the source as it was, None to read it as it is."""

    raw: bytes
    kind: int
    source: LogicalUnit
    ranges: tuple[Range, ...]
    owner: ITNexus
    frozen: BlockBackend | None
    timeout_s: int
    deadline_s: float

    @property
    def length_bytes(self) -> int:
        return sum(each.length_bytes for each in self.ranges)

    def slice(self, offset_bytes: int, length_bytes: int) -> list[Range]:
        """The source ranges behind a part of the data; shorter than asked for where the data ends."""
        out = []
        for each in self.ranges:
            if offset_bytes >= each.length_bytes:
                offset_bytes -= each.length_bytes
                continue
            length = min(each.length_bytes - offset_bytes, length_bytes)
            if length:
                out.append(Range(each.offset_bytes + offset_bytes, length))
            offset_bytes, length_bytes = 0, length_bytes - length
        return out


def encode(kind: int, identifier: int, creator: bytes, length_bytes: int, secret: bytes) -> bytes:
    """A token's 512 bytes: known fields, then random ones that nobody can guess (SPC-4 §5.16.6.5)."""
    out = bytearray(build(TOKEN_BYTES, (ROD_TYPE, kind), (TOKEN_LENGTH, TOKEN_LENGTH_FIELD),
                          (COPY_MANAGER_IDENTIFIER, identifier), (BYTES_REPRESENTED, length_bytes)))
    out[CREATOR_AT:CREATOR_AT + len(creator)] = creator
    out[SECRET_AT:SECRET_AT + len(secret)] = secret
    return bytes(out)


def is_zero_token(raw: bytes) -> bool:
    """The block device zero token, which every copy manager knows (SBC-4 §4.28.2)."""
    return ROD_TYPE.of(raw) == BLOCK_ZERO and TOKEN_LENGTH.of(raw) == TOKEN_LENGTH_FIELD


class Tokens:
    """The tokens of one target device, found by their bytes; bounded for each nexus and in time."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, Token] = {}
        self._next = 1

    def identifier(self) -> int:
        self._next += 1
        return self._next

    def add(self, token: Token, now_s: float) -> list[Token]:
        """Keep a token; those that had to go for it: the oldest of its owner, or of who has the most."""
        gone = self.expire(now_s)
        mine = [each for each in self._tokens.values() if each.owner == token.owner]
        for each in mine[:max(len(mine) - MAX_TOKENS + 1, 0)]:
            gone.append(self._tokens.pop(each.raw))
        if len(self._tokens) >= MAX_TOKENS_IN_ALL:
            most, _ = Counter(each.owner for each in self._tokens.values()).most_common(1)[0]
            oldest = next(each for each in self._tokens.values() if each.owner == most)
            gone.append(self._tokens.pop(oldest.raw))
        self._tokens[token.raw] = token
        return gone

    def find(self, raw: bytes) -> Token | None:
        """The token with these bytes; it may have expired."""
        return self._tokens.get(raw)

    def drop(self, raw: bytes) -> Token | None:
        return self._tokens.pop(raw, None)

    def drop_source(self, source: LogicalUnit) -> list[Token]:
        """Take out all that stand for data of a unit."""
        gone = [token for token in self._tokens.values() if token.source is source]
        for token in gone:
            del self._tokens[token.raw]
        return gone

    def expire(self, now_s: float) -> list[Token]:
        """Take out what has expired."""
        gone = [token for token in self._tokens.values() if token.deadline_s < now_s]
        for token in gone:
            del self._tokens[token.raw]
        return gone
