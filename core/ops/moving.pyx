"""OP_MOVE: what lies scattered in a region is put into one run (docs/architecture.md, "Where blocks go").

Alone in the region it is read and written again, a slice at a time, and each write is one to new blocks: a crash finds the old
places or the new ones. What is the object's alone gives its old places up. What is shared is copied, and others keep the old
blocks; that is worth it where no more is copied than was written (`is_worth`). Lives here and nowhere else: that rule.
"""
from core._blkmap cimport map_find
from core.base.entries cimport WAIT
from core.base.extent cimport lnt_extent
from core.base.layout cimport L_BLOCK_BYTES, L_RUN_BLOCKS
from core.base.memory cimport mem_aligned
from core.base.mutations cimport M_MOVE_HASTY, M_MOVE_LEAVES, M_NO_LOCK_GRACE
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_waiter, waiter_of
from core.base.pool cimport lnt_op_state, op_state
from core.base.regions cimport in_region
from core.base.schedule cimport op_finish
from core.base.types cimport (
    MOVED, MOVED_NOT, MOVED_NOWHERE, OPF_PLACED, OP_READ, OP_WRITE, ST_INVALID, ST_MEMORY, ST_NO_SPACE,
)
from core.ops.epochs cimport wait_grace
from core.ops.parts cimport first_in_line, sub_end, sub_new
from core.ops.placing cimport FEW_PIECES, PIECE_BLOCKS, runs_to_spare, space_check
from core.ops.ranges cimport range_leave, range_waits
from core.space.allocation cimport space_for_data
from core.space.budget cimport budget_hurries
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef enum:
    MOVE_NEW = 0
    MOVE_LOCKED = 1
    MOVE_READ = 2
    MOVE_WRITE = 3

cdef enum:
    SLICE_BLOCKS = 128            # read and written at a time: half a millisecond of an inline medium's thread
    RUNS = 12                     # of a region that are told apart: what lies in further ones counts as small
    OWN_PART = 5                  # what is shared is copied where this part of the region is the object's own at least ...
    SPACE_PART = 16               # ... and more than this part of the pool is free

cdef struct lnt_found_run:        # of a region: blocks that lie at their places in one run
    uint64_t base                 # where block 0 of the region would sit
    uint32_t own                  # blocks that are the object's alone
    uint32_t shared

cdef struct lnt_found:            # how a region lies
    uint32_t mapped               # blocks
    uint32_t own
    uint32_t pieces
    lnt_found_run[RUNS] runs
    uint32_t n_runs


cdef void found_add(lnt_found *f, const lnt_extent *e, uint64_t lba) noexcept nogil:
    cdef uint64_t base = e.pba - in_region(lba)
    cdef uint32_t i = 0, n = <uint32_t>e.n
    f.mapped += n
    f.own += n if e.exclusive else 0
    while i < f.n_runs and f.runs[i].base != base:
        i += 1
    if i == RUNS:
        return
    if i == f.n_runs:
        f.runs[i].base = base
        f.n_runs += 1
    if e.exclusive:
        f.runs[i].own += n
    else:
        f.runs[i].shared += n


cdef int look(lnt_pool *p, lnt_waiter *who, lnt_op *op, lnt_found *f) noexcept nogil:
    """How the range lies. 0, WAIT, or a status."""
    cdef uint64_t lba = op.offset // L_BLOCK_BYTES, end = (op.offset + op.length) // L_BLOCK_BYTES, following = 0
    cdef lnt_extent e
    cdef int rc
    memset(f, 0, sizeof(lnt_found))
    while lba < end:
        rc = map_find(p, who, <lnt_object *>op.obj, lba, end - lba, 1, &e)
        if rc:
            return rc
        if e.pba:
            f.pieces += e.pba != following
            following = e.pba + e.n
            found_add(f, &e, lba)
        lba += e.n
    return 0


cdef bint is_worth(const lnt_found *f) noexcept nogil:
    """It lies scattered, and the copies that are made take no more space than the region has taken since it was one run.

    What random writes have left of that run, the largest shared one, says how many they were: exp(-x) of a region is left of it
    when x regions have been written, some blocks more than once. So s blocks are copied where exp(-s) or less is left; the line
    b <= 0.85 - s / 2 is that for all s that come here. A part that is the object's alone costs no space at all.
    """
    cdef uint32_t i, most = 0
    if f.pieces <= FEW_PIECES + f.mapped // PIECE_BLOCKS:
        return False
    if f.own == f.mapped:
        return True
    for i in range(f.n_runs):
        if f.runs[i].shared > most:
            most = f.runs[i].shared
    return f.own * OWN_PART >= f.mapped and 20 * most + 10 * (f.mapped - f.own) <= 17 * f.mapped


