# References that were dropped: they come off the counts when nothing can need what they refer to any more (I5, I6).
from core.base.dropped cimport STEP_DROPS, lnt_dropped, ring_ready
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef void drop_data(lnt_pool *p, uint64_t pba, uint32_t n, uint8_t trim) noexcept nogil
cdef void drop_node(lnt_pool *p, uint64_t id, uint8_t level, uint8_t trim) noexcept nogil
cdef void drop_unused(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil
cdef int epochs_turn(lnt_pool *p) noexcept nogil
cdef uint64_t pending_count(lnt_pool *p) noexcept nogil
cdef void homes_release(lnt_pool *p) noexcept nogil
cdef int homes_wait(lnt_pool *p) noexcept nogil
cdef int homes_ready(lnt_pool *p) noexcept nogil
cdef void drops_to_homes(lnt_pool *p) noexcept nogil
cdef void drops_free(lnt_pool *p) noexcept nogil
cdef int home_give_up(lnt_pool *p) noexcept nogil
cdef int drop_load(lnt_pool *p, lnt_dropped *it) noexcept nogil
cdef void reclaim_until(lnt_pool *p, uint64_t free_blocks) noexcept nogil
cdef void node_gone(lnt_pool *p, lnt_page *f) noexcept nogil
cdef void home_left(lnt_pool *p, lnt_page *f) noexcept nogil
cdef int reclaim_turn(lnt_pool *p, lnt_waiter *who, int budget) noexcept nogil

cdef inline int drops_ready(lnt_pool *p, uint64_t unused) noexcept nogil:
    """1 when there is memory for what one step of an op drops, and for so many new blocks that may have to be given back."""
    return (ring_ready(&p.dropped_waiting, STEP_DROPS) and ring_ready(&p.dropped_homes, STEP_DROPS)
            and ring_ready(&p.dropped_ready, unused + STEP_DROPS))

cdef inline void epochs_begin(lnt_pool *p) noexcept nogil:
    """A pool is opened. What no epoch was noted for (0) is two epochs old."""
    p.epoch = 2

cdef inline void grace_wait(lnt_pool *p, lnt_op *op) noexcept nogil:
    """The op runs again when the epoch moves."""
    op.next = p.grace
    p.grace = op
