# Range locks: the line that every op on an object's data stands in, and the only place where one waits for another's range
from core.base.object cimport lnt_object, lnt_range
from core.base.operation cimport lnt_admin
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint64_t, uint8_t

cdef void range_stand(lnt_pool *p, lnt_range *place, lnt_object *o, lnt_op *op, uint64_t start_bytes, uint64_t end_bytes,
                      uint8_t alone) noexcept nogil
cdef void range_keep(lnt_pool *p, lnt_range *place, lnt_object *o, lnt_op *op) noexcept nogil
cdef int range_waits(lnt_pool *p, lnt_range *place) noexcept nogil
cdef int range_let_in(lnt_pool *p, lnt_range *place, lnt_object *o, lnt_op *op) noexcept nogil
cdef void range_leave(lnt_pool *p, lnt_range *place) noexcept nogil
cdef int places_wait(lnt_pool *p, lnt_admin *a) noexcept nogil
cdef void places_leave(lnt_pool *p, lnt_admin *a) noexcept nogil
