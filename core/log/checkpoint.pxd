# The checkpoint: one instant's metadata to the area, the superblock that publishes it, then every page home.
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t, uint8_t

cdef void limits_set(lnt_pool *p) noexcept nogil
cdef void ckpt_settled(lnt_pool *p) noexcept nogil
cdef void ckpt_recovers(lnt_pool *p) noexcept nogil
cdef void summary_image(lnt_pool *p, uint64_t index, uint8_t *out, uint64_t generation) noexcept nogil
cdef int ckpt_due(lnt_pool *p) noexcept nogil
cdef int ckpt_turn(lnt_pool *p, lnt_waiter *who) noexcept nogil
