# Whether the kernel holds writes into the page cache back.
from libc.stdint cimport uint64_t

cdef enum:
    SLOW_WRITE_US = 3000           # a write that takes longer may be one of those

cdef struct lnt_throttle:
    uint64_t until_us              # writes go to the ring's worker threads until then; 0: they do not
    uint64_t pause_us              # how long the last pause was
    uint64_t over_us               # ... and when it ended
    uint64_t times

cdef void throttle_wrote(lnt_throttle *t, uint64_t began_us, uint64_t ended_us, bint waited, bint punching) noexcept nogil

cdef inline bint throttled(lnt_throttle *t, uint64_t now_us) noexcept nogil:
    """Writes should not be performed by this thread now."""
    if t.until_us and now_us >= t.until_us:
        t.until_us = 0
    return t.until_us != 0

cdef class Throttle:
    cdef lnt_throttle throttle
