# A pool that becomes larger.
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t

cdef int pool_resize(lnt_pool *p, uint64_t total_blocks) noexcept nogil
