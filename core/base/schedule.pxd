# How ops come back to their device: ready, again, finished; and the requests they make.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_io, lnt_op
from libc.stdint cimport int32_t, uint8_t

cdef void op_ready(lnt_pool *p, lnt_op *op) noexcept nogil
cdef int op_again(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void ops_ready(lnt_pool *p, lnt_op **head) noexcept nogil
cdef void op_finish(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil
cdef lnt_io *io_new(lnt_pool *p) noexcept nogil
cdef void io_free(lnt_pool *p, lnt_io *io) noexcept nogil
cdef uint8_t io_status(const lnt_io *io) noexcept nogil
cdef void spare_requests_free(lnt_pool *p) noexcept nogil
cdef int no_room(int32_t result) noexcept nogil
