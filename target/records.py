"""Records of the API's export channel: what a reader asks a daemon (docs/export.md).

All integers are little-endian. Lives here and nowhere else, so that daemon and reader agree.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

REQUEST = struct.Struct("<B3xIQQI4x")   # kind, cookie, offset_bytes, length_bytes, limit
REPLY = struct.Struct("<IB3xII")        # cookie, outcome, runs, payload_bytes; then the runs, then the payload
RUN = struct.Struct("<II")              # length_bytes, state

READ_MOST_BYTES = 4 << 20               # of one READ
RUNS_MOST = 65536                       # of one answer


class Kind(enum.IntEnum):
    """What a reader asks."""

    READ = 1            # the range's runs, at most `limit` of them before holes are filled in, and what its data runs hold
    ALLOCATION = 2      # runs: what is mapped
    CHANGES = 3         # runs: what may differ from the object that was named as `since`


class Outcome(enum.IntEnum):
    """How it ended; all but OK have a line of text as payload."""

    OK = 0
    MEDIUM = 1          # it cannot be read
    GONE = 2            # the object was deleted
    INVALID = 3         # outside the object, or not understood
    FAILED = 4          # anything else


class State(enum.IntFlag):
    """Of a run of an allocation; a run of changes has CHANGED or nothing. The same bits as NBD's."""

    DATA = 0
    HOLE = 1
    ZERO = 2


CHANGED = 1


class Request(NamedTuple):
    kind: int
    cookie: int
    offset_bytes: int
    length_bytes: int
    limit: int

    def pack(self) -> bytes:
        return REQUEST.pack(*self)

    @staticmethod
    def unpack(raw: bytes) -> Request:
        return Request(*REQUEST.unpack(raw))
