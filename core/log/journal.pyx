"""The journal: records in frames, group commit, and the only place that syncs while a pool is open (docs/durability.md).

Two promises are kept apart. A change is *soft* once its frame is written: it survives the end of this process. It is *hard* once
its data was synced, a later frame that says so (`hard_upto`) was written, and that frame was synced: it survives loss of power.
One sync can be the second for one group and the first for the next.
"""
from core.base.check cimport lnt_assert
from core.base.checkpoint_wait cimport checkpoint_want
from core.base.dropped cimport ring_count, ring_newest
from core.base.layout cimport (
    FF_PAD, FR_CRC, FR_FLAGS, FR_HARD_UPTO, FR_LENGTH, FR_MAGIC, FR_RECORDS, FR_SEQ, FR_SYNCED_UPTO, FR_UUID, L_BLOCK_BYTES,
    L_FRAME_BLOCKS, L_FRAME_HEADER_BYTES, L_FRAME_MAGIC, RC_LENGTH, RC_TYPE,
)
from core.base.log cimport CHECKPOINT_IDLE, lnt_journal_frame
from core.base.memory cimport mem_aligned, mem_zeroed
from core.base.mutations cimport M_NO_DATA_SYNC, M_NO_JOURNAL_SYNC
from core.base.native cimport lnt_put_le32, lnt_put_le64
from core.base.pool cimport lnt_op_state
from core.base.schedule cimport op_finish, ops_ready
from core.base.trace cimport PF_FRAME, PF_RING, PF_SYNC, memory_short, pool_fail
from core.base.types cimport IOF_AWAITED, IO_SYNC, IO_WRITE, OP_ADMIN, ST_IO_WRITE, ST_OK, lnt_io
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove, memset

cdef enum:
    COMMIT_US = 1000000           # changes become hard at the latest after this, though nobody asked
    SEAL_US = 1000000             # idle so long after a commit, the journal vouches for its last frame


cdef int journal_init(lnt_pool *p) noexcept nogil:
    p.journal.sync_io.kind = IO_SYNC
    p.journal.sync_io.owner = p
    p.journal.sync_io.done = sync_ended
    p.journal.shared = <uint8_t *>mem_aligned(L_BLOCK_BYTES)
    return p.journal.shared != NULL and frames_ready(p)


cdef void journal_free(lnt_pool *p) noexcept nogil:
    cdef lnt_journal_frame *f
    cdef lnt_journal_frame *nxt
    cdef int i
    cdef lnt_journal_frame *heads[3]
    free(p.journal.shared)
    p.journal.shared = NULL
    heads[0] = p.journal.spare
    heads[1] = p.journal.inflight
    heads[2] = p.journal.open
    for i in range(3):
        f = heads[i]
        while f != NULL:
            nxt = f.next
            free(f.buf)
            free(f)
            f = nxt
    p.journal.spare = p.journal.inflight = p.journal.inflight_tail = p.journal.open = NULL


cdef int frames_make(lnt_pool *p) noexcept nogil:
    """`frames_ready` where a spare one is missing."""
    cdef lnt_journal_frame *f
    while p.journal.spares < SPARE_FRAMES:
        f = <lnt_journal_frame *>mem_zeroed(sizeof(lnt_journal_frame))
        if f == NULL:
            return 0
        f.buf = <uint8_t *>mem_aligned(L_FRAME_BLOCKS * L_BLOCK_BYTES)
        if f.buf == NULL:
            free(f)
            return 0
        frame_free(p, f)
    return 1


cdef void frame_free(lnt_pool *p, lnt_journal_frame *f) noexcept nogil:
    f.next = p.journal.spare
    p.journal.spare = f
    p.journal.spares += 1


cdef lnt_journal_frame *frame_new(lnt_pool *p) noexcept nogil:
    cdef lnt_journal_frame *f = p.journal.spare    # frames_ready has seen to it that there is one
    p.journal.spare = f.next
    p.journal.spares -= 1
    f.next = NULL
    f.length = L_FRAME_HEADER_BYTES
    f.records = 0
    f.done = 0
    f.pad = 0
    f.before = 0
    f.hard_upto = 0
    return f


