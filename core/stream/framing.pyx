"""Frames on their way out: numbered, counted and summed up, whoever makes them.

Lives here and nowhere else: which number a frame has, and what an END says of all before it.
"""
from core.base.memory cimport mem_new
from core.base.native cimport lnt_put_le64
from core.stream.frame cimport (
    FLAG_CRITICAL, FLAG_MORE, SH_HEADER_CRC, SN_DATA_BYTES, SN_FRAMES, SN_HOLE_BYTES, SN_SHA256, SN_ZERO_BYTES, S_END_BYTES,
    S_HEADER_BYTES, S_VERSION, header_write, lnt_stream_header,
)
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import hashlib

from core.stream.frame import encode

cdef enum:
    CRCS = 65536                  # headers that are sealed before they are added up


cdef class Framing:
    """The frames of one stream. `seal` and `header` without the GIL, then `add_up` with it."""

    def __cinit__(self, uint64_t stream):
        self.stream = stream
        self.digest = hashlib.sha256()
        self.crcs = <uint32_t *>mem_new(CRCS * sizeof(uint32_t))
        if self.crcs == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.crcs)

    def plain(self, str type, **fields):
        """A frame without extents; it counts."""
        raw = encode(type, stream=self.stream, sequence=self.sequence, **fields)
        self.sequence += 1
        self.digest.update(raw[SH_HEADER_CRC:S_HEADER_BYTES])
        return raw

    def end(self, uint64_t size_bytes, bint more):
        """The END, which holds the others."""
        cdef uint8_t[64] body
        cdef bytes sha256 = self.digest.digest()
        lnt_put_le64(body + SN_FRAMES, self.sequence)
        lnt_put_le64(body + SN_DATA_BYTES, self.data_bytes)
        lnt_put_le64(body + SN_HOLE_BYTES, self.hole_bytes)
        lnt_put_le64(body + SN_ZERO_BYTES, self.zero_bytes)
        memcpy(body + SN_SHA256, <const char *>sha256, 32)
        return self.plain("end", offset=size_bytes, payload=(<const char *>body)[:S_END_BYTES], flags=FLAG_MORE if more else 0)

    cdef void header(self, lnt_stream_header *h, uint8_t type, uint64_t offset, uint64_t span) noexcept nogil:
        """The next frame's, but for its body."""
        memset(h, 0, sizeof(lnt_stream_header))
        h.version = S_VERSION
        h.type = type
        h.flags = FLAG_CRITICAL
        h.stream = self.stream
        h.sequence = self.sequence
        h.offset = offset
        h.span = span
        self.sequence += 1

    cdef uint64_t seal(self, lnt_stream_header *h, uint8_t *to) noexcept nogil:
        """Put it before its body. How long both are."""
        header_write(to, h)
        self.crcs[self.n_crcs] = h.header_crc
        self.n_crcs += 1
        return S_HEADER_BYTES + h.stored_bytes

    cdef bint full(self, uint32_t frames=1) noexcept nogil:
        """Whether no such number of frames may be sealed before the others are added up."""
        return self.n_crcs + frames > CRCS

    cdef int add_up(self) except -1:
        self.digest.update((<const char *>self.crcs)[:4 * self.n_crcs])
        self.n_crcs = 0
        return 0
