# Receive buffers: the kernel fills them, who reads them holds them.
from core.wire.uring cimport io_uring_buf_ring, lnt_ring
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    INBOUND_BYTES = 16384          # small and few: they stay in the cache
    INBOUND_BUFFERS = 64
    INBOUND_GROUP = 1              # the ring's name for them
    INBOUND_HELD_MAX = INBOUND_BUFFERS // 2    # the rest is always the kernel's, but for the one that is being parsed

cdef struct lnt_inbound:
    lnt_ring *ring
    io_uring_buf_ring *given       # those that the kernel may fill
    uint8_t *memory
    uint32_t out                   # those that it may not
    uint64_t held                  # times that one was held beyond its parsing
    uint16_t holds[INBOUND_BUFFERS]

cdef int inbound_open(lnt_inbound *b, lnt_ring *ring) noexcept nogil
cdef void inbound_close(lnt_inbound *b) noexcept nogil
cdef uint8_t *inbound_arrived(lnt_inbound *b, uint32_t number) noexcept nogil
cdef bint inbound_hold(lnt_inbound *b, const uint8_t *at) noexcept nogil
cdef void inbound_let_go(lnt_inbound *b, const uint8_t *at) noexcept nogil
