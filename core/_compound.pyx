# cython: language_level=3
"""UNMAP, SYNC, COMPARE AND WRITE and WRITE ATOMIC, and the door through which every data op runs (SBC-4; docs/durability.md).

Compound ops are made of parts: internal READs and WRITEs that the op starts and waits for.
"""
from core._blkmap cimport LEAF_LOOKS, TURN_LOOKS, extent, map_find, map_unmap
from core._cache cimport M_NO_LOCK_GRACE, op_again, op_finish, op_ready
from core._journal cimport journal_fit, next_sync, record_3, wait_hard
from core._ranges cimport range_leave, range_stand, range_waits
from core._rw cimport X, op_settle, read_run, wait_grace, wait_room, write_run
from core._state cimport L_ATOMIC_BLOCKS, L_BLOCK_BYTES, RT_UNMAP, WAIT, lnt_alloc_aligned, lnt_pool, opx, vobj
from core._types cimport (
    OP_COMPARE_WRITE, OP_READ, OP_SYNC, OP_UNMAP, OP_WRITE, OP_WRITE_ATOMIC, OPF_ATOMIC, OPF_FUA, OPF_NOUNMAP, ST_GONE,
    ST_INVALID, ST_MISCOMPARE, ST_OK, ST_PROTECTED, ST_RANGE, ST_READ_ONLY, lnt_op)
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

cdef enum:
    S_NEW = 0
    S_PLAN = 1
    S_SUB = 5
    S_LOCKED = 6
    S_WRITE = 7
    ZERO_BYTES = 1048576


cdef int refused(lnt_pool *p, lnt_op *op) noexcept nogil:
    """The status that ends an op before it starts, or 0."""
    cdef vobj *o = <vobj *>op.obj
    if op.kind == OP_SYNC:
        return ST_READ_ONLY if p.failed else 0
    if o.pub.gone:
        return ST_GONE
    if op.offset > o.pub.size_bytes or op.length > o.pub.size_bytes - op.offset:
        return ST_RANGE
    if (op.offset | op.length) & (o.pub.block_bytes - 1):
        return ST_INVALID
    if op.kind == OP_WRITE_ATOMIC and op.length > L_ATOMIC_BLOCKS * L_BLOCK_BYTES:
        return ST_INVALID
    if op.kind != OP_READ:
        if o.pub.read_only:
            return ST_PROTECTED
        if p.failed or p.read_only:
            return ST_READ_ONLY
    return 0


# -- parts -------------------------------------------------------------------------------------------------------------

cdef lnt_op *sub_new(lnt_pool *p, lnt_op *op, uint8_t kind, uint64_t offset, uint64_t length, uint8_t *buf) noexcept nogil:
    """Start a part of a compound op; the op runs again when it is done (sub_end)."""
    cdef lnt_op *s = <lnt_op *>calloc(1, sizeof(lnt_op))
    s.kind = kind
    s.offset = offset
    s.length = length
    s.buf = buf
    s.obj = op.obj
    s.dev = op.dev
    s.flags = op.flags & OPF_FUA
    s.owner = op
    X(s).internal = 1
    X(s).pool = p
    X(op).sub = s
    op_ready(p, s)
    return s


