"""COMPARE AND WRITE and WRITE ATOMIC: alone in their range, then read, compared and written (SBC-4 §5.3, §5.47).
"""
from core.base.memory cimport mem_aligned
from core.base.mutations cimport M_NO_LOCK_GRACE
from core.base.pool cimport lnt_op_state, op_state
from core.base.schedule cimport op_finish
from core.base.types cimport OPF_ATOMIC, OP_READ, OP_WRITE, OP_WRITE_ATOMIC, ST_MEMORY, ST_MISCOMPARE
from core.ops.epochs cimport wait_grace
from core.ops.parts cimport first_in_line, sub_end, sub_new
from core.ops.ranges cimport range_leave, range_waits
from libc.stdint cimport uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcmp

cdef enum:
    EXCLUSIVE_NEW = 0
    EXCLUSIVE_SUB = 5
    EXCLUSIVE_LOCKED = 6
    EXCLUSIVE_WRITE = 7


cdef void locked_end(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil:
    free(op_state(op).bounce)
    op_state(op).bounce = NULL
    range_leave(p, &op_state(op).place)
    op_finish(p, op, status)


cdef void locked_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Have the range alone, let what is under way there finish, read and compare (COMPARE AND WRITE), write."""
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_op *s
    cdef uint8_t status
    cdef uint64_t i = 0
    if x.step == EXCLUSIVE_NEW:
        if first_in_line(p, op, 1):
            return
        if op.kind != OP_WRITE_ATOMIC:
            x.bounce = <uint8_t *>mem_aligned(op.length)
            if x.bounce == NULL:
                locked_end(p, op, ST_MEMORY)
                return
        x.step = EXCLUSIVE_LOCKED
        wait_grace(p, op, p.epoch + 2)
        return
    if x.step == EXCLUSIVE_LOCKED:
        if p.epoch < x.target_epoch and not p.mutations & M_NO_LOCK_GRACE:
            wait_grace(p, op, x.target_epoch)
            return
        if range_waits(p, &x.place):       # a write that left its epoch, and is not over
            return
        if op.kind == OP_WRITE_ATOMIC:
            x.step = EXCLUSIVE_WRITE
            s = sub_new(p, op, OP_WRITE, op.offset, op.length, op.buf)
        else:
            x.step = EXCLUSIVE_SUB
            s = sub_new(p, op, OP_READ, op.offset, op.length, x.bounce)
        if s == NULL:
            locked_end(p, op, ST_MEMORY)
        elif x.step == EXCLUSIVE_WRITE:
            s.flags |= OPF_ATOMIC
        return
    status = sub_end(p, op)
    if status or x.step == EXCLUSIVE_WRITE:
        locked_end(p, op, status)
        return
    if memcmp(x.bounce, op.buf, op.length) != 0:
        while x.bounce[i] == op.buf[i]:
            i += 1
        op.result = i
        locked_end(p, op, ST_MISCOMPARE)
        return
    x.step = EXCLUSIVE_WRITE
    if sub_new(p, op, OP_WRITE, op.offset, op.length, op.buf + op.length) == NULL:
        locked_end(p, op, ST_MEMORY)
