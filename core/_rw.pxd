# READ, WRITE, UNMAP, SYNC and COMPARE AND WRITE as state machines over the map.
from core._state cimport lnt_pool, vobj
from core._types cimport lnt_op
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef void rw_run(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void epoch_enter(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void epoch_exit(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void wait_grace(lnt_pool *p, lnt_op *op, uint64_t target) noexcept nogil
cdef int wait_room(lnt_pool *p, lnt_op *op) noexcept nogil
cdef lnt_op *sub_new(lnt_pool *p, lnt_op *op, uint8_t kind, uint64_t offset, uint64_t length, uint8_t *buf) noexcept nogil
cdef uint8_t sub_end(lnt_pool *p, lnt_op *op) noexcept nogil
