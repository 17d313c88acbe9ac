"""The data operations by kind, and SYNCHRONIZE CACHE."""
from core.base.pool cimport lnt_op_state, op_state
from core.base.schedule cimport op_finish
from core.base.types cimport (
    OPF_BACKGROUND, OP_COMPARE_WRITE, OP_MOVE, OP_READ, OP_SYNC, OP_UNMAP, OP_WRITE, OP_WRITE_ATOMIC, ST_INVALID, ST_OK,
)
from core.log.journal cimport next_sync, wait_hard
from core.ops.exclusive cimport locked_run
from core.ops.moving cimport move_run
from core.ops.parts cimport op_refused
from core.ops.ranges cimport range_leave
from core.ops.reading cimport read_run
from core.ops.transfer cimport write_run
from core.ops.unmap cimport unmap_run
from core.space.budget cimport budget_request
from libc.stdint cimport uint8_t

cdef enum:
    DATA_NEW = 0


cdef void sync_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    if p.journal.record_seq <= p.journal.hard_seq and p.journal.data_writes == p.journal.synced_writes:
        op_finish(p, op, ST_OK)       # nothing was written since the last sync began
        return
    x.need_seq = p.journal.record_seq
    x.need_sync = next_sync(p)
    wait_hard(p, op)


cdef void data_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Run an op from its step."""
    cdef int status
    if op_state(op).step == DATA_NEW:
        if op.kind != OP_MOVE and not op.flags & OPF_BACKGROUND and not op_state(op).internal:
            budget_request(p, op.kind != OP_READ and op.kind != OP_SYNC)      # somebody's command
        status = op_refused(p, op)
        if status:
            range_leave(p, &op_state(op).place)
        if status or (op.length == 0 and op.kind != OP_SYNC):
            op_finish(p, op, <uint8_t>status)
            return
    if op.kind == OP_READ:
        read_run(p, op)
    elif op.kind == OP_WRITE:
        write_run(p, op)
    elif op.kind == OP_UNMAP:
        unmap_run(p, op)
    elif op.kind == OP_COMPARE_WRITE or op.kind == OP_WRITE_ATOMIC:
        locked_run(p, op)
    elif op.kind == OP_MOVE:
        move_run(p, op)
    elif op.kind == OP_SYNC:
        sync_run(p, op)
    else:
        op_finish(p, op, ST_INVALID)
