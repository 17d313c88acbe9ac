# Which regions the engine puts in order by itself, and how much of the time that may take.
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint64_t

cdef void order_overwritten(lnt_pool *p, lnt_object *o, uint64_t lba) noexcept nogil
cdef void order_read(lnt_pool *p, lnt_object *o, uint64_t lba) noexcept nogil
cdef int order_turn(lnt_pool *p) noexcept nogil
cdef uint64_t order_due(lnt_pool *p) noexcept nogil
cdef void order_ended(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void order_switch(lnt_pool *p, bint on) noexcept nogil
cdef void order_free(lnt_pool *p) noexcept nogil
