# Data buffers in powers of two from 4 KiB, page-aligned, within a bound.
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    BUFFER_CLASSES = 13            # 4 KiB << 0 .. 4 KiB << 12 = 16 MiB

cdef struct lnt_buffers:
    uint8_t *free[BUFFER_CLASSES]   # of chunks and the arena, linked through their first word
    uint8_t *loose[BUFFER_CLASSES]  # mapped one by one, linked likewise
    uint8_t *arena                 # physically contiguous where the system has huge pages
    uint64_t arena_used
    uint64_t arena_bytes
    uint64_t limit
    uint64_t used                  # bytes handed out
    uint64_t charged               # bytes that lie elsewhere and count all the same
    uint64_t cached                # bytes on the free lists
    uint64_t connection_limit
    uint64_t taken                 # buffers handed out so far
    uint64_t taken_before          # ... when it was last looked whether memory is idle
    uint8_t refused                # there was no memory for the last one that was asked for
    uint8_t grown                  # memory was mapped since then: it is to be looked

cdef void buffers_init(lnt_buffers *b, uint64_t limit) noexcept nogil
cdef void buffers_free_all(lnt_buffers *b) noexcept nogil
cdef bint buffers_idle(lnt_buffers *b) noexcept nogil
cdef uint8_t *buffer_take(lnt_buffers *b, uint64_t length, uint8_t *size_class, bint overdraft) noexcept nogil
cdef bint buffer_charge(lnt_buffers *b, uint64_t length, bint overdraft) noexcept nogil
cdef void buffer_uncharge(lnt_buffers *b, uint64_t length) noexcept nogil
cdef void buffer_give(lnt_buffers *b, uint8_t *p, uint8_t size_class) noexcept nogil

cdef inline uint64_t buffer_bytes(uint8_t size_class) noexcept nogil:
    return <uint64_t>4096 << size_class
