# The pieces of an atomic write enter the map and the journal together.
from core._state cimport aext, lnt_pool, vobj
from libc.stdint cimport uint8_t

cdef int pieces_insert(lnt_pool *p, vobj *o, aext **first, uint8_t verify) noexcept nogil
