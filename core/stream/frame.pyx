"""Frames of a stream: header and table to bytes and back, checked; the order in which they may come (docs/stream-format.md).

Pure: no I/O, no clock. The pumps call the functions without the GIL; `encode` and `Decoder` are the same for Python. Bytes come
from anywhere: everything is checked before it is used, and no body is longer than the table allows.
"""
from core.base.crc32c cimport lnt_crc32c
from core.base.memory cimport mem_aligned
from core.base.native cimport lnt_get_le16, lnt_get_le32, lnt_get_le64, lnt_put_le16, lnt_put_le32, lnt_put_le64
from core.stream.packing cimport packed, packer_free, unpacked, zstd_there
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

import hashlib
from typing import NamedTuple

from core.stream import layout


cdef extern from "stream/_stream.h" nogil:
    struct lnt_stream_use:
        unsigned char offset, span, table
        unsigned body
    const lnt_stream_use lnt_stream_uses[]
    const unsigned char lnt_stream_order_table "lnt_stream_order"[3][8]
    uint64_t S_MAX_SIZE_BYTES

cdef enum:
    BLOCK = 4096
    KNOWN_FLAGS = FLAG_CRITICAL | FLAG_ZSTD | FLAG_MORE


# -- headers -----------------------------------------------------------------------------------------------------------


cdef bint header_known(const lnt_stream_header *h) noexcept nogil:
    return ST_BEGIN <= h.type <= ST_END


cdef int uses_check(const lnt_stream_header *h) noexcept nogil:
    """Whether a frame of a known type has what such a frame has, and nothing else."""
    cdef const lnt_stream_use *use = &lnt_stream_uses[h.type]
    if h.offset and not use.offset or h.span and not use.span or h.extents and not use.table or h.raw_bytes > use.body:
        return SE_MALFORMED
    if (h.offset | h.span) % BLOCK or h.offset > S_MAX_SIZE_BYTES or h.span > S_MAX_SIZE_BYTES:
        return SE_MALFORMED
    if h.flags & FLAG_ZSTD and h.type != ST_EXTENTS or h.flags & FLAG_MORE and h.type != ST_END:
        return SE_MALFORMED
    if not h.flags & FLAG_ZSTD and h.raw_bytes != h.stored_bytes or h.stored_bytes > h.raw_bytes:
        return SE_MALFORMED
    if h.type == ST_EXTENTS and (h.span == 0 or h.offset % S_SPAN_BYTES + h.span > S_SPAN_BYTES
                                 or not 0 < h.extents <= S_MAX_EXTENTS or h.raw_bytes < h.extents * S_EXTENT_BYTES):
        return SE_MALFORMED
    if h.type == ST_HOLE and h.span == 0 or h.type == ST_END and h.raw_bytes != S_END_BYTES:
        return SE_MALFORMED
    return SE_OK


cdef int header_read(const uint8_t *raw, lnt_stream_header *h) noexcept nogil:
    """The header in 64 bytes. A frame of an unknown type passes when it may be skipped."""
    if lnt_get_le32(raw + SH_MAGIC) != S_MAGIC:
        return SE_FOREIGN
    if lnt_get_le32(raw + SH_HEADER_CRC) != lnt_crc32c(0, raw, SH_HEADER_CRC):
        return SE_HEADER
    h.version = lnt_get_le16(raw + SH_VERSION)
    h.type = raw[SH_TYPE]
    h.flags = raw[SH_FLAGS]
    h.stream = lnt_get_le64(raw + SH_STREAM)
    h.sequence = lnt_get_le64(raw + SH_SEQUENCE)
    h.offset = lnt_get_le64(raw + SH_OFFSET)
    h.span = lnt_get_le64(raw + SH_SPAN)
    h.extents = lnt_get_le32(raw + SH_EXTENTS)
    h.raw_bytes = lnt_get_le32(raw + SH_RAW_BYTES)
    h.stored_bytes = lnt_get_le32(raw + SH_STORED_BYTES)
    h.body_crc = lnt_get_le32(raw + SH_BODY_CRC)
    h.header_crc = lnt_get_le32(raw + SH_HEADER_CRC)
    if h.version > S_VERSION:
        return SE_NEWER
    if h.version == 0 or h.stored_bytes > S_MAX_BODY_BYTES or h.raw_bytes > S_MAX_BODY_BYTES:
        return SE_MALFORMED
    if not header_known(h):
        return SE_UNKNOWN if h.flags & FLAG_CRITICAL else SE_OK
    if h.flags & ~KNOWN_FLAGS or lnt_get_le32(raw + SH_RESERVED):
        return SE_MALFORMED
    return uses_check(h)


