# Requests of READ and WRITE: how they begin and end, and what their results say of the op and of the medium.
from core.base.pool cimport lnt_op_state, lnt_pool, op_state
from core.base.schedule cimport io_free, io_new
from core.base.types cimport IOF_NEW, ST_MEMORY, iovec, lnt_io, lnt_op
from core.space.medium cimport medium_room
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free

cdef enum transfer_step:          # of READ and WRITE, lnt_op_state.step
    TRANSFER_NEW = 0
    TRANSFER_PLAN = 1
    TRANSFER_IO = 2               # from here on the end of the last request lets the op go on
    TRANSFER_VERIFY = 3           # READ: what has arrived is compared with its checksums
    TRANSFER_COMMIT = 4           # WRITE: what has arrived enters the map ...
    TRANSFER_RESTART = 5          # ... or all of it is planned once more

cdef enum request_apart:          # READ, lnt_op_state.apart
    APART_NEXT = 1                # a request of several pieces has failed: each gets its own
    APART_NOW = 2

ctypedef void (*request_done)(lnt_io *) noexcept nogil

cdef void error_at(lnt_op *op, uint8_t status, uint8_t *at) noexcept nogil
cdef void request_judge(lnt_pool *p, lnt_op *op, lnt_io *io) noexcept nogil

cdef inline void request_over(lnt_pool *p, lnt_op *op, lnt_io *io) noexcept nogil:
    """A request is over, whatever it brought."""
    if io.result != 0 or io.vector != NULL:
        request_judge(p, op, io)
    elif io.flags & IOF_NEW and p.medium.refused_us:
        medium_room(p)
    io_free(p, io)

cdef inline lnt_op *request_end(lnt_io *io) noexcept nogil:
    """A request has finished. The op when it was the last that the op waited for, else NULL."""
    cdef lnt_op *op = <lnt_op *>io.owner
    cdef lnt_op_state *x = op_state(op)
    x.io_busy -= 1
    request_over(x.pool, op, io)
    return op if x.io_busy == 0 and x.step >= TRANSFER_IO else NULL

cdef inline void request_start(lnt_pool *p, lnt_op *op, request_done done, uint8_t kind, uint8_t flags, uint64_t offset,
                               uint64_t length, uint8_t *buf, iovec *vector, uint32_t parts) noexcept nogil:
    """Let the device read or write so many bytes of the pool: in one place of memory, or in those of a vector."""
    cdef lnt_io *io = io_new(p)
    if io == NULL:
        error_at(op, ST_MEMORY, buf)
        free(vector)
        return
    io.kind = kind
    io.flags = flags
    io.offset = offset
    io.length = length
    io.buf = buf
    io.vector = vector
    io.parts = parts
    io.unwanted = p.scratch
    io.owner = op
    io.done = done
    op_state(op).io_busy += 1
    if p.current_device.submit(p.current_device, io):
        op_state(op).io_busy -= 1
        request_over(p, op, io)
