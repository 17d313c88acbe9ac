# Metadata pages in memory: found by home, read on first touch, verified, evicted clean (docs/on-disk-format.md, page header).
from core.base.entries cimport VID
from core.base.hash cimport hash_spread
from core.base.native cimport lnt_soon
from core.base.operation cimport lnt_waiter
from core.base.page cimport PAGE_VALID, lnt_page
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef int cache_init(lnt_pool *p, uint64_t limit_pages) except -1 nogil
cdef void cache_free(lnt_pool *p) noexcept nogil
cdef void cache_drop(lnt_pool *p, lnt_page *f) noexcept nogil
cdef void cache_rekey(lnt_pool *p, lnt_page *f, uint64_t id) noexcept nogil
cdef void cache_trim(lnt_pool *p) noexcept nogil
cdef void cache_pin(lnt_pool *p, lnt_page *f) noexcept nogil
cdef int cache_ready(lnt_pool *p, uint32_t n) noexcept nogil
cdef lnt_page *cache_new(lnt_pool *p, uint64_t id, uint8_t kind, uint8_t level) noexcept nogil
cdef lnt_page *cache_fetch(lnt_pool *p, lnt_waiter *who, lnt_page *f, uint64_t id, uint8_t kind, uint8_t level,
                           int *rc) noexcept nogil
cdef void page_dirtied(lnt_pool *p, lnt_page *f) noexcept nogil
cdef int cache_freeze_room(lnt_pool *p, uint32_t n) noexcept nogil
cdef void cache_freeze(lnt_pool *p, lnt_page *f, uint32_t slot) noexcept nogil
cdef void cache_thaw(lnt_pool *p, uint32_t n) noexcept nogil
cdef void page_undirty(lnt_pool *p, lnt_page *f) noexcept nogil
cdef void page_housed(lnt_pool *p, lnt_page *f, uint64_t home) noexcept nogil
cdef void page_moved(lnt_pool *p, lnt_page *f, uint64_t home) noexcept nogil
cdef void cache_frozen(lnt_pool *p) noexcept nogil

cdef inline uint64_t page_hash(lnt_pool *p, uint64_t id) noexcept nogil:
    """Numbers in a row lie in a row: pages of one volume share pages of the table, and lines of the processor's cache."""
    return (id & 511 ^ hash_spread(id >> 9) >> 20) & p.cache.mask

cdef inline lnt_page *cache_find(lnt_pool *p, uint64_t id) noexcept nogil:
    cdef lnt_page *f = p.cache.hash[page_hash(p, id)]
    while f != NULL and f.id != id:
        f = f.hash_next
    return f

cdef inline lnt_page *cache_get(lnt_pool *p, lnt_waiter *who, uint64_t id, uint8_t kind, uint8_t level,
                                int *rc) noexcept nogil:
    """The page at `id`, or NULL and rc: WAIT (it runs again), or a status when it cannot be read."""
    cdef lnt_page *f = cache_find(p, id)
    if f != NULL and f.state == PAGE_VALID and f.kind == kind and f.level == level:
        f.used = 1
        p.cache.hits += 1
        return f
    return cache_fetch(p, who, f, id, kind, level, rc)

cdef inline void page_dirty(lnt_pool *p, lnt_page *f) noexcept nogil:
    """Must be called before the first change of a page, each time."""
    f.used = 1
    if f.in_checkpoint or not f.dirty:
        page_dirtied(p, f)

cdef inline uint64_t node_home(lnt_pool *p, uint64_t id) noexcept nogil:
    """A node by its home, which is chosen."""
    return cache_find(p, id).home if id & VID() else id

cdef inline void node_ahead(lnt_pool *p, uint64_t id) noexcept nogil:
    """It is looked up soon."""
    lnt_soon(p.cache.hash[page_hash(p, id)])

cdef inline void node_homeless(lnt_pool *p) noexcept nogil:
    """A node was made: it will need a block."""
    p.nodes_without_home += 1

cdef inline void node_housed(lnt_pool *p) noexcept nogil:
    """A node has a home now, or needs none any more."""
    p.nodes_without_home -= 1

cdef inline void cache_limits(lnt_pool *p, uint64_t dirty_stop, uint64_t dirty_slack) noexcept nogil:
    """Writers that have begun wait for a checkpoint above `dirty_stop` dirty pages, others that much below it."""
    p.cache.dirty_stop = dirty_stop
    p.cache.dirty_limit = dirty_stop - dirty_slack
    if p.cache.dirty_limit > p.cache.limit // 2:
        p.cache.dirty_stop -= p.cache.dirty_limit - p.cache.limit // 2
        p.cache.dirty_limit = p.cache.limit // 2
