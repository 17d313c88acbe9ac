"""How ops come back to their device: ready, again, finished; and the requests they make.

Lives here and nowhere else: the devices' lists of ops, and spare requests.
"""
from core.base.check cimport LNT_CHECKS, lnt_check
from core.base.entries cimport WAIT
from core.base.memory cimport mem_zeroed
from core.base.pool cimport lnt_op_state
from core.base.types cimport IO_READ, OP_ADMIN, ST_IO_READ, ST_IO_WRITE, ST_NO_SPACE, lnt_dev
from libc.errno cimport EDQUOT, EFBIG, ENOSPC
from libc.stdlib cimport free
from libc.string cimport memset


cdef int in_list(lnt_op *first, lnt_op *op) noexcept nogil:
    """For assertions."""
    while first != NULL and first != op:
        first = first.next
    return first != NULL


cdef inline void hand_over(lnt_pool *p, lnt_dev *dev, lnt_op **head, lnt_op **tail, lnt_op *op) noexcept nogil:
    """Put an op behind those in a list of a device, whose thread is told when it is not ours."""
    if LNT_CHECKS:
        lnt_check(not in_list(dev.ready_head, op) and not in_list(dev.done_head, op), "I12: an op is in one list at most")
    op.next = NULL
    if tail[0] != NULL:
        tail[0].next = op
    else:
        head[0] = op
    tail[0] = op
    if dev != p.current_device:
        dev.wake(dev)


cdef void op_ready(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Queue an op to run again on its own device's thread; an admin op wherever background work is done by now."""
    cdef lnt_dev *dev
    if op.kind == OP_ADMIN:
        op.dev = p.background_device
    dev = op.dev
    hand_over(p, dev, &dev.ready_head, &dev.ready_tail, op)


cdef int op_again(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Let others go first and other threads have the lock: the op runs again in the next turn. WAIT, for its caller to return."""
    op.next = p.current_device.later
    p.current_device.later = op
    return WAIT


cdef void ops_ready(lnt_pool *p, lnt_op **head) noexcept nogil:
    cdef lnt_op *op = head[0]
    cdef lnt_op *nxt
    head[0] = NULL
    while op != NULL:
        nxt = op.next
        op_ready(p, op)
        op = nxt


cdef void op_finish(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil:
    """Hand an op to lnt_dev_reap of its device, or a part to the op it belongs to."""
    cdef lnt_dev *dev
    if op.kind == OP_ADMIN:
        op.dev = p.background_device
    dev = op.dev
    op.status = status
    if (<lnt_op_state *>op.priv).internal:
        op_ready(p, <lnt_op *>op.owner)   # part of another op, which goes on
        return
    hand_over(p, dev, &dev.done_head, &dev.done_tail, op)


cdef lnt_io *io_new(lnt_pool *p) noexcept nogil:
    cdef lnt_io *io = <lnt_io *>p.spare_requests
    if io != NULL:
        p.spare_requests = io.next
        memset(io, 0, sizeof(lnt_io))
        return io
    return <lnt_io *>mem_zeroed(sizeof(lnt_io))


cdef void io_free(lnt_pool *p, lnt_io *io) noexcept nogil:
    io.next = <lnt_io *>p.spare_requests
    p.spare_requests = io


cdef void spare_requests_free(lnt_pool *p) noexcept nogil:
    """Requests that were kept for the next ones."""
    cdef lnt_io *io = <lnt_io *>p.spare_requests
    while io != NULL:
        p.spare_requests = io.next
        free(io)
        io = <lnt_io *>p.spare_requests


cdef int no_room(int32_t result) noexcept nogil:
    """1 when a request failed because the medium, a quota or a limit of file sizes leaves no room for it."""
    return result == -ENOSPC or result == -EDQUOT or result == -EFBIG


cdef uint8_t io_status(const lnt_io *io) noexcept nogil:
    """What a failed request of data means: a medium without room is a full pool, and the initiator may wait for room."""
    if io.kind == IO_READ:
        return ST_IO_READ
    return ST_NO_SPACE if no_room(io.result) else ST_IO_WRITE
