# The engine's memory of notable moments: a small ring of events, and the one way in which a pool becomes read-only for good.
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t

cdef enum pool_failure:        # lnt_pool.failed; FAILURES in core/pool/info.py says them in words
    PF_SYNC = 1
    PF_FRAME = 2
    PF_CHECKPOINT = 3
    PF_COUNTS = 4
    PF_SUMMARY = 5
    PF_ASIDE = 6
    PF_CUT = 7
    PF_PAGE = 8
    # what the checks before each change make unreachable: never go on with half of one
    PF_HALF = 9
    PF_RING = 10
    PF_AREA = 11
    PF_HOMES = 12

cdef enum trace_event:         # EVENTS in core/pool/info.py says them in words
    TE_FAILED = 1
    TE_COUNT_LIMIT = 2
    TE_NO_DISCARD = 3
    TE_SHORT = 4
    TE_ROOM = 5
    TE_NO_MEMORY = 6
    TE_DAMAGE = 7
    TE_NODE_RUN = 8

cdef void trace_add(lnt_pool *p, int event, uint64_t a, uint64_t b) noexcept nogil
cdef void memory_short(lnt_pool *p) noexcept nogil
cdef void memory_again(lnt_pool *p) noexcept nogil
cdef void pool_fail(lnt_pool *p, int reason, uint64_t detail) noexcept nogil