cdef void header_write(uint8_t *raw, lnt_stream_header *h) noexcept nogil:
    """The header's 64 bytes; its checksum is in both then."""
    memset(raw, 0, S_HEADER_BYTES)
    lnt_put_le32(raw + SH_MAGIC, S_MAGIC)
    lnt_put_le16(raw + SH_VERSION, h.version)
    raw[SH_TYPE] = h.type
    raw[SH_FLAGS] = h.flags
    lnt_put_le64(raw + SH_STREAM, h.stream)
    lnt_put_le64(raw + SH_SEQUENCE, h.sequence)
    lnt_put_le64(raw + SH_OFFSET, h.offset)
    lnt_put_le64(raw + SH_SPAN, h.span)
    lnt_put_le32(raw + SH_EXTENTS, h.extents)
    lnt_put_le32(raw + SH_RAW_BYTES, h.raw_bytes)
    lnt_put_le32(raw + SH_STORED_BYTES, h.stored_bytes)
    lnt_put_le32(raw + SH_BODY_CRC, h.body_crc)
    h.header_crc = lnt_crc32c(0, raw, SH_HEADER_CRC)
    lnt_put_le32(raw + SH_HEADER_CRC, h.header_crc)


# -- order -------------------------------------------------------------------------------------------------------------


cdef int order_take(lnt_stream_order *o, const lnt_stream_header *h) noexcept nogil:
    """Whether this frame may come now. What comes next may begin no earlier than it ends."""
    cdef uint8_t after
    if o.sequence and h.stream != o.stream:
        return SE_STREAM
    if h.sequence != o.sequence or o.state == SS_OVER:
        return SE_ORDER
    if header_known(h):
        after = lnt_stream_order_table[o.state][h.type]
        if after == 0:
            return SE_ORDER
        if h.type == ST_BEGIN:
            if h.offset > h.span:
                return SE_MALFORMED
            o.size = h.span
            o.offset = h.offset
        elif h.type == ST_END and h.offset != o.size:
            return SE_ORDER
        elif h.type in (ST_EXTENTS, ST_HOLE, ST_MARK):
            if h.offset < o.offset or h.offset + h.span > o.size:
                return SE_ORDER
            o.offset = h.offset + h.span
        o.hole_bytes += h.span if h.type == ST_HOLE else 0
        o.state = SS_IDLE if h.type == ST_END and h.flags & FLAG_MORE else <uint8_t>(after - 1)
    o.stream = h.stream
    o.sequence += 1
    return SE_OK


cdef int end_check(const lnt_stream_order *o, const uint8_t *body) noexcept nogil:
    """Whether an END, which was just taken, counted what came. Its SHA-256 is for whoever keeps one."""
    if (lnt_get_le64(body + SN_FRAMES) != o.sequence - 1 or lnt_get_le64(body + SN_DATA_BYTES) != o.data_bytes
            or lnt_get_le64(body + SN_HOLE_BYTES) != o.hole_bytes or lnt_get_le64(body + SN_ZERO_BYTES) != o.zero_bytes):
        return SE_ORDER
    return SE_OK


# -- bodies ------------------------------------------------------------------------------------------------------------


cdef int body_check(const lnt_stream_header *h, const uint8_t *stored) noexcept nogil:
    return SE_OK if lnt_crc32c(0, stored, h.stored_bytes) == h.body_crc else SE_BODY


cdef int body_unpack(lnt_packer *z, const lnt_stream_header *h, const uint8_t *stored, uint8_t *raw) noexcept nogil:
    """A body that passed its check, unpacked: raw has room for h.raw_bytes, and never gets more."""
    if not h.flags & FLAG_ZSTD:
        memcpy(raw, stored, h.raw_bytes)
        return SE_OK
    if not zstd_there():
        return SE_ZSTD
    return SE_OK if unpacked(z, raw, h.raw_bytes, stored, h.stored_bytes) else SE_PACKED


