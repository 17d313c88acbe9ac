# Making and opening pools: area, catalog, journal replay.
from core._state cimport lnt_pool
from libc.stdint cimport uint64_t

cdef int summaries_load(lnt_pool *p, object device, bytes super_raw) except -1
cdef int area_apply(lnt_pool *p, object device, bytes raw) except -1
cdef int catalog_load(lnt_pool *p, list keys) except -1
cdef int journal_replay(lnt_pool *p, object device, bytes raw, int trusted, list changes) except -1
cdef object pool_format(object device, str name, uint64_t size_bytes, uint64_t journal_blocks, uint64_t area_blocks)
cdef int blocks_for_nodes(lnt_pool *p) except -1
