# Metadata pages that cannot be had: noted, not asked for again at once, no hindrance to others (docs/durability.md, Failures).
from core.base.dropped cimport lnt_dropped
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint64_t, uint8_t

cdef uint64_t damage_held(lnt_pool *p) noexcept nogil
cdef void damage_met(lnt_pool *p, lnt_page *f, lnt_op *op) noexcept nogil
cdef void damage_over(lnt_pool *p, uint64_t block, uint8_t kind) noexcept nogil
cdef int damage_recent(lnt_pool *p, uint64_t block) noexcept nogil
cdef uint64_t damage_probe(lnt_pool *p) noexcept nogil
cdef void damage_free(lnt_pool *p) noexcept nogil
cdef int aside_ready(lnt_pool *p) noexcept nogil
cdef int aside_put(lnt_pool *p, lnt_dropped *it) noexcept nogil
cdef bint aside_due(lnt_pool *p, uint64_t *n) noexcept nogil
cdef lnt_dropped *aside_take(lnt_pool *p) noexcept nogil
cdef void aside_tried(lnt_pool *p) noexcept nogil
cdef uint64_t damage_due(lnt_pool *p) noexcept nogil
