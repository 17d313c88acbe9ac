# Where the new blocks of a write go, and whether there may be any.
from core.base.extent cimport lnt_extent
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SMALL_BLOCKS = 16             # writes below it are no streams of their own
    FEW_PIECES = 2                # what is to be in order may lie in so many pieces ...
    PIECE_BLOCKS = 32             # ... and in one more for each so many blocks
    RUNS_KEPT = 4                 # free runs that are not for what has a place already

cdef inline bint runs_to_spare(lnt_pool *p) noexcept nogil:
    """There are free runs for what has a place already."""
    return p.free_runs > RUNS_KEPT + p.n_runs // 64

cdef int space_check(lnt_pool *p, lnt_object *o, uint64_t blocks, int is_new) noexcept nogil
cdef int choose_blocks(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, bint is_new, uint64_t *pba,
                       uint32_t *got) noexcept nogil
cdef int moves(lnt_pool *p, lnt_waiter *who, lnt_object *o, const lnt_extent *first, uint64_t lba, uint64_t want,
               uint32_t *n) noexcept nogil
cdef bint region_fills(lnt_pool *p, lnt_object *o, uint64_t lba, uint32_t n) noexcept nogil
cdef int choose_place(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, uint64_t *base, uint64_t *pba,
                      uint32_t *got) noexcept nogil
cdef int choose_run(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t want, uint64_t *pba,
                    uint32_t *got) noexcept nogil
