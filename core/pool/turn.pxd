# The engine's turn: what native threads call (docs/architecture.md, "The seams"), and the background work in bounded steps.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_dev, lnt_op
from libc.stdint cimport uint64_t

cdef enum:
    LNT_IDLE = 0x7fffffff

cdef int turn_init(lnt_pool *p, lnt_dev *dev) noexcept nogil
cdef void lnt_enter(lnt_pool *p) noexcept nogil
cdef void lnt_leave(lnt_pool *p) noexcept nogil
cdef void lnt_dev_attach(lnt_pool *p, lnt_dev *dev) noexcept nogil
cdef void lnt_dev_detach(lnt_pool *p, lnt_dev *dev) noexcept nogil
cdef void lnt_submit(lnt_pool *p, lnt_op *op) noexcept nogil
cdef uint64_t lnt_dev_run(lnt_pool *p, lnt_dev *dev, uint64_t now_us) noexcept nogil
cdef int lnt_dev_reap(lnt_pool *p, lnt_dev *dev) noexcept nogil

cdef inline void turn_clock(lnt_pool *p, uint64_t now_us) noexcept nogil:
    """The time of what is done now."""
    p.now_us = now_us

cdef inline void dev_link(lnt_pool *p, lnt_dev *dev) noexcept nogil:
    """One more device; it does not take the background work over."""
    dev.next = p.devices
    p.devices = dev
