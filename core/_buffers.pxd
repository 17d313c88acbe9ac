# Data buffers in powers of two from 4 KiB, page-aligned, within a bound.
from core._session cimport lnt_buffers
from libc.stdint cimport uint8_t, uint64_t

cdef void buffers_init(lnt_buffers *b, uint64_t limit) noexcept nogil
cdef void buffers_free_all(lnt_buffers *b) noexcept nogil
cdef uint8_t *buffer_take(lnt_buffers *b, uint64_t length, uint8_t *size_class, bint overdraft) noexcept nogil
cdef void buffer_give(lnt_buffers *b, uint8_t *p, uint8_t size_class) noexcept nogil

cdef inline uint64_t buffer_bytes(uint8_t size_class) noexcept nogil:
    return <uint64_t>4096 << size_class