cdef bint has_space(lnt_pool *p, lnt_object *o, const lnt_found *f, uint32_t gathered) noexcept nogil:
    """All but what is gathered already finds room before the old places are free; copies stay, so there must be much more."""
    cdef uint64_t kept = 0 if gathered else 4 * p.reserve_blocks
    if f.own < f.mapped:
        if p.medium.refused_us or budget_hurries(p):
            return False              # the file system below is nearly full
        if kept < p.total_blocks // SPACE_PART:
            kept = p.total_blocks // SPACE_PART
    return space_for_data(p) >= f.mapped - gathered + kept and space_check(p, o, f.mapped - gathered, 0) == 0


cdef uint64_t gathers(lnt_pool *p, const lnt_found *f, uint32_t *there) noexcept nogil:
    """Where block 0 of the region sits in the run that has the most of its own, if nobody else uses that run. 0: in none.

    The rest of the region finds its places there, so no other run is needed.
    """
    cdef uint32_t i, best = 0
    for i in range(f.n_runs):
        if f.runs[i].own > f.runs[best].own:
            best = i
    if f.runs[best].own == 0 or f.runs[best].base % L_RUN_BLOCKS:
        return 0
    if p.run_used[f.runs[best].base // L_RUN_BLOCKS] != f.runs[best].own + f.runs[best].shared:
        return 0
    there[0] = f.runs[best].own + f.runs[best].shared
    return f.runs[best].base


cdef int may_move(lnt_pool *p, lnt_op *op, bint decides) noexcept nogil:
    """1: it is worth it, and there is a place, which op.result becomes (`decides`). 0: it waits for a page, or has ended."""
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef lnt_waiter who = waiter_of(op)
    cdef lnt_found f
    cdef uint64_t base = 0, run_bytes = <uint64_t>L_RUN_BLOCKS * L_BLOCK_BYTES
    cdef uint32_t there = 0
    cdef int rc = ST_INVALID
    if (op.offset | op.length) % L_BLOCK_BYTES == 0 and op.offset % run_bytes + op.length <= run_bytes:
        rc = look(p, &who, op, &f)
    if rc == WAIT:
        return 0
    if rc or not is_worth(&f):
        move_end(p, op, <uint8_t>rc, MOVED_NOT)
        return 0
    if not runs_to_spare(p):
        base = gathers(p, &f, &there)
    if not has_space(p, o, &f, there) or base == 0 and not runs_to_spare(p):
        move_end(p, op, 0, MOVED_NOWHERE)
        return 0
    if decides:
        op.result = base
    return 1


cdef void move_end(lnt_pool *p, lnt_op *op, uint8_t status, uint64_t result) noexcept nogil:
    free(op_state(op).bounce)
    op_state(op).bounce = NULL
    op.result = result
    range_leave(p, &op_state(op).place)
    op_finish(p, op, status)


cdef inline uint64_t slice_bytes(lnt_op *op) noexcept nogil:
    return min(op.length - op_state(op).cursor, <uint64_t>SLICE_BLOCKS * L_BLOCK_BYTES)


cdef void slice_read(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    x.step = MOVE_READ
    if sub_new(p, op, OP_READ, op.offset + x.cursor, slice_bytes(op), x.bounce) == NULL:
        move_end(p, op, ST_MEMORY, MOVED_NOT)


cdef void slice_write(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_op *s = sub_new(p, op, OP_WRITE, op.offset + x.cursor, slice_bytes(op), x.bounce)
    x.step = MOVE_WRITE
    if s == NULL:
        move_end(p, op, ST_MEMORY, MOVED_NOT)
        return
    s.flags |= OPF_PLACED
    s.result = op.result


cdef void move_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Have the region alone, let what is under way there finish, then read and write it again, slice by slice."""
    cdef lnt_op_state *x = op_state(op)
    cdef uint64_t base
    cdef uint8_t status
    if x.step == MOVE_NEW:
        if not x.place.stands and not may_move(p, op, False):
            return
        if first_in_line(p, op, 1):
            return
        x.bounce = <uint8_t *>mem_aligned(slice_bytes(op))
        if x.bounce == NULL:
            move_end(p, op, ST_MEMORY, MOVED_NOT)
            return
        x.step = MOVE_LOCKED
        wait_grace(p, op, p.epoch + 2)
        return
    if x.step == MOVE_LOCKED:
        if p.epoch < x.target_epoch and not p.mutations & M_NO_LOCK_GRACE:
            wait_grace(p, op, x.target_epoch)
            return
        if not p.mutations & M_MOVE_HASTY and range_waits(p, &x.place):     # a write that left its epoch, and is not over
            return
        if may_move(p, op, True):
            slice_read(p, op)
        return
    base = op_state(op).sub.result
    status = sub_end(p, op)
    if status == ST_NO_SPACE and x.step == MOVE_WRITE:
        move_end(p, op, 0, MOVED_NOWHERE)
    elif status:
        move_end(p, op, status, MOVED_NOT)
    elif x.step == MOVE_READ:
        if p.mutations & M_MOVE_LEAVES:
            range_leave(p, &x.place)
        slice_write(p, op)
    else:
        op.result = base
        x.cursor += slice_bytes(op)
        if x.cursor < op.length:
            slice_read(p, op)
        else:
            move_end(p, op, 0, MOVED)
