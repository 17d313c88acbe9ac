# READ and WRITE as state machines over the map (docs/durability.md, docs/concurrency.md).
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint8_t

cdef void read_run(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void op_settle(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil
cdef void write_run(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void spare_pieces_free(lnt_pool *p) noexcept nogil
