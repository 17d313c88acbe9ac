# Which free blocks are taken: near a goal, and never what is promised to somebody else.
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef uint64_t space_for_nodes(lnt_pool *p) noexcept nogil
cdef uint64_t space_for_data(lnt_pool *p) noexcept nogil
cdef uint64_t space_beyond(lnt_pool *p, uint64_t reserve) noexcept nogil
cdef uint64_t available_blocks(lnt_pool *p) noexcept nogil
cdef int alloc_extent(lnt_pool *p, lnt_waiter *who, uint64_t goal, uint32_t offset, uint32_t want, bint thrifty, uint64_t *pba,
                      uint32_t *got) noexcept nogil
cdef int alloc_arrival(lnt_pool *p, lnt_waiter *who, uint32_t want, uint64_t *pba, uint32_t *got) noexcept nogil
cdef int alloc_home(lnt_pool *p, lnt_waiter *who, uint64_t *pba) noexcept nogil
cdef int alloc_exact(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t want, uint32_t *got) noexcept nogil
cdef int alloc_whole(lnt_pool *p, lnt_waiter *who, uint64_t goal, uint32_t offset, uint32_t want, uint64_t *pba,
                     uint32_t *got) noexcept nogil
