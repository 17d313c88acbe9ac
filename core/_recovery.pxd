# Making and opening pools: summaries, area, catalog.
from core._state cimport lnt_pool, vobj
from libc.stdint cimport uint8_t, uint64_t

cdef int summaries_load(lnt_pool *p, object device, bytes super_raw) except -1
cdef int medium_open(lnt_pool *p, object device) except -1
cdef int medium_load(lnt_pool *p, object device, bytes super_raw) except -1
cdef int area_apply(lnt_pool *p, object device, bytes raw) except -1
cdef int catalog_load(lnt_pool *p, list keys) except -1
cdef vobj *object_from(lnt_pool *p, const uint8_t *slot) except NULL
cdef object pool_format(object device, str name, uint64_t size_bytes, uint64_t journal_blocks, uint64_t area_blocks)
cdef int blocks_for_nodes(lnt_pool *p) except -1
cdef void drops_reclaim(lnt_pool *p, uint64_t want) noexcept nogil
