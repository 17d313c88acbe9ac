# The pieces of an atomic write enter the map and the journal together.
from core._state cimport aext, lnt_pool, vobj
from libc.stdint cimport uint8_t

cdef enum commit_again:
    MERGE_AGAIN = -2          # the block that a partial write was merged with is another one now
    PLAN_AGAIN = -3           # it may be written in place now, or could have been meanwhile

cdef int pieces_insert(lnt_pool *p, vobj *o, aext **first, uint8_t verify) noexcept nogil
