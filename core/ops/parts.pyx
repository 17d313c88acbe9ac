"""What is made of parts: an op whose work is done by reads and writes of its own."""
from core.base.layout cimport L_ATOMIC_BLOCKS, L_BLOCK_BYTES
from core.base.memory cimport mem_zeroed
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_op_state, op_state
from core.base.schedule cimport op_ready
from core.base.types cimport OPF_FUA, OP_READ, OP_SYNC, OP_WRITE_ATOMIC, ST_GONE, ST_INVALID, ST_PROTECTED, ST_RANGE, ST_READ_ONLY
from core.ops.ranges cimport range_stand, range_waits
from libc.stdlib cimport free


cdef int op_refused(lnt_pool *p, lnt_op *op) noexcept nogil:
    """The status that ends an op before it starts, or 0."""
    cdef lnt_object *o = <lnt_object *>op.obj
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


cdef lnt_op *sub_new(lnt_pool *p, lnt_op *op, uint8_t kind, uint64_t offset, uint64_t length, uint8_t *buf) noexcept nogil:
    """Start a part of a compound op, which runs again when it is done (sub_end). NULL: there is no memory for it."""
    cdef lnt_op *s = <lnt_op *>mem_zeroed(sizeof(lnt_op))
    if s == NULL:
        return NULL
    s.kind = kind
    s.offset = offset
    s.length = length
    s.buf = buf
    s.obj = op.obj
    s.dev = op.dev
    s.flags = op.flags & OPF_FUA
    s.owner = op
    op_state(s).internal = 1
    op_state(s).pool = p
    op_state(op).sub = s
    op_ready(p, s)
    return s


cdef uint8_t sub_end(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef uint8_t status = op_state(op).sub.status
    free(op_state(op).sub)
    op_state(op).sub = NULL
    return status


cdef int first_in_line(lnt_pool *p, lnt_op *op, uint8_t alone) noexcept nogil:
    """0: those who came before and are in the way have left. The op keeps its place until it ends; its parts need none."""
    cdef lnt_op_state *x = op_state(op)
    if not x.place.stands:
        range_stand(p, &x.place, <lnt_object *>op.obj, op, op.offset, op.offset + op.length, alone)
    return range_waits(p, &x.place)