cdef void frames_written(lnt_pool *p) noexcept nogil:
    """Take finished frames off the front: only an unbroken row of frames counts as written."""
    cdef lnt_journal_frame *f
    cdef lnt_op *op
    while p.journal.inflight != NULL and p.journal.inflight.done:
        f = p.journal.inflight
        p.journal.inflight = f.next
        if f.next == NULL:
            p.journal.inflight_tail = NULL
        if not f.pad:
            p.journal.written_seq = f.seq
            if f.hard_upto > p.journal.marker_seq:
                p.journal.marker_seq = f.hard_upto
        frame_free(p, f)
    while p.journal.soft_waiters != NULL:
        op = p.journal.soft_waiters
        if (<lnt_op_state *>op.priv).need_seq > p.journal.written_seq:
            break
        p.journal.soft_waiters = op.next
        if op.next == NULL:
            p.journal.soft_tail = NULL
        op_finish(p, op, ST_OK)


cdef void frame_written(lnt_io *io) noexcept nogil:
    cdef lnt_journal_frame *f = <lnt_journal_frame *>io
    cdef lnt_pool *p = <lnt_pool *>io.owner
    if io.result != 0:
        pool_fail(p, PF_FRAME, <uint64_t>-io.result)    # the row is broken for good: nothing after it can be replayed
        return
    f.done = 1
    frames_written(p)


cdef bint frame_joins(lnt_pool *p, lnt_journal_frame *f) noexcept nogil:
    """Whether the frame goes into the block of the one before it.

    That block is written once more, with the same bytes up to here, so whatever a power cut leaves of that has them. No other
    write of it may be under way. Where a sync has begun since, the next frame has a block of its own all the same.
    """
    return (p.journal.shares and p.journal.shared_bytes and p.journal.inflight == NULL
            and p.journal.shared_bytes + f.length <= L_BLOCK_BYTES)


cdef void frame_share(lnt_pool *p, lnt_journal_frame *f, uint32_t blocks) noexcept nogil:
    """The frame is ready to be written: put what is in its block before it, and remember the block for the next one."""
    if f.before:
        memmove(f.buf + f.before, f.buf, f.length)
        memcpy(f.buf, p.journal.shared, f.before)
    if f.pad or blocks > 1 or not p.journal.shares:
        p.journal.shared_bytes = 0
        return
    memcpy(p.journal.shared + f.before, f.buf + f.before, f.length)
    p.journal.shared_bytes = f.before + f.length


