# READ and WRITE as state machines over the map, and what every op waits for: epochs, room.
from core._state cimport lnt_pool, opx
from core._types cimport lnt_op
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef inline opx *X(lnt_op *op) noexcept nogil:
    return <opx *>op.priv

cdef void read_run(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void write_run(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void wait_grace(lnt_pool *p, lnt_op *op, uint64_t target) noexcept nogil
cdef int wait_room(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void op_settle(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil
