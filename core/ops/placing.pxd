# Where the new blocks of a write go, and whether there may be any.
from core._blkmap cimport lnt_extent
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SMALL_BLOCKS = 16             # writes below it are no streams of their own

cdef int space_check(lnt_pool *p, lnt_object *o, uint64_t blocks, int is_new) noexcept nogil
cdef int choose_blocks(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, bint is_new, uint64_t *pba,
                       uint32_t *got) noexcept nogil
cdef int moves(lnt_pool *p, lnt_waiter *who, lnt_object *o, const lnt_extent *first, uint64_t lba, uint64_t want,
               uint32_t *n) noexcept nogil
cdef int choose_run(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, uint64_t *pba,
                    uint32_t *got) noexcept nogil
