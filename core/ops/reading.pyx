"""READ as a state machine over the map; pieces that lie near each other become one request (docs/architecture.md, "Reads").

What a snapshot has scattered lies in a run for each generation, at the same places in all of them. So the pieces that are wanted
of one run have gaps that the other runs fill. A device says up to which length a gap is cheaper than one more request; then it is
read, too, and thrown away. A request that fails says nothing of which piece was bad, so then each piece has a request of its own.
"""
from core._blkmap cimport map_find
from core.base.entries cimport WAIT
from core.base.extent cimport lnt_extent
from core.base.layout cimport L_BLOCK_BYTES, L_RUN_BLOCKS, OF_CHECKSUM
from core.base.memory cimport mem_aligned, mem_new
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_piece, lnt_waiter, waiter_of
from core.base.pool cimport lnt_op_state, op_state
from core.base.schedule cimport op_finish, op_ready
from core.base.types cimport IO_READ, ST_MEMORY, lnt_io
from core.ops.epochs cimport epoch_enter, waits_for_range
from core.ops.order cimport order_read
from core.ops.placing cimport FEW_PIECES, PIECE_BLOCKS, SMALL_BLOCKS
from core.ops.requests cimport (
    APART_NEXT, APART_NOW, TRANSFER_IO, TRANSFER_NEW, TRANSFER_PLAN, TRANSFER_VERIFY, error_at, request_end, request_start,
)
from core.ops.transfer cimport op_leave, piece_new, pieces_free
from core.pages.checksums cimport csum_verify
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef enum:
    JOIN_PARTS = 510              # of one request; the kernel takes 1024


cdef void read_done(lnt_io *io) noexcept nogil:
    """A request of a read has finished."""
    cdef lnt_op *op = request_end(io)
    if op != NULL:
        read_end(op_state(op).pool, op)


cdef inline void read_start(lnt_pool *p, lnt_op *op, uint64_t at, uint64_t n, uint8_t *buf, iovec *vector,
                            uint32_t parts) noexcept nogil:
    """Read n bytes of the pool to one place, or to those of a vector."""
    request_start(p, op, read_done, IO_READ, 0, at, n, buf, vector, parts)


# -- pieces of one request ---------------------------------------------------------------------------------------------


cdef void join_start(lnt_pool *p, lnt_op *op, lnt_join *g) noexcept nogil:
    if g.end:
        read_start(p, op, g.start, g.end - g.start, g.buf, g.vector, g.parts)
    g.end = 0
    g.vector = NULL


cdef void joins_start(lnt_pool *p, lnt_op *op, lnt_joins *j) noexcept nogil:
    """Nothing follows: all requests begin."""
    cdef int i
    for i in range(JOINS):
        join_start(p, op, &j.open[i])


cdef inline void part_add(lnt_join *g, void *base, uint64_t n) noexcept nogil:
    g.vector[g.parts].iov_base = base
    g.vector[g.parts].iov_len = n
    g.parts += 1


cdef bint join_grow(lnt_pool *p, lnt_join *g, uint64_t at, uint64_t n, uint8_t *buf) noexcept nogil:
    """The piece becomes part of the request. False: there is no memory for that."""
    if g.vector == NULL:
        g.vector = <iovec *>mem_new((JOIN_PARTS + 2) * sizeof(iovec))
        if g.vector == NULL:
            return False
        g.parts = 0
        part_add(g, g.buf, g.end - g.start)
    if at > g.end:
        part_add(g, p.scratch, at - g.end)
    part_add(g, buf, n)
    g.end = at + n
    return True


cdef lnt_join *join_slot(lnt_pool *p, lnt_op *op, lnt_joins *j, uint64_t at) noexcept nogil:
    """Where a new request may grow: instead of one that this piece's run leaves behind, or of the one that grew least lately."""
    cdef lnt_join *oldest = &j.open[0]
    cdef lnt_join *g
    cdef int i
    for i in range(JOINS):
        g = &j.open[i]
        if g.end == 0:
            return g
        if g.touched < oldest.touched:
            oldest = g
    for i in range(JOINS):
        g = &j.open[i]
        if g.end < at and g.end // (L_RUN_BLOCKS * L_BLOCK_BYTES) == at // (L_RUN_BLOCKS * L_BLOCK_BYTES):
            oldest = g
    join_start(p, op, oldest)
    return oldest


cdef void join_piece(lnt_pool *p, lnt_op *op, lnt_joins *j, uint64_t at, uint64_t n, uint8_t *buf) noexcept nogil:
    """Read n bytes of the pool from `at` on to buf: with a request that reaches so far, or with one that may grow."""
    cdef uint64_t gap = p.current_device.gap_bytes
    cdef lnt_join *g
    cdef int i
    j.steps += 1
    for i in range(JOINS):
        g = &j.open[i]
        if g.end and g.end <= at <= g.end + gap and g.parts < JOIN_PARTS and join_grow(p, g, at, n, buf):
            g.touched = j.steps
            return
    g = join_slot(p, op, j, at)
    g.start = at
    g.end = at + n
    g.buf = buf
    g.parts = 0
    g.touched = j.steps


