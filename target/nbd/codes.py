"""Numbers and structs of the NBD protocol as its specification gives them (docs/export.md). All integers are big-endian."""

from __future__ import annotations

import enum
import struct

GREETING_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF

GREETING = struct.Struct(">8s8sH")              # magic, magic, handshake flags
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">8sII")                 # magic, option, length
OPTION_REPLY = struct.Struct(">QIII")           # magic, option, reply type, length
EXPORT = struct.Struct(">QH")                   # size, transmission flags
INFO_EXPORT = struct.Struct(">HQH")             # info type, size, transmission flags
INFO_BLOCK_SIZE = struct.Struct(">HIII")        # info type, minimum, preferred, maximum payload
REQUEST = struct.Struct(">IHHQQI")              # magic, flags, type, cookie, offset, length
SIMPLE_REPLY = struct.Struct(">IIQ")            # magic, error, cookie
CHUNK = struct.Struct(">IHHQI")                 # magic, flags, type, cookie, length
OFFSET_DATA = struct.Struct(">Q")               # offset; the data follows
ERROR = struct.Struct(">IH")                    # error, length of the message, which follows
ERROR_OFFSET = struct.Struct(">Q")              # after the message
CONTEXT = struct.Struct(">I")                   # id; its name or its descriptors follow
DESCRIPTOR = struct.Struct(">II")               # length, status flags

NO_ZEROES_BYTES = 124                           # behind the answer to EXPORT_NAME, unless both sides do without


class HandshakeFlag(enum.IntFlag):
    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class TransmissionFlag(enum.IntFlag):
    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_DF = 128
    CAN_MULTI_CONN = 256


class Option(enum.IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(enum.IntEnum):
    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_INVALID = 0x80000003
    ERR_UNKNOWN = 0x80000006
    ERR_TOO_BIG = 0x80000009


class Info(enum.IntEnum):
    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Command(enum.IntEnum):
    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(enum.IntFlag):
    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8
    FAST_ZERO = 16


class ChunkFlag(enum.IntFlag):
    DONE = 1


class Chunk(enum.IntEnum):
    NONE = 0
    OFFSET_DATA = 1
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


class Error(enum.IntEnum):
    EPERM = 1
    EIO = 5
    EINVAL = 22
    EOVERFLOW = 75
    ESHUTDOWN = 108
