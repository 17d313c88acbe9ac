"""Metadata pages in memory: found by home, read on first touch, verified, evicted clean (docs/on-disk-format.md, page header)."""
from core.base.check cimport lnt_assert
from core.base.entries cimport VID, WAIT
from core.base.layout cimport L_BLOCK_BYTES
from core.base.memory cimport mem_aligned, mem_new, mem_widen, mem_zeroed
from core.base.operation cimport waiter_queue
from core.base.page cimport DIRTY_ARRAYS, DIRTY_HOME, DIRTY_HOMELESS, DIRTY_HOUSED, PAGE_BAD, PAGE_READING, PAGE_VALID, lnt_dirty
from core.base.schedule cimport ops_ready
from core.base.types cimport IO_READ, ST_CHECKSUM, ST_IO_READ, ST_MEMORY, lnt_io, lnt_op
from core.pages.damage cimport damage_met, damage_over, damage_recent
from core.pages.format cimport page_decode, page_serialise
from libc.stdlib cimport free
from libc.string cimport memset

cdef enum:
    SLAB_FRAMES = 256
    SLAB_HEAD = 9 * 4096          # of a slab: a pointer to the next, the pages; their data follow
    DIRTY_ROOM = 1024             # of the arrays of dirty pages, to begin with
    TRIM_LOOKS = 256              # pages looked at in one turn at least, and for each page too many
    TRIM_EACH = 8


cdef struct page_read:
    lnt_io io
    lnt_pool *pool
    lnt_page *f
    page_read *next
    uint8_t *raw


# -- pages -------------------------------------------------------------------------------------------------------------


cdef int cache_init(lnt_pool *p, uint64_t limit_pages) except -1 nogil:
    cdef uint64_t n = 1024
    while n < 2 * limit_pages:
        n *= 2
    p.cache.hash = <lnt_page **>mem_zeroed(n * sizeof(lnt_page *))
    if p.cache.hash == NULL:
        with gil:
            raise MemoryError
    p.cache.mask = n - 1
    p.cache.limit = limit_pages
    return 0


cdef void cache_free(lnt_pool *p) noexcept nogil:
    cdef void *slab
    cdef page_read *r
    cdef int which
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
    for which in range(DIRTY_ARRAYS):
        free(p.cache.dirty[which].items)
        p.cache.dirty[which].items = NULL
    free(p.cache.hash)
    p.cache.hash = NULL


cdef void unhash(lnt_pool *p, lnt_page *f) noexcept nogil:
    cdef lnt_page **at = &p.cache.hash[page_hash(p, f.id)]
    while at[0] != f:
        at = &at[0].hash_next
    at[0] = f.hash_next


cdef void cache_drop(lnt_pool *p, lnt_page *f) noexcept nogil:
    """Forget a page that nobody waits for."""
    lnt_assert(f.waiters == NULL, "I13: a page goes when no op needs it")
    if f.in_checkpoint:
        page_serialise(p, f)
    if f.writing:
        p.cache.frozen[f.slot] = NULL
    page_undirty(p, f)
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


cdef void cache_rekey(lnt_pool *p, lnt_page *f, uint64_t id) noexcept nogil:
    cdef uint64_t h
    unhash(p, f)
    f.id = id
    h = page_hash(p, id)
    f.hash_next = p.cache.hash[h]
    p.cache.hash[h] = f


cdef void cache_trim(lnt_pool *p) noexcept nogil:
    """Evict clean, unused pages while there are more than wanted. Runs between ops only: ops hold bare pointers.

    Where most are dirty it gives up early: the next turn goes on, and the checkpoint makes them clean.
    """
    cdef uint64_t tries = 0
    cdef uint64_t limit = p.cache.limit + p.cache.pinned
    cdef lnt_page *f
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
        elif (not f.dirty and not f.writing and not f.in_checkpoint and not f.pinned and f.state != PAGE_READING
                and not f.id & VID()):
            cache_drop(p, f)
            p.cache.evictions += 1


cdef void cache_pin(lnt_pool *p, lnt_page *f) noexcept nogil:
    """A page of the catalog, which every checkpoint may need: it stays, so that it need not be readable a second time."""
    p.cache.pinned += f.pinned == 0
    f.pinned = 1


cdef int slab_new(lnt_pool *p) noexcept nogil:
    """Memory for more pages. 0: there is none."""
    cdef uint8_t *slab
    cdef lnt_page *f
    cdef int i
    if not dirty_ready(p, p.cache.pages + SLAB_FRAMES):
        return 0
    slab = <uint8_t *>mem_aligned(SLAB_HEAD + SLAB_FRAMES * L_BLOCK_BYTES)
    if slab == NULL:
        return 0
    (<void **>slab)[0] = p.cache.slabs
    p.cache.slabs = slab
    p.cache.pages += SLAB_FRAMES
    for i in range(SLAB_FRAMES - 1, -1, -1):
        f = <lnt_page *>(slab + 128 + i * sizeof(lnt_page))
        f.data = slab + SLAB_HEAD + i * L_BLOCK_BYTES
        f.next = p.cache.spare
        p.cache.spare = f
    return 1


