# What a pool tells of itself: its objects, pages that are bad, all its numbers.
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t, uint8_t

cdef list damage_rows(lnt_pool *p)
cdef dict pool_figures(lnt_pool *p)
cdef int objects_walk(lnt_pool *p, list rows, uint8_t hidden, uint64_t *count, uint64_t *size_bytes) except -1
cdef list trace_rows(lnt_pool *p, uint64_t now_us)
