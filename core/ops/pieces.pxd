# WRITE ATOMIC: all pieces of a write change the map in one step and are one journal frame (SBC-4 §4.29; docs/durability.md).
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_piece, lnt_waiter
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint8_t

cdef enum commit_again:
    MERGE_AGAIN = -2          # the block that a partial write was merged with is another one now
    PLAN_AGAIN = -3           # it may be written in place now, or could have been meanwhile

cdef int pieces_insert(lnt_pool *p, lnt_waiter *who, lnt_object *o, lnt_piece **first, uint8_t verify) noexcept nogil
