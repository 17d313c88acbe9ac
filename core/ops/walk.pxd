# Walks over maps that only read: extents (SBC-4 GET LBA STATUS), differences between objects, exclusive blocks.
from core.base.operation cimport lnt_admin, lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t

cdef int row_add(lnt_admin *a, uint64_t start, uint64_t length, uint64_t value) noexcept nogil
cdef int walk_extents(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil
cdef int walk_diff(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil
cdef int walk_exclusive(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil
