# Frames on their way out: numbered, counted and summed up, whoever makes them.
from core.stream.frame cimport lnt_stream_header
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef class Framing:
    cdef readonly uint64_t stream
    cdef readonly uint64_t sequence
    cdef readonly uint64_t data_bytes
    cdef readonly uint64_t hole_bytes
    cdef readonly uint64_t zero_bytes
    cdef object digest
    cdef uint32_t *crcs
    cdef uint32_t n_crcs

    cdef void header(self, lnt_stream_header *h, uint8_t type, uint64_t offset, uint64_t span) noexcept nogil
    cdef uint64_t seal(self, lnt_stream_header *h, uint8_t *to) noexcept nogil
    cdef bint full(self, uint32_t frames=*) noexcept nogil
    cdef int add_up(self) except -1
