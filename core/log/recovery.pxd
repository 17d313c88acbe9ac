# Making and opening pools: summaries, area, catalog; room for what replay makes (docs/on-disk-format.md, "How it changes").
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t

cdef int summaries_load(lnt_pool *p, object device, bytes super_raw) except -1
cdef int medium_open(lnt_pool *p, object device) except -1
cdef int medium_load(lnt_pool *p, object device, bytes super_raw) except -1
cdef int area_apply(lnt_pool *p, object device, bytes raw) except -1
cdef int blocks_for_nodes(lnt_pool *p) except -1
cdef void drops_reclaim(lnt_pool *p, uint64_t want) noexcept nogil
cdef object pool_format(object device, str name, uint64_t size_bytes, uint64_t journal_blocks, uint64_t area_blocks)