cdef int cache_ready(lnt_pool *p, uint32_t n) noexcept nogil:
    """1 when there is memory for so many new pages."""
    cdef lnt_page *f = p.cache.spare
    while n and f != NULL:
        f = f.next
        n -= 1
    while n:
        if not slab_new(p):
            return 0
        n -= n if n < SLAB_FRAMES else SLAB_FRAMES
    return 1


cdef lnt_page *cache_new(lnt_pool *p, uint64_t id, uint8_t kind, uint8_t level) noexcept nogil:
    """A valid, clean, zeroed page. NULL: out of memory."""
    cdef lnt_page *f = page_spare(p, id, kind, level)
    if f != NULL:
        memset(f.data, 0, L_BLOCK_BYTES)
    return f


cdef lnt_page *page_spare(lnt_pool *p, uint64_t id, uint8_t kind, uint8_t level) noexcept nogil:
    """A page whose data is anything."""
    cdef lnt_page *f
    cdef uint8_t *data
    cdef uint64_t h
    if p.cache.spare == NULL and not slab_new(p):
        return NULL
    f = p.cache.spare
    p.cache.spare = f.next
    data = f.data
    memset(f, 0, sizeof(lnt_page))
    f.data = data
    f.id = id
    f.kind = kind
    f.level = level
    f.state = PAGE_VALID
    f.used = 1
    h = page_hash(p, id)
    f.hash_next = p.cache.hash[h]
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
    page_take(r, r.f.waiters)


cdef void page_take(page_read *r, lnt_op *reader) noexcept nogil:
    """`reader`: an op that needs the page, or NULL."""
    cdef lnt_io *io = &r.io
    cdef lnt_pool *p = r.pool
    cdef lnt_page *f = r.f
    if io.result == 0 and page_decode(p, f, r.raw):
        f.state = PAGE_VALID
        if p.damage.pages != NULL:
            damage_over(p, f.id, f.kind)      # of more than are remembered, too
    else:
        f.state = PAGE_BAD
        f.error = ST_IO_READ if io.result else ST_CHECKSUM
        damage_met(p, f, reader)
    read_free(p, r)
    ops_ready(p, &f.waiters)


cdef void read_free(lnt_pool *p, page_read *r) noexcept nogil:
    r.next = <page_read *>p.cache.reads
    p.cache.reads = r


cdef page_read *read_new(lnt_pool *p) noexcept nogil:
    """NULL: out of memory."""
    cdef page_read *r = <page_read *>p.cache.reads
    if r != NULL:
        p.cache.reads = r.next
    else:
        r = <page_read *>mem_zeroed(sizeof(page_read))
        if r == NULL:
            return NULL
        r.raw = <uint8_t *>mem_aligned(L_BLOCK_BYTES)
        if r.raw == NULL:
            free(r)
            return NULL
        r.pool = p
    return r


cdef void read_aim(page_read *r, lnt_page *f) noexcept nogil:
    r.f = f
    r.io.kind = IO_READ
    r.io.offset = f.id * L_BLOCK_BYTES
    r.io.length = L_BLOCK_BYTES
    r.io.buf = r.raw
    r.io.done = page_arrived


cdef lnt_page *cache_fetch(lnt_pool *p, lnt_waiter *who, lnt_page *f, uint64_t id, uint8_t kind, uint8_t level,
                           int *rc) noexcept nogil:
    """`cache_get` where the page is not in memory, or is not what it should be (`f`)."""
    cdef page_read *r
    if f != NULL and f.state == PAGE_VALID:
        rc[0] = ST_CHECKSUM
        return NULL
    if f != NULL and f.state == PAGE_BAD:
        rc[0] = f.error
        if f.waiters == NULL:
            cache_drop(p, f)      # the next touch reads it again
        return NULL
    if f == NULL:
        if id & VID() or id >= p.total_blocks:
            rc[0] = ST_CHECKSUM   # a reference to nowhere is damage
            return NULL
        if p.damage.count:
            rc[0] = damage_recent(p, id)
            if rc[0]:
                return NULL
        p.cache.misses += 1
        r = read_new(p)
        f = page_spare(p, id, kind, level) if r != NULL else NULL
        if f == NULL:
            if r != NULL:
                read_free(p, r)
            rc[0] = ST_MEMORY
            return NULL
        f.state = PAGE_READING
        read_aim(r, f)
        if p.current_device.submit(p.current_device, &r.io):
            page_take(r, who.op if who != NULL else NULL)
            if f.state == PAGE_VALID:
                return f
            rc[0] = f.error
            cache_drop(p, f)
            return NULL
    waiter_queue(who, &f.waiters)
    rc[0] = WAIT
    return NULL


