# The checkpoint: one instant's metadata to the area, the superblock that publishes it, then every page home.
from core.base.operation cimport lnt_waiter
from core.base.pool cimport lnt_pool

cdef void limits_set(lnt_pool *p) noexcept nogil
cdef int ckpt_due(lnt_pool *p) noexcept nogil
cdef int ckpt_turn(lnt_pool *p, lnt_waiter *who) noexcept nogil
