# The pending list of a checkpoint.
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t

cdef uint32_t pending_pages(lnt_pool *p) noexcept nogil
cdef void pending_freeze(lnt_pool *p) noexcept nogil
