"""What every op waits for: an epoch, its place in line, room in cache and journal (docs/concurrency.md, I5, I14).

Lives here and nowhere else: how an op enters an epoch and leaves it.
"""
from core.base.check cimport lnt_assert
from core.base.checkpoint_wait cimport checkpoint_wait_room
from core.base.dropped cimport STEP_DROPS, ring_ready
from core.base.layout cimport L_BLOCK_BYTES, L_PENDING_ITEMS
from core.base.log cimport C_IMAGES, C_SYNC2
from core.base.pool cimport next_images
from core.base.schedule cimport ops_ready
from core.log.journal cimport frames_ready, journal_room
from core.space.dropped cimport grace_wait
from libc.stdint cimport uint32_t

cdef enum:
    BOOKED_LEAST = 1024


cdef void epoch_enter(lnt_pool *p, lnt_op *op) noexcept nogil:
    op_state(op).epoch = p.epoch
    op_state(op).in_epoch = 1
    p.inflight[p.epoch & 1] += 1


cdef void epoch_exit(lnt_pool *p, lnt_op *op) noexcept nogil:
    if op_state(op).in_epoch:
        lnt_assert(op_state(op).epoch == p.epoch or op_state(op).epoch + 1 == p.epoch, "I5: an op is one epoch behind at most")
        lnt_assert(p.inflight[op_state(op).epoch & 1] != 0, "I5: an epoch counts the ops that are in it")
        op_state(op).in_epoch = 0
        p.inflight[op_state(op).epoch & 1] -= 1


cdef void wait_grace(lnt_pool *p, lnt_op *op, uint64_t target) noexcept nogil:
    """Run the op again when epochs move; it checks `target` itself. It must not be in an epoch."""
    lnt_assert(not op_state(op).in_epoch, "I14: who is in an epoch does not wait for one")
    op_state(op).target_epoch = target
    grace_wait(p, op)


cdef uint64_t unpublished(lnt_pool *p) noexcept nogil:
    """Pages that no published checkpoint has: a recovery now makes all of them dirty, and one area half must hold them."""
    return next_images(p) + (p.checkpoint.n_frames if C_IMAGES <= p.checkpoint.state <= C_SYNC2 else 0)


cdef int memory_ready(lnt_pool *p) noexcept nogil:
    """1 when there is memory for all that one step of an op may need once it has begun to change the map."""
    return (frames_ready(p) and ring_ready(&p.fifo, STEP_DROPS) and ring_ready(&p.homes, STEP_DROPS)
            and ring_ready(&p.work, p.n_pieces + STEP_DROPS))


cdef int wait_room(lnt_pool *p, lnt_op *op) noexcept nogil:
    """1: the op was put to wait for a checkpoint, because too much is dirty or the journal is nearly full."""
    cdef uint32_t least = p.journal.blocks // 8
    if least < 144:               # the longest frame, a pad before it, and some
        least = 144 if p.journal.blocks >= 512 else 80
    if (unpublished(p) < p.cache.dirty_limit and journal_room(p) >= least
            and p.fifo.tail - p.fifo.head + p.work.tail - p.work.head < <uint64_t>p.checkpoint.area_blocks * 8):
        return 0
    if p.failed:
        return 0
    checkpoint_wait_room(p, op)
    return 1


cdef inline uint64_t bookable(lnt_pool *p) noexcept nogil:
    """Blocks that writes under way may have taken at once.

    A checkpoint names each of them in its pending list, and each may drop a reference when it enters the map. An area half keeps
    an eighth for that list: less what `wait_room`, reclaim and damage may leave in it, and a few steps of ops.
    """
    cdef uint64_t items = <uint64_t>(p.checkpoint.area_blocks // 8 - p.checkpoint.area_blocks // 64) * L_PENDING_ITEMS
    cdef uint64_t others = <uint64_t>p.checkpoint.area_blocks * 16 + 3 * STEP_DROPS
    return items - others if items > others + BOOKED_LEAST else BOOKED_LEAST


cdef int write_book(lnt_pool *p, lnt_op *op) noexcept nogil:
    """1: the write was put to wait until others have ended; one that is alone never waits."""
    cdef uint64_t blocks = (op.offset + op.length + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES - op.offset // L_BLOCK_BYTES
    if p.booked_blocks and p.booked_blocks + blocks > bookable(p):
        op.next = p.bookers
        p.bookers = op
        return 1
    op_state(op).booked = <uint32_t>blocks
    p.booked_blocks += blocks
    return 0


cdef void write_unbook(lnt_pool *p, lnt_op *op) noexcept nogil:
    if op_state(op).booked == 0:
        return
    p.booked_blocks -= op_state(op).booked
    op_state(op).booked = 0
    if p.bookers != NULL:
        ops_ready(p, &p.bookers)
