"""Requests of READ and WRITE: how they begin and end, and what their results say of the op and of the medium.

Lives here and nowhere else: `io_busy`, `error` and `result` of an op of data.
"""
from core.base.layout cimport L_BLOCK_BYTES
from core.base.mutations cimport M_JOIN_DEAF
from core.base.pool cimport lnt_op_state, op_state
from core.base.schedule cimport io_status
from core.space.medium cimport medium_refused
from libc.stdlib cimport free


cdef void error_at(lnt_op *op, uint8_t status, uint8_t *at) noexcept nogil:
    """The op will fail; op.result becomes the offset in it of the first of its bytes that could not be had."""
    cdef lnt_op_state *x = op_state(op)
    cdef uint64_t skip = op.offset & (L_BLOCK_BYTES - 1) if x.bounce != NULL else 0
    cdef uint8_t *base = x.bounce if x.bounce != NULL else op.buf
    cdef uint64_t result = 0
    if base + skip <= at < base + skip + op.length:
        result = at - base - skip
    if not x.error or result < op.result:
        op.result = result
    if not x.error:
        x.error = status


cdef void request_judge(lnt_pool *p, lnt_op *op, lnt_io *io) noexcept nogil:
    """What a request says that failed, or had several pieces: those do not say which was bad, so that each gets its own."""
    if io.vector == NULL:
        error_at(op, io_status(io), <uint8_t *>io.buf)
        medium_refused(p, io)
        return
    if io.result != 0 and not p.mutations & M_JOIN_DEAF:
        op_state(op).apart = APART_NEXT
    free(io.vector)
