# WRITE as a state machine over the map, and what it shares with READ (docs/durability.md, docs/concurrency.md).
from core.base.operation cimport lnt_piece
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint8_t

cdef lnt_piece *piece_new(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void pieces_free(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void op_leave(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void op_settle(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil
cdef void write_run(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void spare_pieces_free(lnt_pool *p) noexcept nogil
