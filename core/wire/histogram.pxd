# The histogram of how long commands take: by what they do to the medium, in buckets of time. core/wire/latency.pyx counts in it.
from core.wire.operations cimport DIRECTIONS
from libc.stdint cimport uint64_t

cdef enum:
    LATENCY_FIRST_SHIFT = 3        # the first bucket holds up to 8 microseconds, each further one twice as much ...
    LATENCY_BUCKETS = 22           # ... and the last, after 8.4 s, the rest

cdef struct lnt_latency:           # from a command's header to its last PDU, in microseconds
    uint64_t counts[DIRECTIONS][LATENCY_BUCKETS]
    uint64_t sum_us[DIRECTIONS]
