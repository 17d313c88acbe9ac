"""WRITE as a state machine over the map (docs/durability.md, docs/concurrency.md), and what READ has in common with it.

An op runs until it must wait: for a page, for its I/O, for an epoch, a range lock, room, or the journal; whatever it waited for
puts it on its device's ready list and it runs again from its step. WRITE overwrites in place what is its object's alone and sends
everything else to new blocks, which enter the map when all data has arrived.
"""
from core._blkmap cimport map_find, map_insert
from core.base.check cimport lnt_assert
from core.base.checkpoint_wait cimport checkpoint_wait_room
from core.base.entries cimport E_EXCL, E_REF, WAIT
from core.base.extent cimport lnt_extent
from core.base.layout cimport L_BLOCK_BYTES, L_RUN_BLOCKS, OF_CHECKSUM
from core.base.memory cimport mem_aligned, mem_zeroed
from core.base.mutations cimport M_NO_MERGE_CHECK
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_piece, lnt_waiter, waiter_of
from core.base.pool cimport lnt_op_state, op_state
from core.base.regions cimport in_region, region_left
from core.base.schedule cimport op_finish, op_ready
from core.base.types cimport (
    IOF_NEW, IO_READ, IO_WRITE, OPF_ATOMIC, OPF_FUA, OPF_PLACED, OP_READ, ST_GONE, ST_MEMORY, ST_NO_SPACE, ST_RANGE, ST_READ_ONLY,
    lnt_io,
)
from core.log.journal cimport ROOM_COMMIT, journal_data_written, journal_fit, journal_room, next_sync, wait_hard, wait_soft
from core.log.records cimport map_record_bytes, record_map
from core.ops.epochs cimport (
    epoch_enter, epoch_exit, memory_ready, unpublished, wait_grace, wait_room, waits_for_range, write_book, write_unbook,
)
from core.ops.pieces cimport MERGE_AGAIN, PLAN_AGAIN, pieces_insert
from core.ops.order cimport order_overwritten
from core.ops.placing cimport SMALL_BLOCKS, choose_blocks, choose_place, choose_run, moves, region_fills, space_check
from core.ops.ranges cimport range_keep, range_leave
from core.ops.requests cimport (
    TRANSFER_COMMIT, TRANSFER_IO, TRANSFER_NEW, TRANSFER_PLAN, TRANSFER_RESTART, error_at, request_end, request_start,
)
from core.pages.checksums cimport csum_put, csum_touch, csum_verify
from core.space.dropped cimport drop_unused
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef void io_done(lnt_io *io) noexcept nogil:
    """A request of a write has finished."""
    cdef lnt_op *op = request_end(io)
    if op != NULL:
        write_end(op_state(op).pool, op)


cdef inline void io_start(lnt_pool *p, lnt_op *op, uint8_t kind, uint8_t flags, uint64_t offset, uint64_t length,
                          uint8_t *buf) noexcept nogil:
    request_start(p, op, io_done, kind, flags, offset, length, buf, NULL, 0)


