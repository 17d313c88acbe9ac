# The map of a LUN: a copy-on-write radix table of 512-entry nodes, with huge entries (docs/on-disk-format.md, node).
from core.base.extent cimport lnt_extent
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    TURN_LOOKS = 1024     # of map_unmap in one turn, ...
    LEAF_LOOKS = 16       # ... of which one that takes something away counts for so many

cdef int map_level(uint64_t blocks) noexcept nogil
cdef int path_own(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, int level, lnt_page **node,
                  lnt_page **parent) noexcept nogil
cdef int map_raise(lnt_pool *p, lnt_object *o, int level) noexcept nogil
cdef int map_find(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t most, int for_write,
                  lnt_extent *out) noexcept nogil
cdef int map_goal(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, bint own, uint64_t *goal) noexcept nogil
cdef int map_filled(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t *filled) noexcept nogil
cdef int map_insert(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t pba, uint32_t n,
                    uint64_t hint) noexcept nogil
cdef int map_unmap(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t end, uint64_t *next,
                   uint32_t *removed) noexcept nogil
cdef int map_share(lnt_pool *p, lnt_waiter *who, lnt_object *dst, uint64_t lba, lnt_object *src, uint64_t src_lba, uint64_t most,
                   uint64_t *done) noexcept nogil
