# cython: language_level=3
"""Metadata pages in memory: found by home, read on first touch, verified, evicted clean (docs/on-disk-format.md, page header)."""
from core._damage cimport damage_met, damage_over, damage_recent
from core._medium cimport no_room
from core._state cimport (
    F_BAD, F_READING, F_VALID, L_BLOCK_BYTES, L_COUNT_START, L_NODE_ENTRIES, L_PAGE_HEADER_BYTES, L_PAGE_MAGIC, L_RUN_BLOCKS,
    L_ZONE_BLOCKS, PG_CRC, PG_GEN, PG_HOME, PG_KIND, PG_LEVEL, PG_MAGIC, PG_N, PG_TAG, PK_COUNT, PK_CSUM, PK_NODE, VID, WAIT,
    frame, lnt_alloc_aligned, lnt_count_pack, lnt_count_unpack, lnt_get32, lnt_get64, lnt_node_pack, lnt_node_unpack, lnt_pool,
    lnt_put16, lnt_put32, lnt_put64, opx, run_is_fixed)
from core._types cimport IO_READ, OP_ADMIN, ST_CHECKSUM, ST_IO_READ, ST_IO_WRITE, ST_LIMIT, ST_NO_SPACE, lnt_dev, lnt_io, lnt_op
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cdef extern from "crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)

cdef enum:
    SLAB_FRAMES = 256
    SLAB_HEAD = 9 * 4096          # of a slab: a pointer to the next, the frames; their pages follow
    TRIM_LOOKS = 256              # frames looked at in one turn at least, and for each frame too many
    TRIM_EACH = 8

cdef struct page_read:
    lnt_io io
    lnt_pool *pool
    frame *f
    page_read *next
    uint8_t *raw


# -- ops between lists -------------------------------------------------------------------------------------------------

