# Blocks at hand for nodes that leave their homes (docs/decisions/0018).
from core.base.dropped cimport lnt_dropped
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t

cdef int homes_at_hand(lnt_pool *p, uint64_t n) noexcept nogil
cdef uint64_t home_take(lnt_pool *p) noexcept nogil
cdef int homes_short(lnt_pool *p) noexcept nogil
cdef void home_add(lnt_pool *p, uint64_t home) noexcept nogil
cdef void homes_round(lnt_pool *p) noexcept nogil
cdef void homes_order(lnt_pool *p) noexcept nogil
cdef int home_keep(lnt_pool *p, const lnt_dropped *it) noexcept nogil
cdef int home_spared(lnt_pool *p, lnt_dropped *it) noexcept nogil
cdef void homes_free(lnt_pool *p) noexcept nogil

cdef inline uint64_t homes_count(const lnt_pool *p) noexcept nogil:
    """Blocks that are in no node: at hand, and waiting to be put in order."""
    return p.homes.tail - p.homes.head + p.homes.n_left