# -- READ --------------------------------------------------------------------------------------------------------------


cdef void read_end(lnt_pool *p, lnt_op *op) noexcept nogil:
    """All data is here. Objects with checksums are verified, whole blocks at a time."""
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_waiter who = waiter_of(op)
    cdef lnt_piece *a
    cdef uint32_t bad = 0
    cdef int rc
    if x.apart == APART_NEXT:
        x.apart = APART_NOW
        pieces_free(p, op)
        x.error = 0
        x.cursor = op.result = 0
        x.step = TRANSFER_PLAN
        op_ready(p, op)
        return
    x.step = TRANSFER_VERIFY
    if x.verify and not x.error:
        a = x.pieces
        while a != NULL:
            if not a.loaded:
                rc = csum_verify(p, &who, a.pba, a.n, a.src, &bad)
                if rc == WAIT:
                    return
                if rc:
                    error_at(op, rc, a.src + <uint64_t>bad * L_BLOCK_BYTES)
                    break
                a.loaded = 1
            a = a.next
        if x.bounce != NULL and not x.error:
            memcpy(op.buf, x.bounce + op.offset % L_BLOCK_BYTES, op.length)
    free(x.bounce)
    x.bounce = NULL
    op_leave(p, op)
    (<lnt_object *>op.obj).reads += 1
    op_finish(p, op, x.error)


cdef void read_plan(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_waiter who = waiter_of(op)
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef lnt_extent e
    cdef lnt_piece *a
    cdef lnt_joins j
    cdef bint joined = False, joins = x.apart != APART_NOW and p.current_device.gap_bytes != 0
    cdef uint64_t at, n, off, start = op.offset, length = op.length
    cdef uint8_t *buf = op.buf
    cdef int rc = 0
    if x.verify:                  # whole blocks, through a bounce buffer when the request is not
        start = op.offset & ~<uint64_t>(L_BLOCK_BYTES - 1)
        length = ((op.offset + op.length + L_BLOCK_BYTES - 1) & ~<uint64_t>(L_BLOCK_BYTES - 1)) - start
        if length != op.length:
            if x.bounce == NULL:
                x.bounce = <uint8_t *>mem_aligned(length)
            if x.bounce == NULL:
                error_at(op, ST_MEMORY, op.buf)
            buf = x.bounce
    while x.cursor < length and not x.error:
        at = start + x.cursor
        off = at & (L_BLOCK_BYTES - 1)
        rc = map_find(p, &who, o, at // L_BLOCK_BYTES, (off + length - x.cursor + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES, 0, &e)
        if rc:
            break
        n = e.n * L_BLOCK_BYTES - off
        if n > length - x.cursor:
            n = length - x.cursor
        if e.pba == 0:
            memset(buf + x.cursor, 0, n)
        else:
            if x.verify:
                a = piece_new(p, op)
                if a == NULL:
                    error_at(op, ST_MEMORY, buf + x.cursor)
                    break
                a.pba = e.pba
                a.n = <uint32_t>(n // L_BLOCK_BYTES)
                a.src = buf + x.cursor
            if joins and n < length:
                if not joined:
                    memset(&j, 0, sizeof(lnt_joins))
                    joined = True
                join_piece(p, op, &j, e.pba * L_BLOCK_BYTES + off, n, buf + x.cursor)
            else:
                read_start(p, op, e.pba * L_BLOCK_BYTES + off, n, buf + x.cursor, NULL, 0)
        x.cursor += n
    if joined:
        joins_start(p, op, &j)
    if rc == WAIT:
        return
    if rc:
        error_at(op, rc, buf + x.cursor)
    n = length // L_BLOCK_BYTES
    if joined and not x.internal and n >= SMALL_BLOCKS and j.steps > FEW_PIECES + n // PIECE_BLOCKS:
        order_read(p, o, op.offset // L_BLOCK_BYTES)
    x.step = TRANSFER_IO
    if x.io_busy == 0:
        read_end(p, op)


cdef void read_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    if x.step == TRANSFER_NEW:
        if waits_for_range(p, op):
            return
        epoch_enter(p, op)
        x.verify = (<lnt_object *>op.obj).flags & OF_CHECKSUM
        x.step = TRANSFER_PLAN
    if x.step == TRANSFER_PLAN:
        read_plan(p, op)
    elif x.io_busy == 0:
        read_end(p, op)
