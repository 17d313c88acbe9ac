# Holes for what is free and the medium may still keep: where and in which order (docs/space.md, "Space goes back").
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef int punch_turn(lnt_pool *p) noexcept nogil
cdef int trim_step(lnt_pool *p, lnt_waiter *who, uint64_t run, uint64_t *found) noexcept nogil
cdef void trim_end(lnt_pool *p) noexcept nogil
cdef uint64_t punch_runs(lnt_pool *p) noexcept nogil
cdef void holes_load(lnt_pool *p, uint32_t flags) noexcept nogil
cdef uint32_t punch_flags(lnt_pool *p) noexcept nogil
cdef uint64_t punch_due(lnt_pool *p) noexcept nogil
cdef void punch_free(lnt_pool *p) noexcept nogil
