# What is made of parts: an op whose work is done by reads and writes of its own.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint64_t, uint8_t

cdef int op_refused(lnt_pool *p, lnt_op *op) noexcept nogil
cdef lnt_op *sub_new(lnt_pool *p, lnt_op *op, uint8_t kind, uint64_t offset, uint64_t length, uint8_t *buf) noexcept nogil
cdef uint8_t sub_end(lnt_pool *p, lnt_op *op) noexcept nogil
cdef int first_in_line(lnt_pool *p, lnt_op *op, uint8_t alone) noexcept nogil
