# Nodes of the map in memory (docs/concurrency.md, I1 to I3).
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t, uint8_t

cdef enum:
    NODES_KEPT = 8        # free blocks that no new node takes

cdef inline uint64_t *entries(lnt_page *f) noexcept nogil:
    return <uint64_t *>f.data

cdef lnt_page *node_get(lnt_pool *p, lnt_waiter *who, uint64_t id, uint8_t level, int *rc) noexcept nogil
cdef lnt_page *node_new(lnt_pool *p, uint8_t kind, uint8_t level, int *rc) noexcept nogil
cdef lnt_page *shadow(lnt_pool *p, lnt_waiter *who, lnt_page *f, int *rc) noexcept nogil