cdef int table_check(lnt_stream_order *o, const lnt_stream_header *h, const uint8_t *raw) noexcept nogil:
    """Whether the table of an EXTENTS frame stays in its span, and the payload is what it says. Adds up in `o`."""
    cdef uint64_t at = 0, data = 0, holes = 0, zeros = 0
    cdef const uint8_t *entry = raw
    cdef uint32_t _entry
    cdef uint64_t length
    for _entry in range(h.extents):
        length = <uint64_t>lnt_get_le16(entry + SX_BLOCKS) * BLOCK
        at += <uint64_t>lnt_get_le16(entry + SX_DELTA) * BLOCK + length
        if length == 0 or at > h.span or lnt_get_le32(entry + SX_KIND) >> 8:
            return SE_MALFORMED
        if entry[SX_KIND] == KIND_DATA:
            data += length
        elif entry[SX_KIND] == KIND_HOLE:
            holes += length
        elif entry[SX_KIND] == KIND_ZERO:
            zeros += length
        else:
            return SE_MALFORMED
        entry += S_EXTENT_BYTES
    if data + h.extents * S_EXTENT_BYTES != h.raw_bytes:
        return SE_MALFORMED
    o.data_bytes += data
    o.hole_bytes += holes
    o.zero_bytes += zeros
    return SE_OK


