# Opening pools: summaries, area; room for what replay makes (docs/on-disk-format.md, "How it changes").
from core.base.pool cimport lnt_pool

cdef int summaries_load(lnt_pool *p, object device, bytes super_raw) except -1
cdef int area_apply(lnt_pool *p, object device, bytes raw) except -1
cdef int blocks_for_nodes(lnt_pool *p) except -1
