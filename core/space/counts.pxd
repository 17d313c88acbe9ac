# How often each block is referred to (I1).
from core.base.layout cimport L_RUN_BLOCKS, L_SUMMARY_RUNS
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef lnt_page *count_page(lnt_pool *p, lnt_waiter *who, uint64_t pba, int *rc) noexcept nogil
cdef uint32_t *count_at(lnt_pool *p, lnt_waiter *who, uint64_t pba, lnt_page **f, int *rc) noexcept nogil
cdef int count_touch(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n) noexcept nogil
cdef int count_add(lnt_pool *p, uint64_t pba, uint32_t n, int32_t delta) noexcept nogil
cdef void counts_begin(lnt_pool *p, lnt_page *f, uint64_t pba, uint32_t n) noexcept nogil
cdef int shares_room(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil
cdef int count_is_one(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n, int *rc) noexcept nogil
cdef int node_touch(lnt_pool *p, lnt_waiter *who, uint64_t id) noexcept nogil
cdef int node_room(lnt_pool *p, uint64_t id, uint32_t more) noexcept nogil
cdef int node_ref(lnt_pool *p, uint64_t id, int32_t delta) noexcept nogil
cdef int count_may_be_one(lnt_pool *p, uint64_t pba, uint64_t n) noexcept nogil
cdef int count_may_be_none(lnt_pool *p, uint64_t pba, uint64_t n) noexcept nogil

cdef inline int counts_high_take(lnt_pool *p) noexcept nogil:
    """1 when replay has come near a count's limit since this was asked last."""
    cdef int high = p.counts_high
    p.counts_high = 0
    return high