cdef uint32_t body_write(lnt_packer *z, lnt_stream_header *h, uint8_t *to, const uint8_t *raw, bint pack) noexcept nogil:
    """The body as it is stored, and what the header says of it: packed where that saves 5 %. Its length."""
    cdef uint32_t n = packed(z, to, h.raw_bytes - h.raw_bytes // 20, raw, h.raw_bytes) if pack and h.raw_bytes > 256 else 0
    h.flags = (h.flags | FLAG_ZSTD) if n else (h.flags & ~FLAG_ZSTD)
    if n == 0:
        n = h.raw_bytes
        if to != raw:
            memcpy(to, raw, n)
    h.stored_bytes = n
    h.body_crc = lnt_crc32c(0, to, n)
    return n


cdef bint all_zeros(const uint8_t *block) noexcept nogil:
    """Whether a block of 4096 bytes is nothing but zeros."""
    return lnt_get_le64(block) == 0 and memcmp(block, block + 8, BLOCK - 8) == 0


# -- the same for Python -----------------------------------------------------------------------------------------------


class StreamError(Exception):
    def __init__(self, int number, str what=""):
        self.code, text = layout.ERRORS[number]
        super().__init__(f"{text}: {what}" if what else text)


class Frame(NamedTuple):
    type: str
    flags: int
    stream: int
    sequence: int
    offset: int
    span: int
    extents: list
    payload: bytes
    header_crc: int
    bytes: int


class Taken(NamedTuple):
    type: str
    offset: int
    span: int
    more: bool
    payload: bytes


TYPES = {number: name for name, number in layout.TYPES.items()}
KINDS = {number: name for name, number in layout.KINDS.items()}


cdef bytes table_of(list extents):
    return b"".join(delta.to_bytes(2, "little") + blocks.to_bytes(2, "little") + bytes([layout.KINDS[kind], 0, 0, 0])
                    for delta, blocks, kind in extents)


def encode(str type, *, uint64_t stream, uint64_t sequence, uint64_t offset=0, uint64_t span=0, extents=(), bytes payload=b"",
           int flags=0, bint compress=False):
    cdef lnt_stream_header h
    cdef lnt_packer z
    cdef bytes raw = table_of(list(extents)) + payload
    cdef const char *raw_bytes = raw
    cdef bytes out = PyBytes_FromStringAndSize(NULL, S_HEADER_BYTES + len(raw))
    cdef char *to_bytes = out
    cdef uint8_t *to = <uint8_t *>to_bytes
    cdef uint8_t *body = to + S_HEADER_BYTES
    cdef int rc
    cdef uint32_t n
    memset(&h, 0, sizeof(h))
    memset(&z, 0, sizeof(z))
    if compress and not zstd_there():
        raise StreamError(SE_ZSTD)
    h.version = S_VERSION
    h.type = layout.TYPES[type]
    h.flags = <uint8_t>(flags | FLAG_CRITICAL)
    h.stream, h.sequence, h.offset, h.span = stream, sequence, offset, span
    h.extents = len(extents)
    h.raw_bytes = len(raw)
    with nogil:
        n = body_write(&z, &h, body, <const uint8_t *>raw_bytes, compress)
        packer_free(&z)
    header_write(to, &h)
    rc = header_read(to, &h)
    if rc:
        raise StreamError(rc)
    return out[:S_HEADER_BYTES + n]


def payload_of(bytes frame not None):
    """The payload of one EXTENTS frame that stands for itself. StreamError."""
    cdef lnt_stream_header h
    cdef lnt_stream_order order
    cdef lnt_packer z
    cdef const char *at = frame
    cdef uint64_t length = len(frame)
    cdef uint8_t *raw
    cdef int rc = SE_TRUNCATED
    memset(&h, 0, sizeof(h))
    memset(&order, 0, sizeof(order))
    memset(&z, 0, sizeof(z))
    raw = <uint8_t *>mem_aligned(S_MAX_BODY_BYTES)
    if raw == NULL:
        raise MemoryError
    try:
        with nogil:
            if length >= S_HEADER_BYTES:
                rc = frame_open(&h, &order, &z, <const uint8_t *>at, length, raw)
        if rc:
            raise StreamError(rc)
        return (<const char *>raw)[h.extents * S_EXTENT_BYTES:h.raw_bytes]
    finally:
        packer_free(&z)
        free(raw)


cdef int frame_open(lnt_stream_header *h, lnt_stream_order *order, lnt_packer *z, const uint8_t *at, uint64_t length,
                    uint8_t *raw) noexcept nogil:
    """All that is asked of an EXTENTS frame whose bytes are all there, and no more."""
    cdef int rc = header_read(at, h)
    if rc == SE_OK and (h.type != ST_EXTENTS or length != S_HEADER_BYTES + h.stored_bytes):
        rc = SE_MALFORMED
    if rc == SE_OK:
        rc = body_check(h, at + S_HEADER_BYTES)
    if rc == SE_OK:
        rc = body_unpack(z, h, at + S_HEADER_BYTES, raw)
    return table_check(order, h, raw) if rc == SE_OK else rc


cdef list extents_of(const uint8_t *raw, uint32_t n):
    cdef uint32_t i
    return [(lnt_get_le16(raw + i * S_EXTENT_BYTES + SX_DELTA), lnt_get_le16(raw + i * S_EXTENT_BYTES + SX_BLOCKS),
             KINDS[raw[i * S_EXTENT_BYTES + SX_KIND]]) for i in range(n)]


cdef class Decoder:
    cdef lnt_stream_order order
    cdef lnt_packer packer
    cdef uint8_t *raw
    cdef bytearray rest
    cdef bint in_order
    cdef object digest

    def __cinit__(self, *, bint in_order=True):
        self.raw = <uint8_t *>mem_aligned(S_MAX_BODY_BYTES)
        if self.raw == NULL:
            raise MemoryError
        self.rest = bytearray()
        self.in_order = in_order
        self.digest = hashlib.sha256()

    def __dealloc__(self):
        packer_free(&self.packer)
        free(self.raw)

    cdef object take(self, lnt_stream_header *h, const uint8_t *header, const uint8_t *stored):
        """One whole frame; None for one that is skipped. StreamError."""
        cdef int rc = body_check(h, stored)
        cdef uint32_t table = h.extents * S_EXTENT_BYTES
        if rc == SE_OK and self.in_order:
            rc = order_take(&self.order, h)
        if rc == SE_OK and header_known(h):
            rc = body_unpack(&self.packer, h, stored, self.raw)
        if rc == SE_OK and h.type == ST_EXTENTS:
            rc = table_check(&self.order, h, self.raw)
        if rc == SE_OK and h.type == ST_END and self.in_order:
            rc = end_check(&self.order, self.raw)
            if rc == SE_OK and self.raw[SN_SHA256:SN_SHA256 + 32] != self.digest.digest():
                rc = SE_ORDER
        if rc:
            raise StreamError(rc, f"frame {h.sequence}")
        self.digest.update(header[SH_HEADER_CRC:SH_HEADER_CRC + 4])
        if not header_known(h):
            return None
        return Frame(TYPES[h.type], h.flags, h.stream, h.sequence, h.offset, h.span, extents_of(self.raw, h.extents),
                     (<const char *>self.raw)[table:h.raw_bytes], h.header_crc, S_HEADER_BYTES + h.stored_bytes)

    def feed(self, data):
        cdef lnt_stream_header h
        cdef const uint8_t *at
        cdef size_t left
        cdef int rc
        frames = []
        self.rest += data
        used = 0
        while len(self.rest) - used >= S_HEADER_BYTES:
            at = <const uint8_t *><char *>self.rest + <size_t>used
            left = len(self.rest) - used
            memset(&h, 0, sizeof(h))
            rc = header_read(at, &h)
            if rc:
                raise StreamError(rc)
            if left < S_HEADER_BYTES + h.stored_bytes:
                break
            frame = self.take(&h, at, at + S_HEADER_BYTES)
            if frame is not None:
                frames.append(frame)
            used += S_HEADER_BYTES + h.stored_bytes
        del self.rest[:used]
        return frames

    def close(self):
        if self.rest or self.in_order and self.order.state != SS_OVER:
            raise StreamError(SE_TRUNCATED)