cdef uint8_t sub_end(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef uint8_t status = X(op).sub.status
    free(X(op).sub)
    X(op).sub = NULL
    return status


cdef int first_in_line(lnt_pool *p, lnt_op *op, uint8_t alone) noexcept nogil:
    """0: those who came before and are in the way have left. The op keeps its place until it ends; its parts need none."""
    cdef opx *x = X(op)
    if not x.place.stands:
        range_stand(p, &x.place, <vobj *>op.obj, op, op.offset, op.offset + op.length, alone)
    return range_waits(p, &x.place)


# -- UNMAP -------------------------------------------------------------------------------------------------------------

cdef void unmap_end(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil:
    range_leave(p, &X(op).place)
    op_settle(p, op, status)


cdef void unmap_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Whole blocks leave the map; the rest, and everything with OPF_NOUNMAP, is overwritten with zeros."""
    cdef opx *x = X(op)
    cdef vobj *o = <vobj *>op.obj
    cdef uint64_t at, n, end = op.offset + op.length, next_lba = 0
    cdef uint32_t removed = 0
    cdef extent e
    cdef int rc, looks = 0
    cdef uint8_t status
    if x.step == S_SUB:
        status = sub_end(p, op)
        if status:
            unmap_end(p, op, status)
            return
        x.step = S_PLAN
    if x.step == S_NEW:
        if first_in_line(p, op, 0):
            return
        x.step = S_PLAN
    while x.cursor < op.length:
        if o.pub.gone or p.failed:
            unmap_end(p, op, ST_GONE if o.pub.gone else ST_READ_ONLY)
            return
        if wait_room(p, op):
            return
        at = op.offset + x.cursor
        n = end - at
        if op.flags & OPF_NOUNMAP or at & (L_BLOCK_BYTES - 1) or n < L_BLOCK_BYTES:
            if op.flags & OPF_NOUNMAP:
                n = n if n < ZERO_BYTES else ZERO_BYTES
            else:
                n = n if n < L_BLOCK_BYTES - (at & (L_BLOCK_BYTES - 1)) else L_BLOCK_BYTES - (at & (L_BLOCK_BYTES - 1))
                p.cur_op = op
                rc = map_find(p, o, at >> 12, 1, 0, &e)
                p.cur_op = NULL
                if rc == WAIT:
                    return
                if rc:
                    unmap_end(p, op, <uint8_t>rc)
                    return
                if e.pba == 0:
                    x.cursor += n
                    continue
            x.cursor += n
            x.step = S_SUB
            sub_new(p, op, OP_WRITE, at, n, p.zeros)
            return
        journal_fit(p, 32)
        p.cur_op = op
        rc = map_unmap(p, o, at >> 12, end >> 12, &next_lba, &removed)
        p.cur_op = NULL
        if rc == WAIT:
            return
        if rc:
            unmap_end(p, op, <uint8_t>rc)
            return
        if removed:
            record_3(p, RT_UNMAP, o.pub.id, at >> 12, next_lba - (at >> 12))
        x.cursor = next_lba * L_BLOCK_BYTES - op.offset
        looks += LEAF_LOOKS if removed else 1
        if looks >= TURN_LOOKS:
            op_again(p, op)
            return
    unmap_end(p, op, ST_OK)


# -- COMPARE AND WRITE, WRITE ATOMIC, SYNC ------------------------------------------------------------------------------

cdef void locked_end(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil:
    free(X(op).bounce)
    X(op).bounce = NULL
    range_leave(p, &X(op).place)
    op_finish(p, op, status)


cdef void locked_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Have the range alone, let what is under way there finish, read and compare (COMPARE AND WRITE), write."""
    cdef opx *x = X(op)
    cdef uint8_t status
    cdef uint64_t i = 0
    if x.step == S_NEW:
        if first_in_line(p, op, 1):
            return
        if op.kind == OP_COMPARE_WRITE:
            x.bounce = <uint8_t *>lnt_alloc_aligned(op.length)
        x.step = S_LOCKED
        wait_grace(p, op, p.epoch + 2)
        return
    if x.step == S_LOCKED:
        if p.epoch < x.target_epoch and not p.mutations & M_NO_LOCK_GRACE:
            wait_grace(p, op, x.target_epoch)
            return
        if range_waits(p, &x.place):       # a write that left its epoch, and is not over
            return
        if op.kind == OP_WRITE_ATOMIC:
            x.step = S_WRITE
            sub_new(p, op, OP_WRITE, op.offset, op.length, op.buf).flags |= OPF_ATOMIC
            return
        x.step = S_SUB
        sub_new(p, op, OP_READ, op.offset, op.length, x.bounce)
        return
    status = sub_end(p, op)
    if status or x.step == S_WRITE:
        locked_end(p, op, status)
        return
    if memcmp(x.bounce, op.buf, op.length) != 0:
        while x.bounce[i] == op.buf[i]:
            i += 1
        op.result = i
        locked_end(p, op, ST_MISCOMPARE)
        return
    x.step = S_WRITE
    sub_new(p, op, OP_WRITE, op.offset, op.length, op.buf + op.length)


cdef void sync_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef opx *x = X(op)
    if p.j.record_seq <= p.j.hard_seq and p.j.data_writes == p.j.synced_writes:
        op_finish(p, op, ST_OK)       # nothing was written since the last sync began
        return
    x.need_seq = p.j.record_seq
    x.need_sync = next_sync(p)
    wait_hard(p, op)


cdef void data_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Run an op from its step."""
    cdef int status
    if X(op).step == S_NEW:
        p.budget.requests += 1
        status = refused(p, op)
        if status:
            range_leave(p, &X(op).place)
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
    elif op.kind == OP_SYNC:
        sync_run(p, op)
    else:
        op_finish(p, op, ST_INVALID)
