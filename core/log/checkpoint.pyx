"""The checkpoint: one instant's metadata to the area, the superblock that publishes it, then every page home.

A table of states (checkpoint_state in core/base/log.pxd): HOMES chooses homes for new nodes, IMAGES serialises and writes,
SYNC1, SUPER, SYNC2 publish, APPLY writes the pages home, SYNC3 ends it (docs/on-disk-format.md, "How it changes").
"""
from core.base.check cimport lnt_assert
from core.base.checkpoint_wait cimport checkpoint_begun
from core.base.crc32c cimport lnt_crc32c
from core.base.dropped cimport ring_count
from core.base.entries cimport WAIT
from core.base.layout cimport (
    DE_CRC, DE_HOME, L_BLOCK_BYTES, L_DIRECTORY_ENTRIES, L_DIRECTORY_ENTRY_BYTES, L_GROUP_BLOCKS,
    L_PAGE_HEADER_BYTES, L_RUN_BLOCKS, L_SLOTS_PER_PAGE, L_SLOT_BYTES, L_SUMMARY_RUNS, PG_CRC, PK_DIRECTORY,
    PK_SUMMARY, SB_AREA_IMAGES, SB_AREA_PENDING, SB_CKPT_GEN, SB_JOURNAL_POS, SB_JOURNAL_SEQ, SB_PENDING_CRC,
    SB_VERSION,
)
from core.base.log cimport (
    CHECKPOINT_APPLY, CHECKPOINT_HOMES, CHECKPOINT_IDLE, CHECKPOINT_IMAGES, CHECKPOINT_SUPER, CHECKPOINT_SYNC1, CHECKPOINT_SYNC2,
    CHECKPOINT_SYNC3,
)
from core.base.memory cimport mem_aligned, mem_new
from core.base.mutations cimport M_NO_CKPT_SYNC, M_NO_HOME_SYNC, M_NO_SUPER_SYNC, M_STRAIGHT_RECOVERY
from core.base.native cimport lnt_get_le32, lnt_get_le64, lnt_put_le16, lnt_put_le32, lnt_put_le64
from core.base.object cimport lnt_object
from core.base.page cimport DIRTY_HOME, DIRTY_HOUSED, lnt_dirty, lnt_dirty_array, lnt_page
from core.base.pool cimport next_images
from core.base.runs cimport summary_home, summary_pages, summary_pages_of, summary_take
from core.base.schedule cimport ops_ready
from core.base.trace cimport PF_AREA, PF_CHECKPOINT, PF_HOMES, PF_PAGE, memory_short, pool_fail
from core.base.types cimport IO_WRITE, ST_CHECKSUM, ST_MEMORY, ST_NO_SPACE, ST_RANGE, lnt_io
from core.catalog.slots cimport object_store, slot_page
from core.log.housing cimport MORE_HOMES, choose_homes, translate
from core.log.journal cimport block_end, checkpoint_sync, frame_close, frames_ready, frames_share, journal_cut, journal_room
from core.log.pending cimport pending_freeze, pending_pages
from core.log.superblock cimport super_build, super_next
from core.objects cimport dirty_take
from core.pages.cache cimport (
    cache_freeze, cache_freeze_room, cache_frozen, cache_limits, cache_thaw,
)
from core.pages.dirty cimport dirty_next, dirty_sort
from core.pages.format cimport page_seal, page_serialise
from core.space.dropped cimport homes_ready, homes_release, homes_wait
from core.space.holes cimport punch_flags
from core.space.medium cimport medium_flags, medium_goal, medium_later, nodes_prepare, nodes_tidy
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef enum:
    LAST_HOMES = 32               # homes chosen in the turn that fixes the instant, where that is to be had
    CHUNK_PAGES = 64              # one write of images or of neighbouring homes: 256 KiB
    TURN_PAGES = 32               # pages serialised in one turn
    TURN_WRITES = 32              # writes of pages to their homes started in one turn ...
    TURN_HOME_PAGES = 64          # ... and pages of them
    NO_HOMES_US = 500000          # a checkpoint without room for its nodes tries again so long after
    SETTLED_US = 30000000         # a pool with changes gets a checkpoint at least this often
    WAITING_MOST = 200000         # items that wait to come off the counts: with more a checkpoint is due
    OP_DIRTIES = 550              # pages that one op may make dirty: a copied leaf raises counts of 512 blocks, and some above it
    RESERVE_PART = 256            # of the pool's blocks: kept for deletes and metadata ...
    RESERVE_LEAST = 64            # ... at least and at most so many
    RESERVE_MOST = 16384
    NODES_PART = 32               # of the pool's blocks: allocated below for nodes, where that is done ahead


