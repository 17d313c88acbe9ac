# The line in front of a range of an object: who must have ended before an op may begin there.
from core._admin cimport admin
from core._state cimport lnt_pool, rlock, vobj
from core._types cimport lnt_op
from libc.stdint cimport uint8_t, uint64_t

cdef void range_stand(lnt_pool *p, rlock *place, vobj *o, lnt_op *op, uint64_t lo, uint64_t hi, uint8_t alone) noexcept nogil
cdef void range_keep(lnt_pool *p, rlock *place, vobj *o, lnt_op *op) noexcept nogil
cdef int range_waits(lnt_pool *p, rlock *place) noexcept nogil
cdef int range_let_in(lnt_pool *p, rlock *place, vobj *o, lnt_op *op) noexcept nogil
cdef void range_leave(lnt_pool *p, rlock *place) noexcept nogil
cdef int places_wait(lnt_pool *p, admin *a) noexcept nogil
cdef void places_leave(lnt_pool *p, admin *a) noexcept nogil