cdef void pieces_free(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Give up pieces: blocks that did not enter the map go back."""
    cdef lnt_piece *a = op_state(op).pieces
    cdef lnt_piece *nxt
    cdef lnt_object *o = <lnt_object *>op.obj
    while a != NULL:
        nxt = a.next
        if op.kind != OP_READ:
            o.inflight_blocks -= a.n
            if not a.mapped:
                if a.n:
                    drop_unused(p, a.pba, a.n)
                piece_unlist(p, a)
        free(a.bounce)
        a.next = p.spare_pieces
        p.spare_pieces = a
        a = nxt
    op_state(op).pieces = op_state(op).pieces_tail = NULL


cdef void spare_pieces_free(lnt_pool *p) noexcept nogil:
    """Pieces that were kept for the next writes."""
    cdef lnt_piece *a = p.spare_pieces
    while a != NULL:
        p.spare_pieces = a.next
        free(a)
        a = p.spare_pieces


cdef lnt_piece *piece_new(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_piece *a = p.spare_pieces
    if a != NULL:
        p.spare_pieces = a.next
        memset(a, 0, sizeof(lnt_piece))
    else:
        a = <lnt_piece *>mem_zeroed(sizeof(lnt_piece))
        if a == NULL:
            return NULL
    a.op = op
    if op_state(op).pieces_tail != NULL:
        op_state(op).pieces_tail.next = a
    else:
        op_state(op).pieces = a
    op_state(op).pieces_tail = a
    return a


cdef void piece_list(lnt_pool *p, lnt_piece *a) noexcept nogil:
    a.flight_prev = NULL
    a.flight_next = p.pieces
    if a.flight_next != NULL:
        a.flight_next.flight_prev = a
    p.pieces = a
    p.n_pieces += 1


cdef void piece_unlist(lnt_pool *p, lnt_piece *a) noexcept nogil:
    if a.flight_prev != NULL:
        a.flight_prev.flight_next = a.flight_next
    elif p.pieces == a:
        p.pieces = a.flight_next
    if a.flight_next != NULL:
        a.flight_next.flight_prev = a.flight_prev
    a.flight_prev = a.flight_next = NULL
    p.n_pieces -= 1


cdef void op_leave(lnt_pool *p, lnt_op *op) noexcept nogil:
    """What a READ or WRITE does to the range is over."""
    cdef lnt_op_state *x = op_state(op)
    if x.pieces != NULL:
        pieces_free(p, op)
    write_unbook(p, op)
    epoch_exit(p, op)
    if x.place.stands:
        range_leave(p, &x.place)


# -- WRITE -------------------------------------------------------------------------------------------------------------


cdef lnt_piece *piece_at(lnt_pool *p, lnt_op *op, uint64_t lba, uint64_t pba, uint32_t n) noexcept nogil:
    """What goes next into blocks that were just taken. NULL: there is no memory for it, and they are given back."""
    cdef lnt_piece *a = piece_new(p, op)
    if a == NULL:
        drop_unused(p, pba, n)
        return NULL
    a.lba = lba
    a.pba = pba
    a.n = n
    a.src = op.buf + op_state(op).cursor
    (<lnt_object *>op.obj).inflight_blocks += n
    piece_list(p, a)
    return a


cdef int plan_new(lnt_pool *p, lnt_waiter *who, lnt_op *op, lnt_extent *e, uint64_t at, uint64_t left) noexcept nogil:
    """Send the next blocks of a write to a new place. 0, WAIT or a status; x.cursor moves on success."""
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef uint64_t lba = at // L_BLOCK_BYTES
    cdef uint64_t off = at & (L_BLOCK_BYTES - 1)
    cdef uint64_t want = left // L_BLOCK_BYTES
    cdef uint64_t pba = 0
    cdef uint32_t got = 0
    cdef lnt_piece *a
    cdef int rc
    if want > e.n:
        want = e.n
    if want > region_left(lba):
        want = region_left(lba)
    if off or want == 0:
        want = 1
    rc = space_check(p, o, want, e.pba == 0)
    if rc == 0 and not memory_ready(p):
        rc = ST_MEMORY
    if rc == 0:
        rc = choose_blocks(p, who, o, lba, <uint32_t>want, e.pba == 0, &pba, &got)
    if rc:
        return rc
    if e.pba and region_fills(p, o, lba, got):
        order_overwritten(p, o, lba)
    a = piece_at(p, op, lba, pba, got)
    if a == NULL:
        return ST_MEMORY
    if off or left < L_BLOCK_BYTES:
        lnt_assert(e.pba == 0 or p.epoch >= o.settle_epoch, "I8: nothing is merged that may still be written in place")
        a.partial = 1
        a.source = e.entry
        a.skip = <uint16_t>off
        a.bytes = <uint16_t>(L_BLOCK_BYTES - off if L_BLOCK_BYTES - off < left else left)
        a.bounce = <uint8_t *>mem_aligned(L_BLOCK_BYTES)
        if a.bounce == NULL:
            return ST_MEMORY
        p.stat_rmw += 1
        partial_load(p, op, a)
        x.cursor += a.bytes
        return 0
    io_start(p, op, IO_WRITE, IOF_NEW, pba * L_BLOCK_BYTES, <uint64_t>got * L_BLOCK_BYTES, a.src)
    x.cursor += <uint64_t>got * L_BLOCK_BYTES
    return 0


cdef void partial_load(lnt_pool *p, lnt_op *op, lnt_piece *a) noexcept nogil:
    """Fetch what the rest of the block holds now."""
    a.loaded = 0
    if a.source == 0:
        memset(a.bounce, 0, L_BLOCK_BYTES)
        return
    io_start(p, op, IO_READ, 0, (a.source & E_REF()) * L_BLOCK_BYTES, L_BLOCK_BYTES, a.bounce)


cdef int plan_move(lnt_pool *p, lnt_waiter *who, lnt_op *op, lnt_extent *e, uint64_t at, uint64_t left) noexcept nogil:
    """Send what would overwrite private blocks that lie scattered to a run of its own, where one is free.

    0: x.cursor has moved, or not: then they are overwritten where they lie. WAIT, or a status.
    """
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_piece *a
    cdef uint64_t lba = at // L_BLOCK_BYTES, pba = 0
    cdef uint32_t n = 0
    cdef int rc
    if left < SMALL_BLOCKS * L_BLOCK_BYTES or x.stays or at & (L_BLOCK_BYTES - 1):
        return 0
    if x.cursor >= L_BLOCK_BYTES and lba % L_RUN_BLOCKS:
        return 0                  # asked once for each region
    rc = moves(p, who, <lnt_object *>op.obj, e, lba, left // L_BLOCK_BYTES, &n)
    if rc == 0 and n:
        rc = choose_run(p, who, <lnt_object *>op.obj, lba, n, &pba, &n) if memory_ready(p) else ST_MEMORY
    if rc or n == 0:
        return rc
    x.moved = 1
    a = piece_at(p, op, lba, pba, n)
    if a == NULL:
        return ST_MEMORY
    io_start(p, op, IO_WRITE, IOF_NEW, pba * L_BLOCK_BYTES, <uint64_t>n * L_BLOCK_BYTES, a.src)
    x.cursor += <uint64_t>n * L_BLOCK_BYTES
    return 0


cdef inline bint is_placed(lnt_op *op, const lnt_extent *e, uint64_t lba) noexcept nogil:
    """A hole, or where OPF_PLACED wants it."""
    return e.pba == 0 or (op.result and e.pba == op.result + in_region(lba))


cdef int plan_placed(lnt_pool *p, lnt_waiter *who, lnt_op *op, lnt_extent *e, uint64_t at, uint64_t left) noexcept nogil:
    """Send what is mapped and not in its place to it. 0: x.cursor has moved. WAIT, or a status."""
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef lnt_extent further
    cdef uint64_t lba = at // L_BLOCK_BYTES, n = e.n, pba = 0, shared = 0 if e.exclusive else e.n
    cdef uint32_t got = 0
    cdef lnt_piece *a
    cdef int rc
    if is_placed(op, e, lba):
        x.cursor += n * L_BLOCK_BYTES
        return 0
    while n < left // L_BLOCK_BYTES:
        rc = map_find(p, who, o, lba + n, (left // L_BLOCK_BYTES) - n, 1, &further)
        if rc:
            return rc
        if is_placed(op, &further, lba + n):
            break
        n += further.n
        shared += 0 if further.exclusive else further.n
    rc = choose_place(p, who, o, lba, <uint32_t>n, &op.result, &pba, &got) if memory_ready(p) else ST_MEMORY
    if rc:
        return rc
    if got == 0:
        return ST_NO_SPACE
    p.stat_copied += shared
    a = piece_at(p, op, lba, pba, got)
    if a == NULL:
        return ST_MEMORY
    io_start(p, op, IO_WRITE, IOF_NEW, pba * L_BLOCK_BYTES, n * L_BLOCK_BYTES, a.src)
    x.cursor += n * L_BLOCK_BYTES
    return 0


cdef void write_plan(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_waiter who = waiter_of(op)
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef lnt_extent e
    cdef uint64_t at, off, n, left
    cdef int rc
    while x.cursor < op.length and not x.error:
        at = op.offset + x.cursor
        off = at & (L_BLOCK_BYTES - 1)
        left = op.length - x.cursor
        rc = map_find(p, &who, o, at // L_BLOCK_BYTES, (off + left + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES, 1, &e)
        if rc == 0 and op.flags & OPF_PLACED:
            rc = plan_placed(p, &who, op, &e, at, left)
        elif rc == 0 and (not e.exclusive or x.verify or op.flags & OPF_ATOMIC):
            if (off or left < L_BLOCK_BYTES) and e.pba and p.epoch < o.settle_epoch:
                x.step = TRANSFER_RESTART    # writes in place may still reach the block that would be merged
                if x.io_busy == 0:
                    write_end(p, op)
                return
            rc = plan_new(p, &who, op, &e, at, left)
        elif rc == 0:
            rc = plan_move(p, &who, op, &e, at, left)
        if rc == 0 and op.offset + x.cursor == at:
            n = e.n * L_BLOCK_BYTES - off
            if n > left:
                n = left
            io_start(p, op, IO_WRITE, 0, e.pba * L_BLOCK_BYTES + off, n, op.buf + x.cursor)
            x.cursor += n
        if rc == WAIT:
            return
        if rc:
            error_at(op, rc, op.buf + x.cursor)
    x.step = TRANSFER_IO
    if x.io_busy == 0:
        write_end(p, op)


cdef void write_end(lnt_pool *p, lnt_op *op) noexcept nogil:
    """No request is in flight: merge, restart, give up or commit."""
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_waiter who = waiter_of(op)
    cdef lnt_piece *a = x.pieces
    cdef uint64_t target
    if x.step == TRANSFER_RESTART:
        pieces_free(p, op)
        write_unbook(p, op)
        if not x.internal:
            range_keep(p, &x.place, <lnt_object *>op.obj, op)     # some of it may have been written
        epoch_exit(p, op)
        x.step = TRANSFER_NEW
        x.cursor = x.moved = 0
        target = (<lnt_object *>op.obj).settle_epoch
        if p.epoch < target:
            wait_grace(p, op, target)
        else:
            op_ready(p, op)
        return
    if x.step == TRANSFER_IO and not x.error:
        while a != NULL and x.verify:
            if a.partial and a.source and not a.loaded:
                a.loaded = merge_verified(p, &who, op, a)
                if x.error:
                    break
                if not a.loaded:
                    return
            a = a.next
        a = x.pieces if not x.error else NULL
        while a != NULL:
            if a.partial and a.loaded < 2:
                a.loaded = 2
                memcpy(a.bounce + a.skip, a.src, a.bytes)
                io_start(p, op, IO_WRITE, IOF_NEW, a.pba * L_BLOCK_BYTES, L_BLOCK_BYTES, a.bounce)
            a = a.next
        if x.io_busy:
            return
    journal_data_written(p)
    if x.error == ST_NO_SPACE and x.moved:
        x.error = 0               # the medium has no room for a better place: in place it needs none
        x.stays = 1
        x.step = TRANSFER_RESTART
        write_end(p, op)
        return
    if x.error:
        op_leave(p, op)
        op_finish(p, op, x.error)
        return
    x.step = TRANSFER_COMMIT
    write_commit(p, op)


cdef uint8_t merge_verified(lnt_pool *p, lnt_waiter *who, lnt_op *op, lnt_piece *a) noexcept nogil:
    """The old contents of a checksummed block are verified before they are merged. 0: waiting, or error set."""
    cdef uint32_t bad = 0
    cdef int rc = csum_verify(p, who, a.source & ((<uint64_t>1 << 48) - 1), 1, a.bounce, &bad)
    if rc == WAIT:
        return 0
    if rc:
        error_at(op, rc, a.src)
        return 0
    return 1


cdef int piece_commit(lnt_pool *p, lnt_waiter *who, lnt_op *op, lnt_piece *a) noexcept nogil:
    """Enter one piece into the map and the journal. 0, WAIT, a status, or MERGE_AGAIN, PLAN_AGAIN."""
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef lnt_extent e
    cdef int rc
    cdef uint32_t[512] sums
    if a.partial:
        rc = map_find(p, who, o, a.lba, 1, not op_state(op).verify, &e)
        if rc:
            return rc
        if e.pba and not op_state(op).verify and (e.exclusive or p.epoch < o.settle_epoch):
            return PLAN_AGAIN         # others may have written in place, or may still, to what was merged
        if e.entry != a.source and not p.mutations & M_NO_MERGE_CHECK:
            a.source = e.entry
            return MERGE_AGAIN
    if op_state(op).verify:
        rc = csum_touch(p, who, a.pba, a.n)
        if rc:
            return rc if rc == WAIT or rc == ST_MEMORY else PLAN_AGAIN   # checksums cannot be kept there: taken elsewhere
    lnt_assert(not a.partial or e.entry == a.source or p.mutations & M_NO_MERGE_CHECK != 0,
               "I9: a partial write replaces the block that it was merged with")
    journal_fit(p, map_record_bytes(a.n, 1))
    rc = map_insert(p, who, o, a.lba, a.pba, a.n, E_EXCL())
    if rc:
        return rc
    if op_state(op).verify:
        csum_put(p, a.pba, a.n, a.bounce if a.partial else a.src, sums)
    record_map(p, o.pub.id, a.lba, a.pba, a.n, sums if op_state(op).verify else NULL)
    a.mapped = 1
    piece_unlist(p, a)
    return 0


cdef int pieces_commit(lnt_pool *p, lnt_waiter *who, lnt_op *op, lnt_piece **at) noexcept nogil:
    """All pieces of an atomic write at once. As piece_commit; at MERGE_AGAIN `at` is the piece to be merged again."""
    cdef lnt_piece *a = op_state(op).pieces
    cdef int rc = pieces_insert(p, who, <lnt_object *>op.obj, at, op_state(op).verify)
    while rc == 0 and a != NULL:
        a.mapped = 1
        piece_unlist(p, a)
        a = a.next
    return rc


cdef void write_commit(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    cdef lnt_waiter who = waiter_of(op)
    cdef lnt_object *o = <lnt_object *>op.obj
    cdef lnt_piece *a = x.pieces
    cdef int rc
    while a != NULL:
        if not a.mapped:
            if p.failed or o.pub.gone or op.offset + op.length > o.pub.size_bytes:   # shrunk or reverted meanwhile
                x.error = ST_READ_ONLY if p.failed else ST_GONE if o.pub.gone else ST_RANGE
                break
            if journal_room(p) < ROOM_COMMIT or unpublished(p) >= p.cache.dirty_stop:
                checkpoint_wait_room(p, op)
                return
            if not memory_ready(p):
                x.error = ST_MEMORY
                break
            rc = pieces_commit(p, &who, op, &a) if op.flags & OPF_ATOMIC else piece_commit(p, &who, op, a)
            if rc == WAIT:
                return
            if rc == PLAN_AGAIN:
                x.step = TRANSFER_RESTART
                write_end(p, op)
                return
            if rc == MERGE_AGAIN:
                x.step = TRANSFER_IO
                partial_load(p, op, a)
                if x.io_busy == 0:
                    write_end(p, op)
                return
            if rc:
                x.error = rc
                break
        a = a.next
    op_leave(p, op)
    o.writes += 1
    op_settle(p, op, x.error)


cdef void op_settle(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil:
    """End an op that changes data: acknowledged when all that the map now says, whoever said it, is as durable as asked."""
    cdef lnt_op_state *x = op_state(op)
    x.need_seq = p.journal.record_seq
    if status:
        op_finish(p, op, status)
    elif op.flags & OPF_FUA:
        x.need_sync = next_sync(p)
        wait_hard(p, op)
    else:
        wait_soft(p, op)


cdef void write_run(lnt_pool *p, lnt_op *op) noexcept nogil:
    cdef lnt_op_state *x = op_state(op)
    if x.step == TRANSFER_NEW:
        if waits_for_range(p, op) or wait_room(p, op) or write_book(p, op):
            return
        epoch_enter(p, op)
        x.verify = (<lnt_object *>op.obj).flags & OF_CHECKSUM
        x.step = TRANSFER_PLAN
    if x.step == TRANSFER_PLAN:
        write_plan(p, op)
    elif x.step == TRANSFER_COMMIT:
        write_commit(p, op)
    elif x.io_busy == 0:
        write_end(p, op)
