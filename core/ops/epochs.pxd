# What every op waits for: an epoch, its place in line, room in cache and journal (docs/concurrency.md, I5, I14).
from core.base.check cimport lnt_assert
from core.base.layout cimport L_BLOCK_BYTES
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool, op_state
from core.base.types cimport lnt_op
from core.log.journal cimport frames_ready
from core.ops.ranges cimport range_let_in
from core.space.dropped cimport drops_ready
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    BOOKED_LEAST = 1024           # blocks of writes under way that always have their places in a checkpoint

cdef void wait_grace(lnt_pool *p, lnt_op *op, uint64_t target) noexcept nogil
cdef uint64_t unpublished(lnt_pool *p) noexcept nogil
cdef int book_late(lnt_pool *p, lnt_op *op, uint64_t blocks) noexcept nogil
cdef void bookers_again(lnt_pool *p) noexcept nogil
cdef int wait_room(lnt_pool *p, lnt_op *op) noexcept nogil

cdef inline int waits_for_range(lnt_pool *p, lnt_op *op) noexcept nogil:
    """1: the op waits for its place in line. A part of another op goes on: the other stands for both."""
    return not op_state(op).internal and range_let_in(p, &op_state(op).place, <lnt_object *>op.obj, op)

cdef inline void epoch_enter(lnt_pool *p, lnt_op *op) noexcept nogil:
    op_state(op).epoch = p.epoch
    op_state(op).in_epoch = 1
    p.inflight[p.epoch & 1] += 1

cdef inline void epoch_exit(lnt_pool *p, lnt_op *op) noexcept nogil:
    if op_state(op).in_epoch:
        lnt_assert(op_state(op).epoch == p.epoch or op_state(op).epoch + 1 == p.epoch, "I5: an op is one epoch behind at most")
        lnt_assert(p.inflight[op_state(op).epoch & 1] != 0, "I5: an epoch counts the ops that are in it")
        op_state(op).in_epoch = 0
        p.inflight[op_state(op).epoch & 1] -= 1

cdef inline int memory_ready(lnt_pool *p) noexcept nogil:
    """1 when there is memory for all that one step of an op may need once it has begun to change the map."""
    return frames_ready(p) and drops_ready(p, p.n_pieces)

cdef inline int write_book(lnt_pool *p, lnt_op *op) noexcept nogil:
    """1: the write was put to wait until others have ended; one that is alone never waits."""
    cdef uint64_t blocks = (op.offset + op.length + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES - op.offset // L_BLOCK_BYTES
    if p.booked_blocks + blocks > BOOKED_LEAST and not book_late(p, op, blocks):
        return 1
    op_state(op).booked = <uint32_t>blocks
    p.booked_blocks += blocks
    return 0

cdef inline void write_unbook(lnt_pool *p, lnt_op *op) noexcept nogil:
    if op_state(op).booked:
        p.booked_blocks -= op_state(op).booked
        op_state(op).booked = 0
        if p.bookers != NULL:
            bookers_again(p)