cdef void frame_submit(lnt_pool *p, lnt_journal_frame *f, uint32_t position) noexcept nogil:
    cdef uint32_t blocks = (f.before + f.length + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES
    memset(f.buf, 0, L_FRAME_HEADER_BYTES)
    lnt_put_le32(f.buf + FR_MAGIC, L_FRAME_MAGIC)
    memcpy(f.buf + FR_UUID, p.uuid, 16)
    lnt_put_le64(f.buf + FR_SEQ, f.seq)
    lnt_put_le64(f.buf + FR_HARD_UPTO, f.hard_upto)
    lnt_put_le64(f.buf + FR_SYNCED_UPTO, p.journal.synced_seq)
    lnt_put_le32(f.buf + FR_LENGTH, f.length)
    lnt_put_le32(f.buf + FR_FLAGS, FF_PAD if f.pad else 0)
    lnt_put_le32(f.buf + FR_RECORDS, f.records)
    lnt_put_le32(f.buf + FR_CRC, frame_crc(f.buf, f.length))
    frame_share(p, f, blocks)
    memset(f.buf + f.before + f.length, 0, blocks * L_BLOCK_BYTES - f.before - f.length)
    f.position = position
    f.io.kind = IO_WRITE
    f.io.offset = (p.journal.start + position) * L_BLOCK_BYTES
    f.io.length = <uint64_t>blocks * L_BLOCK_BYTES
    f.io.buf = f.buf
    f.io.owner = p
    f.io.done = frame_written
    f.next = NULL
    if p.journal.inflight_tail != NULL:
        p.journal.inflight_tail.next = f
    else:
        p.journal.inflight = f
    p.journal.inflight_tail = f
    p.journal.frames += 1
    p.journal.bytes += f.io.length
    if p.current_device.submit(p.current_device, &f.io):
        frame_written(&f.io)


cdef void frame_close(lnt_pool *p, int force) noexcept nogil:
    """Send the open frame on its way; with force an empty one too (it carries hard_upto)."""
    cdef lnt_journal_frame *f = p.journal.open
    cdef lnt_journal_frame *pad
    cdef uint32_t blocks
    if f == NULL:
        if not force:
            return
        if not frames_ready(p):
            memory_short(p)
            return                # in a later turn
        f = frame_new(p)
    p.journal.open = NULL
    lnt_assert(p.journal.next_seq == p.journal.closed_seq + 1, "I3: frames follow each other in the order of the changes")
    f.seq = p.journal.next_seq
    f.hard_upto = p.journal.data_synced_seq
    p.journal.next_seq += 1
    p.journal.closed_seq = f.seq
    if frame_joins(p, f):
        f.before = p.journal.shared_bytes
        frame_submit(p, f, (p.journal.head or p.journal.blocks) - 1)
        return
    blocks = (f.length + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES
    if ring_room(p) < blocks + (p.journal.blocks - p.journal.head if p.journal.head + blocks > p.journal.blocks else 0):
        pool_fail(p, PF_RING, blocks)      # the room checks of writers make this unreachable; never overwrite what recovery needs
        frame_free(p, f)
        return
    if p.journal.head + blocks > p.journal.blocks:
        pad = frame_new(p)
        pad.pad = 1
        pad.seq = f.seq
        pad.hard_upto = f.hard_upto
        frame_submit(p, pad, p.journal.head)
        p.journal.head = 0
    frame_submit(p, f, p.journal.head)
    p.journal.head += blocks
    if p.journal.head == p.journal.blocks:
        p.journal.head = 0


cdef void journal_fit(lnt_pool *p, uint32_t length) noexcept nogil:
    """Before a change of the map: `next_seq` is now the frame that its record of `length` bytes will be in (I5)."""
    if p.journal.open != NULL and p.journal.open.length + length > L_FRAME_BLOCKS * L_BLOCK_BYTES:
        frame_close(p, 0)


cdef int journal_reserve(lnt_pool *p, uint32_t length) noexcept nogil:
    """Make sure the next `length` bytes of records land in one frame, so that they are atomic."""
    journal_fit(p, length)
    if p.journal.open == NULL:
        p.journal.open = frame_new(p)
    return 0


cdef uint8_t *record_new(lnt_pool *p, uint8_t type, uint32_t length) noexcept nogil:
    """A zeroed record of `length` bytes (header included), rounded up to 8, in the open frame."""
    cdef uint8_t *r
    length = (length + 7) & ~<uint32_t>7
    journal_reserve(p, length)
    r = p.journal.open.buf + p.journal.open.length
    memset(r, 0, length)
    r[RC_TYPE] = type
    lnt_put_le32(r + RC_LENGTH, length)
    p.journal.open.length += length
    p.journal.open.records += 1
    p.journal.record_seq = p.journal.next_seq
    p.journal.appended += 1
    return r


cdef void records_put(lnt_pool *p, const uint8_t *records, uint32_t length, uint32_t count) noexcept nogil:
    """Records that are ready, into the frame in which `journal_reserve` has made room for them."""
    memcpy(p.journal.open.buf + p.journal.open.length, records, length)
    p.journal.open.length += length
    p.journal.open.records += count
    p.journal.record_seq = p.journal.next_seq
    p.journal.appended += count


# -- waiting -----------------------------------------------------------------------------------------------------------


cdef void wait_soft(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Finish the op when its records (need_seq) are written."""
    lnt_assert((<lnt_op_state *>op.priv).need_seq <= p.journal.next_seq, "I11: what an op waits for is on its way")
    op.next = NULL
    if (<lnt_op_state *>op.priv).need_seq <= p.journal.written_seq:
        op_finish(p, op, ST_OK)
        return
    if p.journal.soft_tail != NULL:
        p.journal.soft_tail.next = op
    else:
        p.journal.soft_waiters = op
    p.journal.soft_tail = op


cdef void wait_hard(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Finish the op when its records (need_seq) are hard and the sync need_sync has succeeded."""
    op.next = p.journal.hard_waiters
    p.journal.hard_waiters = op


cdef uint64_t next_sync(lnt_pool *p) noexcept nogil:
    """The number of the first sync that starts after now."""
    return p.journal.sync_started + 1


cdef uint64_t checkpoint_sync(lnt_pool *p) noexcept nogil:
    """The same, and it starts though nobody else wants one: a checkpoint waits for it."""
    p.journal.checkpoint_need_sync = next_sync(p)
    return p.journal.checkpoint_need_sync


cdef void journal_cut(lnt_pool *p, uint64_t seq, uint32_t position) noexcept nogil:
    """A durable checkpoint holds all records up to `seq`: recovery begins at `position`, behind them."""
    if seq > p.journal.hard_seq:
        p.journal.hard_seq = seq
    p.journal.tail = position


cdef void sync_ended(lnt_io *io) noexcept nogil:
    cdef lnt_pool *p = <lnt_pool *>io.owner
    p.journal.syncing = 0
    block_end(p)                  # what lies there is durable; the next frame says so, which is looked for at a block's start
    if io.result != 0:
        p.journal.sync_failed = 1
        pool_fail(p, PF_SYNC, <uint64_t>-io.result)     # the kernel may have dropped the pages: a second try proves nothing
        return
    p.journal.sync_done = p.journal.sync_started
    p.journal.synced_writes = p.journal.cut_writes
    if p.journal.cut_closed > p.journal.data_synced_seq:
        p.journal.data_synced_seq = p.journal.cut_closed
    if p.journal.cut_written > p.journal.synced_seq:
        p.journal.synced_seq = p.journal.cut_written
    if p.journal.cut_marker > p.journal.hard_seq:
        p.journal.hard_seq = p.journal.cut_marker


cdef inline bint awaited_alone(lnt_pool *p) noexcept nogil:
    cdef lnt_op *op = p.journal.hard_waiters
    return (op != NULL and op.next == NULL and op.dev == p.current_device and op.kind < OP_ADMIN
            and p.journal.checkpoint_need_sync <= p.journal.sync_done)


cdef void sync_start(lnt_pool *p) noexcept nogil:
    frame_close(p, 0)             # its records' data is complete, so this sync proves it
    block_end(p)
    p.journal.syncing = 1
    p.journal.sync_started += 1
    p.journal.cut_closed = p.journal.closed_seq
    p.journal.cut_written = p.journal.written_seq
    p.journal.cut_marker = p.journal.marker_seq
    p.journal.cut_writes = p.journal.data_writes
    p.journal.sync_io.flags = IOF_AWAITED if awaited_alone(p) else 0
    if p.current_device.submit(p.current_device, &p.journal.sync_io):
        sync_ended(&p.journal.sync_io)


cdef void fail_waiters(lnt_pool *p) noexcept nogil:
    cdef lnt_op *op
    while p.journal.hard_waiters != NULL:
        op = p.journal.hard_waiters
        p.journal.hard_waiters = op.next
        op_finish(p, op, ST_IO_WRITE)
    while p.journal.soft_waiters != NULL:
        op = p.journal.soft_waiters
        p.journal.soft_waiters = op.next
        op_finish(p, op, ST_IO_WRITE)
    p.journal.soft_tail = NULL
    ops_ready(p, &p.checkpoint_wait.next_done)    # they see for themselves that the pool has failed
    ops_ready(p, &p.checkpoint_wait.done)
    ops_ready(p, &p.checkpoint_wait.room)
    ops_ready(p, &p.bookers)


cdef void seal_turn(lnt_pool *p) noexcept nogil:
    """Idle with the newest frame durable and none behind it to say so: write one that does, at j.seal_due_us (0: no need).

    Without it a frame that rots could not be told from one that a crash tore.
    """
    if (p.journal.closed_seq == p.journal.seal_seq or p.journal.closed_seq <= p.checkpoint.cut_seq
            or p.checkpoint.state != CHECKPOINT_IDLE
            or p.journal.synced_seq < p.journal.closed_seq or p.journal.open != NULL or p.closing or p.failed
            or journal_room(p) < ROOM_SMALL_RING):
        p.journal.seal_due_us = 0
        return
    if p.journal.seal_due_us == 0 or p.journal.seal_for != p.journal.closed_seq:
        p.journal.seal_for = p.journal.closed_seq
        p.journal.seal_due_us = p.now_us + SEAL_US
    if p.now_us >= p.journal.seal_due_us:
        if not frames_ready(p):
            memory_short(p)
            return
        frame_close(p, 1)
        p.journal.seal_seq = p.journal.closed_seq
        p.journal.sealing = 1
        p.journal.seal_due_us = 0


cdef void background_wants(lnt_pool *p) noexcept nogil:
    """What changed is to be hard now, though nobody asked: its records, and what was dropped with them."""
    cdef uint64_t last = p.journal.record_seq
    if ring_count(&p.dropped_waiting) and ring_newest(&p.dropped_waiting).seq > last:
        last = ring_newest(&p.dropped_waiting).seq
    if last > p.journal.closed_seq and journal_room(p) > ROOM_SMALL_RING:
        frame_close(p, 1)
    if last > p.journal.closed_seq:
        last = p.journal.closed_seq
    if last > p.journal.background_seq:
        p.journal.background_seq = last
    p.journal.background_due_us = 0


cdef int background_commit(lnt_pool *p, bint press) noexcept nogil:
    """Changes become hard at the latest after a while; idle, the journal seals its last frame. `press`: they are to be at once.

    1: there is more to do now.
    """
    cdef int more
    if ring_count(&p.dropped_waiting) == 0 and p.journal.record_seq <= p.journal.hard_seq:
        p.journal.background_due_us = 0
        more = p.journal.seal_due_us != 0 and p.now_us >= p.journal.seal_due_us
        seal_turn(p)
        return more
    p.journal.seal_due_us = 0
    if p.journal.background_due_us == 0:
        p.journal.background_due_us = p.now_us + COMMIT_US
    if p.now_us >= p.journal.background_due_us or p.closing or press:
        background_wants(p)
    return 0


cdef int commit_turn(lnt_pool *p) noexcept nogil:
    """One turn of group commit: answer who is served, then write a marker or start a sync if someone waits. 1: progress."""
    cdef lnt_op **at = &p.journal.hard_waiters
    cdef lnt_op *op
    cdef lnt_op_state *x
    cdef uint64_t want_seq = p.journal.background_seq
    cdef uint64_t want_sync = p.journal.checkpoint_need_sync
    cdef uint64_t closed
    if p.failed:
        fail_waiters(p)
        return p.current_device.ready_head != NULL
    if p.journal.soft_waiters != NULL:
        frame_close(p, 0)
    if p.mutations & M_NO_JOURNAL_SYNC and p.journal.marker_seq > p.journal.hard_seq:
        p.journal.hard_seq = p.journal.marker_seq
    if p.mutations & M_NO_DATA_SYNC:
        frame_close(p, 0)
        p.journal.data_synced_seq = p.journal.closed_seq
    while at[0] != NULL:
        op = at[0]
        x = <lnt_op_state *>op.priv
        if x.need_seq <= p.journal.hard_seq and (x.need_sync <= p.journal.sync_done or p.mutations & M_NO_DATA_SYNC):
            at[0] = op.next
            op_finish(p, op, ST_OK)
            continue
        if x.need_seq > want_seq:
            want_seq = x.need_seq
        if x.need_sync > want_sync:
            want_sync = x.need_sync
        at = &op.next
    if p.journal.syncing:
        return 0
    if want_seq > p.journal.hard_seq:
        if p.journal.data_synced_seq >= want_seq:
            if p.journal.marker_seq < want_seq and (p.journal.inflight == NULL or p.journal.inflight_tail.hard_upto < want_seq):
                if journal_room(p) < ROOM_MARKER:
                    checkpoint_want(p)
                    return 0          # the checkpoint will make it hard
                closed = p.journal.closed_seq
                frame_close(p, 1)
                if p.journal.closed_seq == closed:
                    return 0          # there was no memory for it
            if p.journal.marker_seq < want_seq:
                return 0          # the marker is on its way
        if not (p.mutations & M_NO_JOURNAL_SYNC and p.journal.data_synced_seq >= want_seq):
            sync_start(p)
        return 1
    if p.journal.sealing and p.journal.written_seq >= p.journal.seal_seq:
        p.journal.sealing = p.journal.synced_seq < p.journal.seal_seq
        if p.journal.sealing and want_sync <= p.journal.sync_done:
            want_sync = p.journal.sync_done + 1
    if (want_sync > p.journal.sync_done
            and (not p.mutations & M_NO_DATA_SYNC or p.journal.checkpoint_need_sync > p.journal.sync_done)):
        sync_start(p)
        return 1
    return 0