# -- when ---------------------------------------------------------------------------------------------------------------------


cdef uint32_t ckpt_capacity(lnt_pool *p) noexcept nogil:
    """Dirty pages that fit into an area half, with room for summaries, directory and pending list."""
    return p.checkpoint.area_blocks - p.checkpoint.area_blocks // 8


cdef void limits_set(lnt_pool *p) noexcept nogil:
    """How many pages may be dirty, and what is kept of the space, by the size that the pool has now.

    One area half holds them, a summary page for each that counts (at worst), and what one op more may make dirty: to copy a
    shared leaf raises the counts of 512 blocks, anywhere in the pool.
    """
    cdef uint64_t room = ckpt_capacity(p)
    cdef uint64_t summaries = summary_pages_of(p.total_blocks)
    cdef uint64_t most = p.total_blocks // L_GROUP_BLOCKS + 16
    cdef uint64_t stop, goal
    room -= summaries if summaries < room // 2 else room // 2
    if most > OP_DIRTIES:
        most = OP_DIRTIES
    if most > room // 2:
        most = room // 2
    p.reserve_blocks = p.total_blocks // RESERVE_PART if p.total_blocks > RESERVE_LEAST * RESERVE_PART else RESERVE_LEAST
    if p.reserve_blocks > RESERVE_MOST:
        p.reserve_blocks = RESERVE_MOST
    stop = room - most
    if p.medium.sparse:               # whatever is dirty must have a home that is allocated below
        goal = p.total_blocks // NODES_PART if p.total_blocks // NODES_PART > L_RUN_BLOCKS else L_RUN_BLOCKS
        if goal > stop + p.reserve_blocks:
            goal = stop + p.reserve_blocks
        medium_goal(p, goal)
        stop = goal - p.reserve_blocks
    cache_limits(p, stop, most if most < stop // 4 else stop // 4)


cdef void ckpt_settled(lnt_pool *p) noexcept nogil:
    """What is durable now may rest for a while before a checkpoint is made for its sake."""
    p.checkpoint.next_due_us = p.now_us + SETTLED_US


cdef void ckpt_recovers(lnt_pool *p) noexcept nogil:
    """The next one ends a recovery: until it counts, nothing but the area is written."""
    p.checkpoint.recovers = 1


cdef int ckpt_due(lnt_pool *p) noexcept nogil:
    if p.checkpoint_wait.wanted or next_images(p) > p.cache.dirty_limit // 2 or journal_room(p) < p.journal.blocks // 2:
        return 1
    if ring_count(&p.dropped_waiting) > WAITING_MOST:
        return 1
    return (p.cache.n_dirty > 0 or homes_wait(p)) and p.now_us > p.checkpoint.next_due_us


# -- freezing the instant ----------------------------------------------------------------------------------------------------


cdef inline uint32_t fresh_count(lnt_pool *p) noexcept nogil:
    """Nodes that no checkpoint has where they will be go straight home: a block that is free for all that is durable (I6) is
    harmed by nothing written there.

    In recovery none does: room was made for nodes of what the checkpoint before refers to (`blocks_for_nodes`).
    """
    return <uint32_t>p.cache.dirty[DIRTY_HOUSED].count if not p.checkpoint.recovers or p.mutations & M_STRAIGHT_RECOVERY else 0


cdef void summary_image(lnt_pool *p, uint64_t index, uint8_t *out, uint64_t generation) noexcept nogil:
    """A summary page as checkpoint `generation` has it."""
    cdef uint64_t first = index * L_SUMMARY_RUNS
    cdef uint64_t i
    memset(out, 0, L_BLOCK_BYTES)
    for i in range(L_SUMMARY_RUNS):
        lnt_put_le16(out + L_PAGE_HEADER_BYTES + 2 * i, p.run_used[first + i] if first + i < p.n_runs else L_RUN_BLOCKS)
    page_seal(p, out, PK_SUMMARY, 0, 0, summary_home(index), generation)


cdef void instant_free(lnt_pool *p, uint32_t written) noexcept nogil:
    """`written`: so many of the cache's pages are at home."""
    cache_thaw(p, written)
    free(p.checkpoint.order)
    free(p.checkpoint.homes)
    free(p.checkpoint.directory)
    free(p.checkpoint.pending)
    p.checkpoint.order = NULL
    p.checkpoint.homes = NULL
    p.checkpoint.directory = p.checkpoint.pending = NULL


cdef inline uint32_t area_images(lnt_pool *p) noexcept nogil:
    """Images that go by way of the area: those behind what goes straight home."""
    return p.checkpoint.n_images - p.checkpoint.n_fresh


cdef int instant_room(lnt_pool *p) noexcept nogil:
    """Memory for all that the checkpoint will hold, before anything is fixed. 0 or a status."""
    cdef uint64_t s
    cdef uint32_t n = <uint32_t>p.cache.n_dirty, ns = 0
    cdef uint32_t npages = pending_pages(p)
    for s in range(summary_pages(p)):
        ns += p.summary_dirty[s]
    p.checkpoint.n_pages = n
    p.checkpoint.n_images = n + ns
    p.checkpoint.n_fresh = fresh_count(p)
    p.checkpoint.n_pending = npages
    p.checkpoint.n_directory = (area_images(p) + L_DIRECTORY_ENTRIES - 1) // L_DIRECTORY_ENTRIES
    if p.checkpoint.n_directory + p.checkpoint.n_images + npages > p.checkpoint.area_blocks:
        return ST_RANGE               # writers are held back long before
    p.checkpoint.order = mem_new((n + 1) * sizeof(lnt_dirty))
    p.checkpoint.homes = <uint64_t *>mem_new((p.checkpoint.n_images + 1) * sizeof(uint64_t))
    # For the largest there can be, kept: fresh memory for each would be faulted in each time.
    if p.checkpoint.buf == NULL:
        p.checkpoint.buf = <uint8_t *>mem_aligned(<uint64_t>p.checkpoint.area_blocks * L_BLOCK_BYTES)
    p.checkpoint.directory = <uint8_t *>mem_aligned(<uint64_t>(p.checkpoint.n_directory + 1) * L_BLOCK_BYTES)
    p.checkpoint.pending = <uint8_t *>mem_aligned(<uint64_t>(npages + 1) * L_BLOCK_BYTES)
    if (not cache_freeze_room(p, n) or p.checkpoint.order == NULL or p.checkpoint.homes == NULL or p.checkpoint.buf == NULL
            or p.checkpoint.directory == NULL or p.checkpoint.pending == NULL or not frames_ready(p)):
        instant_free(p, 0)
        return ST_MEMORY
    return 0


cdef int objects_freeze(lnt_pool *p) noexcept nogil:
    """Changed objects into the catalog's pages, which are in memory and owned since choose_homes. 0 or a status."""
    cdef lnt_object *o = dirty_take(p)
    cdef lnt_object *after
    cdef lnt_page *f
    cdef int rc = 0
    while o != NULL:
        after = o.dirty_next
        o.dirty = 0
        if not o.pub.gone:
            f = slot_page(p, NULL, o.slot, &rc)
            if f == NULL:
                return ST_CHECKSUM
            object_store(p, o, f.data + o.slot % L_SLOTS_PER_PAGE * L_SLOT_BYTES)
        elif o.pub.handles == 0:
            free(o)               # deleted, and nobody has it open
        o = after
    return 0


cdef void array_freeze(lnt_pool *p, lnt_dirty_array *a, uint32_t slot) noexcept nogil:
    """From this slot of the checkpoint on, in the order of the homes."""
    cdef uint64_t i
    dirty_sort(a.items, <lnt_dirty *>p.checkpoint.order, a.count, p.total_blocks)
    for i in range(a.count):
        cache_freeze(p, dirty_next(a, i), slot + <uint32_t>i)
        p.checkpoint.homes[slot + i] = a.items[i].id


cdef void pages_freeze(lnt_pool *p) noexcept nogil:
    """What is dirty, new nodes first."""
    lnt_assert(p.checkpoint.n_pages == p.cache.n_dirty, "I7: a checkpoint holds all that is dirty at its instant")
    array_freeze(p, &p.cache.dirty[DIRTY_HOUSED], 0)
    array_freeze(p, &p.cache.dirty[DIRTY_HOME], <uint32_t>p.cache.dirty[DIRTY_HOUSED].count)
    cache_frozen(p)
    free(p.checkpoint.order)
    p.checkpoint.order = NULL


cdef void summaries_freeze(lnt_pool *p) noexcept nogil:
    """Summary pages, behind the cache's."""
    cdef uint32_t n = p.checkpoint.n_pages
    cdef uint64_t s
    for s in range(summary_pages(p)):
        if summary_take(p, s):
            p.checkpoint.homes[n] = summary_home(s)
            summary_image(p, s, p.checkpoint.buf + <uint64_t>n * L_BLOCK_BYTES, p.checkpoint.generation + 1)
            n += 1


cdef int freeze(lnt_pool *p) noexcept nogil:
    """Fix the instant: what is dirty now, and every record so far, make the checkpoint. 0 or a status."""
    cdef uint8_t *b = p.checkpoint.super_buf
    cdef int rc = instant_room(p)
    if rc == 0:
        rc = translate(p)
    if rc == 0:
        rc = objects_freeze(p)
    if rc:
        return rc
    frame_close(p, 0)
    p.checkpoint.cut_seq = p.journal.closed_seq
    p.checkpoint.cut_position = p.journal.head
    block_end(p)                  # recovery begins there
    memset(p.checkpoint.directory, 0, <uint64_t>p.checkpoint.n_directory * L_BLOCK_BYTES)
    pending_freeze(p)
    pages_freeze(p)
    summaries_freeze(p)
    super_build(p, b, punch_flags(p) | medium_flags(p))
    lnt_put_le64(b + SB_CKPT_GEN, p.checkpoint.generation + 1)
    lnt_put_le64(b + SB_JOURNAL_SEQ, p.checkpoint.cut_seq + 1)
    lnt_put_le32(b + SB_JOURNAL_POS, p.checkpoint.cut_position)
    lnt_put_le32(b + SB_AREA_IMAGES, area_images(p))
    lnt_put_le32(b + SB_AREA_PENDING, p.checkpoint.n_pending)
    p.checkpoint.n_serialised = 0
    p.checkpoint.io_next = 0
    p.checkpoint.io_busy = 0
    p.checkpoint.io_failed = 0
    p.checkpoint.directory_written = 0
    checkpoint_begun(p)
    ops_ready(p, &p.checkpoint_wait.room)      # nothing is dirty now
    return 0


# -- writing --------------------------------------------------------------------------------------------------------------------


cdef void ck_written(lnt_io *io) noexcept nogil:
    cdef lnt_pool *p = <lnt_pool *>io.owner
    p.checkpoint.io_busy -= 1
    if io.result != 0:
        p.checkpoint.io_failed = 1
        p.checkpoint.io_errno = <uint32_t>-io.result
    io.kind = 0


cdef void ck_write(lnt_pool *p, uint64_t block, uint8_t *buf, uint32_t pages, lnt_io *io) noexcept nogil:
    cdef uint32_t i = 0
    if io == NULL:                # at most so many are under way: images_turn, apply_turn
        while p.checkpoint.write_ios[i].kind:
            i += 1
        io = &p.checkpoint.write_ios[i]
    io.kind = IO_WRITE
    io.offset = block * L_BLOCK_BYTES
    io.length = <uint64_t>pages * L_BLOCK_BYTES
    io.buf = buf
    io.owner = p
    io.done = ck_written
    p.checkpoint.io_busy += 1
    if p.current_device.submit(p.current_device, io):
        ck_written(io)


cdef void directory_store(lnt_pool *p) noexcept nogil:
    cdef uint32_t i, n = area_images(p), first = p.checkpoint.n_fresh
    cdef uint32_t crc = 0
    cdef uint8_t *at
    for i in range(n):
        at = (p.checkpoint.directory + (i // L_DIRECTORY_ENTRIES) * L_BLOCK_BYTES + L_PAGE_HEADER_BYTES
              + i % L_DIRECTORY_ENTRIES * L_DIRECTORY_ENTRY_BYTES)
        lnt_put_le64(at + DE_HOME, p.checkpoint.homes[first + i])
        lnt_put_le32(at + DE_CRC, lnt_get_le32(p.checkpoint.buf + <uint64_t>(first + i) * L_BLOCK_BYTES + PG_CRC))
    for i in range(p.checkpoint.n_directory):
        page_seal(p, p.checkpoint.directory + i * L_BLOCK_BYTES, PK_DIRECTORY, 0,
                  n - i * L_DIRECTORY_ENTRIES if n - i * L_DIRECTORY_ENTRIES < L_DIRECTORY_ENTRIES else L_DIRECTORY_ENTRIES, i,
                  p.checkpoint.generation + 1)
    crc = lnt_crc32c(0, p.checkpoint.directory, <uint64_t>p.checkpoint.n_directory * L_BLOCK_BYTES)
    lnt_put_le64(p.checkpoint.super_buf + SB_PENDING_CRC, crc)


cdef void homes_write(lnt_pool *p, uint32_t stop) noexcept nogil:
    """Start some writes of images before `stop` to their homes, neighbours together."""
    cdef uint32_t n, writes = 0, first = p.checkpoint.io_next
    while (p.checkpoint.io_next < stop and p.checkpoint.io_busy < 16 and writes < TURN_WRITES
           and p.checkpoint.io_next - first < TURN_HOME_PAGES):
        writes += 1
        n = 1
        while (n < CHUNK_PAGES and p.checkpoint.io_next + n < stop
               and p.checkpoint.homes[p.checkpoint.io_next + n] == p.checkpoint.homes[p.checkpoint.io_next] + n):
            n += 1
        ck_write(p, p.checkpoint.homes[p.checkpoint.io_next],
                 p.checkpoint.buf + <uint64_t>p.checkpoint.io_next * L_BLOCK_BYTES, n, NULL)
        p.checkpoint.io_next += n


cdef int images_turn(lnt_pool *p) noexcept nogil:
    """Serialise some pages, start some writes: straight home of what goes there, the rest to the area. 1 when all is written."""
    cdef uint32_t i, n, at
    cdef uint64_t base = p.checkpoint.area_start + ((p.checkpoint.generation + 1) & 1) * p.checkpoint.area_blocks
    cdef uint32_t stop = p.checkpoint.n_serialised + TURN_PAGES
    lnt_assert(lnt_get_le64(p.checkpoint.live_buf + SB_CKPT_GEN) == p.checkpoint.generation,
               "I7: images go to the half that the superblock does not name")
    if stop > p.checkpoint.n_pages:
        stop = p.checkpoint.n_pages
    for i in range(p.checkpoint.n_serialised, stop):
        if p.cache.frozen[i] != NULL and p.cache.frozen[i].in_checkpoint:
            page_serialise(p, p.cache.frozen[i])
    p.checkpoint.n_serialised = stop
    if stop == p.checkpoint.n_pages:
        stop = p.checkpoint.n_images
    homes_write(p, p.checkpoint.n_fresh if p.checkpoint.n_fresh < stop else stop)
    while p.checkpoint.n_fresh <= p.checkpoint.io_next < stop and p.checkpoint.io_busy < 4:
        at = p.checkpoint.io_next - p.checkpoint.n_fresh
        n = stop - p.checkpoint.io_next
        if n > CHUNK_PAGES:
            n = CHUNK_PAGES
        ck_write(p, base + p.checkpoint.n_directory + at,
                 p.checkpoint.buf + <uint64_t>p.checkpoint.io_next * L_BLOCK_BYTES, n, NULL)
        p.checkpoint.io_next += n
    if p.checkpoint.io_next < p.checkpoint.n_images:
        return 0
    if not p.checkpoint.directory_written:
        p.checkpoint.directory_written = 1
        directory_store(p)
        if p.checkpoint.n_directory:
            ck_write(p, base, p.checkpoint.directory, p.checkpoint.n_directory, NULL)
        if p.checkpoint.n_pending:
            ck_write(p, base + p.checkpoint.n_directory + area_images(p), p.checkpoint.pending, p.checkpoint.n_pending, NULL)
    return p.checkpoint.io_busy == 0


cdef int apply_turn(lnt_pool *p) noexcept nogil:
    """Write some images home, neighbours together, and in the end the second superblock copy. 1 when all is written."""
    lnt_assert(p.journal.sync_done >= p.checkpoint.need_sync or p.mutations != 0,
               "I7: pages go home when the superblock that names their images is durable")
    homes_write(p, p.checkpoint.n_images)
    if p.checkpoint.io_next < p.checkpoint.n_images:
        return 0
    if not p.checkpoint.directory_written:
        p.checkpoint.directory_written = 1
        ck_write(p, 1, p.checkpoint.super_buf, 1, &p.checkpoint.super_io)
    return p.checkpoint.io_busy == 0


cdef void published(lnt_pool *p) noexcept nogil:
    """The superblock is durable: what it covers is hard, and what only the checkpoint before it needed is free."""
    p.checkpoint.generation += 1
    p.checkpoint.recovers = 0
    memcpy(p.checkpoint.live_buf, p.checkpoint.super_buf, L_BLOCK_BYTES)
    journal_cut(p, p.checkpoint.cut_seq, p.checkpoint.cut_position)
    frames_share(p, lnt_get_le32(p.checkpoint.super_buf + SB_VERSION))
    homes_release(p)
    ops_ready(p, &p.checkpoint_wait.room)


cdef void finished(lnt_pool *p) noexcept nogil:
    instant_free(p, p.checkpoint.n_pages)
    p.checkpoint.done_count += 1
    ckpt_settled(p)
    nodes_tidy(p)
    ops_ready(p, &p.checkpoint_wait.done)
    ops_ready(p, &p.checkpoint_wait.room)


cdef int want_sync(lnt_pool *p, uint8_t state) noexcept nogil:
    p.checkpoint.state = state
    if p.mutations & (M_NO_SUPER_SYNC if state == CHECKPOINT_SYNC2 else M_NO_HOME_SYNC if state == CHECKPOINT_SYNC3 else 0):
        return 1
    p.checkpoint.need_sync = checkpoint_sync(p)
    return 1


cdef int homes_turn(lnt_pool *p, lnt_waiter *who) noexcept nogil:
    """Choose homes; when all are chosen the instant is frozen. 1: go on at once; 0: wait."""
    cdef uint32_t chosen = 0
    cdef int rc = nodes_prepare(p, who)
    if rc == 0:
        rc = choose_homes(p, who, &chosen)
    if rc == 0 and chosen > LAST_HOMES and not p.checkpoint.homes_chosen:
        p.checkpoint.homes_chosen = 1     # a turn more: what writers make meanwhile is little
        rc = MORE_HOMES
    if rc == 0:
        rc = freeze(p)
        if rc == 0:
            p.checkpoint.state = CHECKPOINT_IMAGES
            return 1
    if rc == WAIT:
        return 0
    if rc == MORE_HOMES:
        return 1
    if rc == ST_MEMORY:
        memory_short(p)
        return 0
    if rc == ST_NO_SPACE and p.medium.sparse:
        medium_later(p, NO_HOMES_US)
        return 0                      # a limit, met below: everybody waits until there is room
    pool_fail(p, PF_HOMES if rc == ST_NO_SPACE else PF_AREA if rc == ST_RANGE else PF_PAGE, rc)    # before anything is lost
    return 0


cdef int ckpt_turn(lnt_pool *p, lnt_waiter *who) noexcept nogil:
    """One step of the state table. 1: go on at once; 0: wait for I/O, a page or a reason to start."""
    if p.checkpoint.state == CHECKPOINT_IDLE:
        if not ckpt_due(p):
            return 0
        p.checkpoint.state = CHECKPOINT_HOMES
        p.checkpoint.homes_chosen = 0
    if p.checkpoint.state == CHECKPOINT_HOMES:
        return homes_turn(p, who)
    if p.checkpoint.io_failed:
        pool_fail(p, PF_CHECKPOINT, p.checkpoint.io_errno)
        return 0
    if p.checkpoint.state == CHECKPOINT_IMAGES:
        if images_turn(p):
            if p.mutations & M_NO_CKPT_SYNC:
                p.checkpoint.state = CHECKPOINT_SUPER
                p.checkpoint.directory_written = 0
                return 1
            return want_sync(p, CHECKPOINT_SYNC1)
        return p.checkpoint.n_serialised < p.checkpoint.n_pages and p.checkpoint.io_busy < 4
    if p.checkpoint.state == CHECKPOINT_SYNC1:
        if p.journal.sync_done < p.checkpoint.need_sync:
            return 0
        p.checkpoint.state = CHECKPOINT_SUPER
        p.checkpoint.directory_written = 0
    if p.checkpoint.state == CHECKPOINT_SUPER:
        if not p.checkpoint.directory_written:
            p.checkpoint.directory_written = 1
            super_next(p, p.checkpoint.super_buf)
            ck_write(p, 0, p.checkpoint.super_buf, 1, &p.checkpoint.super_io)
        if p.checkpoint.io_busy:
            return 0
        if p.checkpoint.io_failed:
            return 1
        return want_sync(p, CHECKPOINT_SYNC2)
    if p.checkpoint.state == CHECKPOINT_SYNC2:
        if p.journal.sync_done < p.checkpoint.need_sync:
            return 0
        if not homes_ready(p):
            memory_short(p)
            return 0
        published(p)
        p.checkpoint.state = CHECKPOINT_APPLY
        p.checkpoint.io_next = p.checkpoint.n_fresh
        p.checkpoint.directory_written = 0
    if p.checkpoint.state == CHECKPOINT_APPLY:
        if apply_turn(p):
            return want_sync(p, CHECKPOINT_SYNC3)
        return p.checkpoint.io_next < p.checkpoint.n_images and p.checkpoint.io_busy < 16
    if p.checkpoint.state == CHECKPOINT_SYNC3:
        if p.journal.sync_done < p.checkpoint.need_sync:
            return 0
        finished(p)
        p.checkpoint.state = CHECKPOINT_IDLE
        return 1
    return 0
