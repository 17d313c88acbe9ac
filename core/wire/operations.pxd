# The table of operation codes (core/wire/operations.h).
from libc.stdint cimport uint8_t

cdef extern from "wire/operations.h" nogil:
    enum:
        FAST_NONE
        FAST_READ
        FAST_WRITE
        FAST_SYNC
        FAST_TUR
    enum:
        DIRECTION_READ
        DIRECTION_WRITE
        DIRECTION_UNMAP
        DIRECTION_SYNC
        DIRECTIONS
        DIRECTION_NONE
    cdef struct lnt_operation:
        uint8_t fast
        uint8_t direction
        uint8_t slow_bits
    const lnt_operation lnt_operations[256]