cdef void op_ready(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Queue an op to run again on its own device's thread; an admin op wherever background work is done by now."""
    cdef lnt_dev *dev
    if op.kind == OP_ADMIN:
        op.dev = p.home
    dev = op.dev
    op.next = NULL
    if dev.ready_tail != NULL:
        dev.ready_tail.next = op
    else:
        dev.ready_head = op
    dev.ready_tail = op
    if dev != p.cur:
        dev.wake(dev)


cdef int op_again(lnt_pool *p, lnt_op *op) noexcept nogil:
    """Let others go first and other threads have the lock: the op runs again in the next turn. WAIT, for its caller to return."""
    p.cur_op = NULL
    op.next = p.cur.later
    p.cur.later = op
    return WAIT


cdef void ops_ready(lnt_pool *p, lnt_op **head) noexcept nogil:
    cdef lnt_op *op = head[0]
    cdef lnt_op *nxt
    head[0] = NULL
    while op != NULL:
        nxt = op.next
        op_ready(p, op)
        op = nxt


cdef void op_finish(lnt_pool *p, lnt_op *op, uint8_t status) noexcept nogil:
    """Hand an op to lnt_dev_reap of its device, or a part to the op it belongs to."""
    cdef lnt_dev *dev
    if op.kind == OP_ADMIN:
        op.dev = p.home
    dev = op.dev
    op.status = status
    if (<opx *>op.priv).internal:
        op_ready(p, <lnt_op *>op.owner)   # part of another op, which goes on
        return
    op.next = NULL
    if dev.done_tail != NULL:
        dev.done_tail.next = op
    else:
        dev.done_head = op
    dev.done_tail = op
    if dev != p.cur:
        dev.wake(dev)


cdef lnt_io *io_new(lnt_pool *p) noexcept nogil:
    cdef lnt_io *io = <lnt_io *>p.io_spare
    if io != NULL:
        p.io_spare = io.next
        memset(io, 0, sizeof(lnt_io))
        return io
    return <lnt_io *>calloc(1, sizeof(lnt_io))


cdef void io_free(lnt_pool *p, lnt_io *io) noexcept nogil:
    io.next = <lnt_io *>p.io_spare
    p.io_spare = io


cdef uint8_t io_status(const lnt_io *io) noexcept nogil:
    """What a failed request of data means: a medium without room is a full pool, and the initiator may wait for room."""
    if io.kind == IO_READ:
        return ST_IO_READ
    return ST_NO_SPACE if no_room(io.result) else ST_IO_WRITE


# -- pages -------------------------------------------------------------------------------------------------------------

cdef void page_seal(lnt_pool *p, uint8_t *page, uint8_t kind, uint8_t level, uint32_t n, uint64_t home,
                    uint64_t gen) noexcept nogil:
    """Write the header of a page whose payload is in place."""
    memset(page, 0, L_PAGE_HEADER_BYTES)
    lnt_put32(page + PG_MAGIC, L_PAGE_MAGIC)
    page[PG_KIND] = kind
    page[PG_LEVEL] = level
    lnt_put16(page + PG_N, n)
    lnt_put32(page + PG_TAG, p.tag)
    lnt_put64(page + PG_HOME, home)
    lnt_put64(page + PG_GEN, gen)
    lnt_put32(page + PG_CRC, lnt_crc32c(0, page + 8, L_BLOCK_BYTES - 8))


cdef int page_check(lnt_pool *p, const uint8_t *page, uint8_t kind, uint64_t home) noexcept nogil:
    """1 when the page is what belongs at `home`."""
    if lnt_get32(page + PG_MAGIC) != L_PAGE_MAGIC or page[PG_KIND] != kind or lnt_get64(page + PG_HOME) != home:
        return 0
    if lnt_get32(page + PG_TAG) != p.tag or (lnt_get64(page + PG_GEN) > p.ck.gen and not p.mutations & M_NO_GEN):
        return 0                  # another pool's, or of a checkpoint that the superblock does not know
    if p.mutations & M_NO_NODE_CRC:
        return 1
    return lnt_get32(page + PG_CRC) == lnt_crc32c(0, page + 8, L_BLOCK_BYTES - 8)


cdef int counts_fit(lnt_pool *p, frame *f) noexcept nogil:
    """1 when as many blocks are in use as the summary says: else this page or that is not the newest that was written."""
    cdef const uint32_t *c = <const uint32_t *>f.data
    cdef uint64_t run = (f.id // L_ZONE_BLOCKS * 1024 + f.id % L_ZONE_BLOCKS - L_COUNT_START) * 2
    cdef uint32_t i, k, used
    for k in range(2):
        used = 0
        for i in range(k * L_RUN_BLOCKS, (k + 1) * L_RUN_BLOCKS):
            used += c[i] != 0
        if run + k < p.n_runs and p.run_used[run + k] != used and (used or not run_is_fixed(p, run + k)):
            return 0
    return 1


cdef int page_decode(lnt_pool *p, frame *f, const uint8_t *raw) noexcept nogil:
    if not page_check(p, raw, f.kind, f.id) or raw[PG_LEVEL] != f.level:
        if f.kind != PK_CSUM:
            return 0
        memset(f.data, 0, L_BLOCK_BYTES)   # never written, or damaged: either way its blocks will not verify
        return 1
    if f.kind == PK_NODE:
        lnt_node_unpack(<uint64_t *>f.data, raw + L_PAGE_HEADER_BYTES, L_NODE_ENTRIES)
    elif f.kind == PK_COUNT:
        lnt_count_unpack(<uint32_t *>f.data, raw + L_PAGE_HEADER_BYTES, 1024)
        return p.mutations & M_NO_SPACE_SUM or counts_fit(p, f)
    else:
        memset(f.data, 0, L_BLOCK_BYTES)
        memcpy(f.data, raw + L_PAGE_HEADER_BYTES, L_BLOCK_BYTES - L_PAGE_HEADER_BYTES)
    return 1


cdef void frame_serialise(lnt_pool *p, frame *f) noexcept nogil:
    """Put the page's image into its slot of the running checkpoint."""
    cdef uint8_t *out = p.ck.buf + <uint64_t>f.slot * L_BLOCK_BYTES
    f.ckpt = 0
    memset(out + L_PAGE_HEADER_BYTES, 0, L_BLOCK_BYTES - L_PAGE_HEADER_BYTES)
    if f.kind == PK_NODE:
        lnt_node_pack(out + L_PAGE_HEADER_BYTES, <uint64_t *>f.data, L_NODE_ENTRIES)   # seven bytes each: no hints
    elif f.kind == PK_COUNT:
        lnt_count_pack(out + L_PAGE_HEADER_BYTES, <uint32_t *>f.data, 1024)
    else:
        memcpy(out + L_PAGE_HEADER_BYTES, f.data, L_BLOCK_BYTES - L_PAGE_HEADER_BYTES)
    page_seal(p, out, f.kind, f.level, 0, f.id, p.ck.gen + 1)


# -- frames ------------------------------------------------------------------------------------------------------------

cdef int cache_init(lnt_pool *p, uint64_t limit_frames) except -1 nogil:
    cdef uint64_t n = 1024
    while n < 2 * limit_frames:
        n *= 2
    p.cache.hash = <frame **>calloc(n, sizeof(frame *))
    if p.cache.hash == NULL:
        with gil:
            raise MemoryError
    p.cache.mask = n - 1
    p.cache.limit = limit_frames
    return 0


cdef void cache_free(lnt_pool *p) noexcept nogil:
    cdef void *slab
    cdef page_read *r
    p.cache.clock = p.cache.spare = NULL
    while p.cache.slabs != NULL:
        slab = p.cache.slabs
        p.cache.slabs = (<void **>slab)[0]
        free(slab)
    while p.cache.reads != NULL:
        r = <page_read *>p.cache.reads
        p.cache.reads = r.next
        free(r.raw)
        free(r)
    free(p.cache.hash)
    p.cache.hash = NULL


cdef inline uint64_t hash_of(lnt_pool *p, uint64_t id) noexcept nogil:
    return ((id * <uint64_t>0x9E3779B97F4A7C15) >> 20) & p.cache.mask


cdef frame *cache_find(lnt_pool *p, uint64_t id) noexcept nogil:
    cdef frame *f = p.cache.hash[hash_of(p, id)]
    while f != NULL and f.id != id:
        f = f.hnext
    return f


cdef void unhash(lnt_pool *p, frame *f) noexcept nogil:
    cdef frame **at = &p.cache.hash[hash_of(p, f.id)]
    while at[0] != f:
        at = &at[0].hnext
    at[0] = f.hnext


cdef void cache_drop(lnt_pool *p, frame *f) noexcept nogil:
    """Forget a frame that nobody waits for."""
    if f.ckpt:
        frame_serialise(p, f)
    if f.writing:
        p.ck.frames[f.slot] = NULL
    frame_undirty(p, f)
    unhash(p, f)
    p.cache.pinned -= f.pinned
    if f.next == f:
        p.cache.clock = NULL
    else:
        f.prev.next = f.next
        f.next.prev = f.prev
        if p.cache.clock == f:
            p.cache.clock = f.next
    p.cache.count -= 1
    f.next = p.cache.spare
    p.cache.spare = f


cdef void cache_rekey(lnt_pool *p, frame *f, uint64_t id) noexcept nogil:
    cdef uint64_t h
    unhash(p, f)
    f.id = id
    h = hash_of(p, id)
    f.hnext = p.cache.hash[h]
    p.cache.hash[h] = f


cdef void cache_trim(lnt_pool *p) noexcept nogil:
    """Evict clean, unused frames while there are more than wanted. Runs between ops only: ops hold bare pointers.

    Where most are dirty it gives up early: the next turn goes on, and the checkpoint makes them clean.
    """
    cdef uint64_t tries = 0
    cdef uint64_t limit = p.cache.limit + p.cache.pinned
    cdef frame *f
    cdef uint64_t most
    if p.cache.count <= limit:
        return
    most = TRIM_LOOKS + TRIM_EACH * (p.cache.count - limit)
    while p.cache.count > limit and tries < most:
        f = p.cache.clock
        p.cache.clock = f.next
        tries += 1
        if f.used:
            f.used = 0
        elif not f.dirty and not f.writing and not f.ckpt and not f.pinned and f.state != F_READING and not f.id & VID():
            cache_drop(p, f)
            p.cache.evictions += 1


cdef void cache_pin(lnt_pool *p, frame *f) noexcept nogil:
    """A page of the catalog, which every checkpoint may need: it stays, so that it need not be readable a second time."""
    p.cache.pinned += f.pinned == 0
    f.pinned = 1


cdef int slab_new(lnt_pool *p) noexcept nogil:
    """Memory for more frames. 0: there is none."""
    cdef uint8_t *slab = <uint8_t *>lnt_alloc_aligned(SLAB_HEAD + SLAB_FRAMES * L_BLOCK_BYTES)
    cdef frame *f
    cdef int i
    if slab == NULL:
        return 0
    (<void **>slab)[0] = p.cache.slabs
    p.cache.slabs = slab
    for i in range(SLAB_FRAMES - 1, -1, -1):
        f = <frame *>(slab + 128 + i * sizeof(frame))
        f.data = slab + SLAB_HEAD + i * L_BLOCK_BYTES
        f.next = p.cache.spare
        p.cache.spare = f
    return 1


cdef frame *cache_new(lnt_pool *p, uint64_t id, uint8_t kind, uint8_t level) noexcept nogil:
    """A valid, clean, zeroed frame. NULL: out of memory."""
    cdef frame *f = frame_take(p, id, kind, level)
    if f != NULL:
        memset(f.data, 0, L_BLOCK_BYTES)
    return f


cdef frame *frame_take(lnt_pool *p, uint64_t id, uint8_t kind, uint8_t level) noexcept nogil:
    """A frame whose page holds anything."""
    cdef frame *f
    cdef uint8_t *data
    cdef uint64_t h
    if p.cache.spare == NULL and not slab_new(p):
        return NULL
    f = p.cache.spare
    p.cache.spare = f.next
    data = f.data
    memset(f, 0, sizeof(frame))
    f.data = data
    f.id = id
    f.kind = kind
    f.level = level
    f.state = F_VALID
    f.used = 1
    h = hash_of(p, id)
    f.hnext = p.cache.hash[h]
    p.cache.hash[h] = f
    if p.cache.clock == NULL:
        f.next = f.prev = f
        p.cache.clock = f
    else:
        f.next = p.cache.clock
        f.prev = p.cache.clock.prev
        f.prev.next = f
        f.next.prev = f
    p.cache.count += 1
    return f


cdef void page_arrived(lnt_io *io) noexcept nogil:
    cdef page_read *r = <page_read *>io
    cdef lnt_pool *p = r.pool
    cdef frame *f = r.f
    if io.result == 0 and page_decode(p, f, r.raw):
        f.state = F_VALID
        if p.damage.v != NULL:
            damage_over(p, f.id, f.kind)      # of more than are remembered, too
    else:
        f.state = F_BAD
        f.error = ST_IO_READ if io.result else ST_CHECKSUM
        damage_met(p, f, f.waiters if f.waiters != NULL else p.cur_op)
    r.next = <page_read *>p.cache.reads
    p.cache.reads = r
    ops_ready(p, &f.waiters)


cdef page_read *read_new(lnt_pool *p, frame *f) noexcept nogil:
    cdef page_read *r = <page_read *>p.cache.reads
    if r != NULL:
        p.cache.reads = r.next
    else:
        r = <page_read *>calloc(1, sizeof(page_read))
        r.raw = <uint8_t *>lnt_alloc_aligned(L_BLOCK_BYTES)
        r.pool = p
    r.f = f
    r.io.kind = IO_READ
    r.io.offset = f.id * L_BLOCK_BYTES
    r.io.length = L_BLOCK_BYTES
    r.io.buf = r.raw
    r.io.done = page_arrived
    return r


cdef frame *cache_get(lnt_pool *p, uint64_t id, uint8_t kind, uint8_t level, int *rc) noexcept nogil:
    """The page at `id`, or NULL and rc: WAIT (p.cur_op will run again), or a status when it cannot be read."""
    cdef frame *f = cache_find(p, id)
    cdef page_read *r
    if f != NULL and f.state == F_VALID:
        f.used = 1
        p.cache.hits += 1
        if f.kind != kind or f.level != level:
            rc[0] = ST_CHECKSUM
            return NULL
        return f
    if f != NULL and f.state == F_BAD:
        rc[0] = f.error
        if f.waiters == NULL:
            cache_drop(p, f)      # the next touch reads it again
        return NULL
    if f == NULL:
        if id & VID() or id >= p.total_blocks:
            rc[0] = ST_CHECKSUM   # a reference to nowhere is damage
            return NULL
        if p.damage.n:
            rc[0] = damage_recent(p, id)
            if rc[0]:
                return NULL
        p.cache.misses += 1
        f = frame_take(p, id, kind, level)
        if f == NULL:
            rc[0] = ST_LIMIT
            return NULL
        f.state = F_READING
        r = read_new(p, f)
        if p.cur.submit(p.cur, &r.io):
            page_arrived(&r.io)
            if f.state == F_VALID:
                return f
            rc[0] = f.error
            cache_drop(p, f)
            return NULL
    if p.cur_op != NULL:
        p.cur_op.next = f.waiters
        f.waiters = p.cur_op
        p.cur_op = NULL           # queued once, on the first page it misses
    rc[0] = WAIT
    return NULL


cdef void frame_dirty(lnt_pool *p, frame *f) noexcept nogil:
    """Must be called before the first change of a page, each time."""
    if f.ckpt:
        frame_serialise(p, f)
    f.used = 1
    if f.dirty:
        return
    f.dirty = 1
    f.dprev = NULL
    f.dnext = p.cache.dirty
    if f.dnext != NULL:
        f.dnext.dprev = f
    p.cache.dirty = f
    p.cache.n_dirty += 1


cdef void frame_undirty(lnt_pool *p, frame *f) noexcept nogil:
    if not f.dirty:
        return
    f.dirty = 0
    if f.dprev != NULL:
        f.dprev.dnext = f.dnext
    else:
        p.cache.dirty = f.dnext
    if f.dnext != NULL:
        f.dnext.dprev = f.dprev
    p.cache.n_dirty -= 1