# -- pages of the running checkpoint -----------------------------------------------------------------------------------------


cdef int cache_freeze_room(lnt_pool *p, uint32_t n) noexcept nogil:
    """1 when there is memory for so many frozen pages."""
    p.cache.frozen = <lnt_page **>mem_new((n + 1) * sizeof(lnt_page *))
    return p.cache.frozen != NULL


cdef void cache_freeze(lnt_pool *p, lnt_page *f, uint32_t slot) noexcept nogil:
    """The running checkpoint holds the page as it is now: it is serialised before its next change."""
    p.cache.frozen[slot] = f
    f.dirty = 0
    f.home = 0
    f.slot = slot
    f.in_checkpoint = 1
    f.writing = 1


cdef void cache_frozen(lnt_pool *p) noexcept nogil:
    """It holds all that was dirty."""
    cdef int which
    for which in range(DIRTY_ARRAYS):
        p.cache.dirty[which].count = 0
    p.cache.n_dirty = 0


cdef void cache_thaw(lnt_pool *p, uint32_t n) noexcept nogil:
    """The checkpoint is over, with the first n of its pages at home; or it could not begin."""
    cdef uint32_t i
    for i in range(n):
        if p.cache.frozen[i] != NULL:
            p.cache.frozen[i].writing = 0
    free(p.cache.frozen)
    p.cache.frozen = NULL


cdef int dirty_ready(lnt_pool *p, uint64_t pages) noexcept nogil:
    """1 when each array has a place for so many: to make a page dirty needs no memory then."""
    cdef uint64_t room = 2 * p.cache.dirty_room if p.cache.dirty_room else DIRTY_ROOM
    cdef int which
    if pages <= p.cache.dirty_room:
        return 1
    for which in range(1, DIRTY_ARRAYS):
        if not mem_widen(<void **>&p.cache.dirty[which].items, room * sizeof(lnt_dirty)):
            return 0                  # those that are wider by now are no harm
    p.cache.dirty_room = room
    return 1


cdef void dirty_put(lnt_pool *p, lnt_page *f, uint8_t which) noexcept nogil:
    cdef lnt_dirty *it = &p.cache.dirty[which].items[p.cache.dirty[which].count]
    it.id = f.home if which == DIRTY_HOUSED else f.id
    it.f = f
    f.dirty = which
    f.dirty_at = <uint32_t>p.cache.dirty[which].count
    p.cache.dirty[which].count += 1


cdef void dirty_take_out(lnt_pool *p, lnt_page *f) noexcept nogil:
    """The last one has its place."""
    cdef lnt_dirty *last
    p.cache.dirty[f.dirty].count -= 1
    last = &p.cache.dirty[f.dirty].items[p.cache.dirty[f.dirty].count]
    last.f.dirty_at = f.dirty_at
    p.cache.dirty[f.dirty].items[f.dirty_at] = last[0]


cdef void page_dirtied(lnt_pool *p, lnt_page *f) noexcept nogil:
    """`page_dirty` of a page that is clean, or belongs to the running checkpoint."""
    if f.in_checkpoint:
        page_serialise(p, f)
    if f.dirty:
        return
    dirty_put(p, f, DIRTY_HOME if not f.id & VID() else DIRTY_HOUSED if f.home else DIRTY_HOMELESS)
    p.cache.n_dirty += 1


cdef void page_undirty(lnt_pool *p, lnt_page *f) noexcept nogil:
    if not f.dirty:
        return
    dirty_take_out(p, f)
    f.dirty = 0
    p.cache.n_dirty -= 1


cdef void page_moved(lnt_pool *p, lnt_page *f, uint64_t home) noexcept nogil:
    """A node that is clean, or as the running checkpoint has it, is at home in another block, where none was, and will change."""
    if f.in_checkpoint:
        page_serialise(p, f)
    cache_rekey(p, f, home)
    f.home = home
    dirty_put(p, f, DIRTY_HOUSED)
    p.cache.n_dirty += 1


cdef void page_housed(lnt_pool *p, lnt_page *f, uint64_t home) noexcept nogil:
    """A home was chosen for a new node."""
    dirty_take_out(p, f)
    f.home = home
    dirty_put(p, f, DIRTY_HOUSED)
    node_housed(p)
