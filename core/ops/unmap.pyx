"""UNMAP: whole blocks leave the map, a slice a turn; what is left of a block is written with zeros (SBC-4 §5.35).

The ranges of one command are one op: its records share journal frames, and it waits for them once, at its end.
"""
from core._blkmap cimport LEAF_LOOKS, TURN_LOOKS, map_find, map_unmap
from core.base.entries cimport WAIT
from core.base.extent cimport lnt_extent
from core.base.layout cimport L_BLOCK_BYTES, RB_UNMAP
from core.base.mutations cimport M_HOLE_WRITES, M_SHORT_UNMAP
from core.base.native cimport lnt_get_le64
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_waiter, waiter_of
from core.base.pool cimport ZEROS_BYTES, lnt_op_state, op_state
from core.base.schedule cimport op_again
from core.base.types cimport OPF_NOUNMAP, OP_WRITE, ST_GONE, ST_MEMORY, ST_OK, ST_READ_ONLY
from core.log.journal cimport journal_fit
from core.log.records cimport record_unmap
from core.ops.epochs cimport memory_ready, wait_room
from core.ops.parts cimport first_in_line, op_refused, sub_end, sub_new
from core.ops.ranges cimport range_leave
from core.ops.transfer cimport op_settle
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:                    # a further range in the buffer, as `start_unmap` of core/pool/data_operations.pyx puts it
    FURTHER_OFFSET = 0
    FURTHER_LENGTH = 8
    FURTHER_BYTES = 16

cdef enum:
    UNMAP_NEW = 0
    UNMAP_PLAN = 1
    UNMAP_SUB = 5


cdef void unmap_end(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil:
    range_leave(p, &op_state(op).place)
    op_settle(p, op, status)


cdef int range_next(lnt_pool *p, lnt_op *op) noexcept nogil:
    """A range is unmapped. 1: the op goes on with the next one; 0: that was the last, or the next is refused: it has ended."""
    cdef lnt_op_state *x = op_state(op)
    cdef uint8_t status = ST_OK
    if op.result:
        range_leave(p, &x.place)
        op.offset = lnt_get_le64(op.buf + FURTHER_OFFSET)
        op.length = lnt_get_le64(op.buf + FURTHER_LENGTH)
        op.buf += FURTHER_BYTES
        op.result -= 1
        x.cursor = 0
        x.step = UNMAP_NEW
        status = <uint8_t>op_refused(p, op)
        if status == 0:
            return 1
    unmap_end(p, op, status)
    return 0


cdef void unmap_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Go on with the range at hand, then with the others, for as long as a turn may take."""
    cdef lnt_op_state *x = op_state(op)
    cdef int looks = 0
    cdef uint8_t status
    if x.step == UNMAP_SUB:
        status = sub_end(p, op)
        if status:
            unmap_end(p, op, status)
            return
        x.step = UNMAP_PLAN
    while True:
        if x.step == UNMAP_NEW:
            if first_in_line(p, op, 0):
                return
            x.step = UNMAP_PLAN
        if not range_unmap(p, op, &looks) or not range_next(p, op):
            return


cdef int range_unmap(lnt_pool *p, lnt_op *op, int *looks) noexcept nogil:
    """Whole blocks leave the map; the rest, and everything with OPF_NOUNMAP, is overwritten with zeros. 1: the range is done."""
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_waiter who = waiter_of(op)
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef uint64_t at, lba, n, end = op.offset + op.length, next_lba = 0
    cdef uint32_t removed = 0
    cdef lnt_extent e
    cdef int rc
    while x.cursor < op.length:
        if looks[0] >= TURN_LOOKS:
            op_again(p, op)
            return 0
        if o.pub.gone or p.failed:
            unmap_end(p, op, ST_GONE if o.pub.gone else ST_READ_ONLY)
            return 0
        if wait_room(p, op):
            return 0
        at = op.offset + x.cursor
        lba = at // L_BLOCK_BYTES
        n = end - at
        if op.flags & OPF_NOUNMAP or at & (L_BLOCK_BYTES - 1) or n < L_BLOCK_BYTES:
            if op.flags & OPF_NOUNMAP:
                n = n if n < ZEROS_BYTES else ZEROS_BYTES
            else:
                n = n if n < L_BLOCK_BYTES - (at & (L_BLOCK_BYTES - 1)) else L_BLOCK_BYTES - (at & (L_BLOCK_BYTES - 1))
                rc = map_find(p, &who, o, lba, 1, 0, &e)
                if rc == WAIT:
                    return 0
                if rc:
                    unmap_end(p, op, <uint8_t>rc)
                    return 0
                if e.pba == 0 and not p.mutations & M_HOLE_WRITES:
                    x.cursor += n
                    continue
            x.cursor += n
            x.step = UNMAP_SUB
            if sub_new(p, op, OP_WRITE, at, n, p.zeros) == NULL:
                unmap_end(p, op, ST_MEMORY)
            return 0
        if not memory_ready(p):
            unmap_end(p, op, ST_MEMORY)
            return 0
        journal_fit(p, RB_UNMAP)
        rc = map_unmap(p, &who, o, lba, end // L_BLOCK_BYTES, &next_lba, &removed)
        if rc == WAIT:
            return 0
        if rc:
            unmap_end(p, op, <uint8_t>rc)
            return 0
        if removed:
            record_unmap(p, o.pub.id, lba, next_lba - lba - (1 if p.mutations & M_SHORT_UNMAP else 0))
        x.cursor = next_lba * L_BLOCK_BYTES - op.offset
        looks[0] += LEAF_LOOKS if removed else 1
    return 1
