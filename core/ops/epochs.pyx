"""What every op waits for: an epoch, its place in line, room in cache and journal (docs/concurrency.md, I5, I14).

Lives here and nowhere else: how an op enters an epoch and leaves it.
"""
from core.base.check cimport lnt_assert
from core.base.checkpoint_wait cimport checkpoint_wait_room
from core.base.dropped cimport STEP_DROPS, ring_count
from core.base.layout cimport L_PENDING_ITEMS
from core.base.log cimport CHECKPOINT_IMAGES, CHECKPOINT_SYNC2
from core.base.pool cimport next_images
from core.base.schedule cimport ops_ready
from core.log.journal cimport ROOM_LONGEST, ROOM_SMALL_RING, journal_room
from core.space.dropped cimport grace_wait
from libc.stdint cimport uint32_t

cdef void wait_grace(lnt_pool *p, lnt_op *op, uint64_t target) noexcept nogil:
    """Run the op again when epochs move; it checks `target` itself. It must not be in an epoch."""
    lnt_assert(not op_state(op).in_epoch, "I14: who is in an epoch does not wait for one")
    op_state(op).target_epoch = target
    grace_wait(p, op)


cdef uint64_t unpublished(lnt_pool *p) noexcept nogil:
    """Pages that no published checkpoint has: a recovery now makes all of them dirty, and one area half must hold them."""
    return next_images(p) + (p.checkpoint.n_pages if CHECKPOINT_IMAGES <= p.checkpoint.state <= CHECKPOINT_SYNC2 else 0)


cdef int wait_room(lnt_pool *p, lnt_op *op) noexcept nogil:
    """1: the op was put to wait for a checkpoint, because too much is dirty or the journal is nearly full."""
    cdef uint32_t least = p.journal.blocks // 8
    if least < ROOM_LONGEST:
        least = ROOM_LONGEST if p.journal.blocks >= 512 else ROOM_SMALL_RING
    if (unpublished(p) < p.cache.dirty_limit and journal_room(p) >= least
            and ring_count(&p.dropped_waiting) + ring_count(&p.dropped_ready) < <uint64_t>p.checkpoint.area_blocks * 8):
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


cdef int book_late(lnt_pool *p, lnt_op *op, uint64_t blocks) noexcept nogil:
    """1: so many blocks more may be under way, or none is yet. 0: the write was put to wait until others have ended."""
    if p.booked_blocks == 0 or p.booked_blocks + blocks <= bookable(p):
        return 1
    op.next = p.bookers
    p.bookers = op
    return 0


cdef void bookers_again(lnt_pool *p) noexcept nogil:
    ops_ready(p, &p.bookers)
