# Metadata pages that cannot be had, and what is set aside because of them.
from core._state cimport frame, item, lnt_pool
from core._types cimport lnt_op
from libc.stdint cimport uint8_t, uint64_t

cdef void damage_met(lnt_pool *p, frame *f, lnt_op *op) noexcept nogil
cdef void damage_over(lnt_pool *p, uint64_t block, uint8_t kind) noexcept nogil
cdef int damage_recent(lnt_pool *p, uint64_t block) noexcept nogil
cdef uint64_t damage_probe(lnt_pool *p) noexcept nogil
cdef uint64_t damage_held(lnt_pool *p) noexcept nogil
cdef uint64_t damage_due(lnt_pool *p) noexcept nogil
cdef void damage_free(lnt_pool *p) noexcept nogil
cdef void runs_free(lnt_pool *p, uint64_t run, uint8_t bits) noexcept nogil
cdef int aside_put(lnt_pool *p) noexcept nogil
cdef int aside_retry(lnt_pool *p) noexcept nogil
cdef void run_avoid(lnt_pool *p, uint64_t run, uint8_t bits) noexcept nogil
