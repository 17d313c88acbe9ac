# Homes of nodes at a checkpoint (docs/decisions/0002).
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t

cdef enum:
    MORE_HOMES = -2               # choose_homes has not finished; no status, and not WAIT

cdef int choose_homes(lnt_pool *p, lnt_waiter *who, uint32_t *chosen) noexcept nogil
cdef int translate(lnt_pool *p) noexcept nogil
