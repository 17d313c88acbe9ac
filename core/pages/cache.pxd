# Metadata pages in memory: found by home, read on first touch, verified, evicted clean (docs/on-disk-format.md, page header).
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_frame
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef int cache_init(lnt_pool *p, uint64_t limit_frames) except -1 nogil
cdef void cache_free(lnt_pool *p) noexcept nogil
cdef lnt_frame *cache_find(lnt_pool *p, uint64_t id) noexcept nogil
cdef void cache_drop(lnt_pool *p, lnt_frame *f) noexcept nogil
cdef void cache_rekey(lnt_pool *p, lnt_frame *f, uint64_t id) noexcept nogil
cdef void cache_trim(lnt_pool *p) noexcept nogil
cdef void cache_pin(lnt_pool *p, lnt_frame *f) noexcept nogil
cdef int cache_ready(lnt_pool *p, uint32_t n) noexcept nogil
cdef lnt_frame *cache_new(lnt_pool *p, uint64_t id, uint8_t kind, uint8_t level) noexcept nogil
cdef lnt_frame *cache_get(lnt_pool *p, lnt_waiter *who, uint64_t id, uint8_t kind, uint8_t level, int *rc) noexcept nogil
cdef void frame_dirty(lnt_pool *p, lnt_frame *f) noexcept nogil
cdef int cache_freeze_room(lnt_pool *p, uint32_t n) noexcept nogil
cdef void cache_freeze(lnt_pool *p, lnt_frame *f, uint32_t slot) noexcept nogil
cdef void cache_thaw(lnt_pool *p, uint32_t n) noexcept nogil
cdef void frame_undirty(lnt_pool *p, lnt_frame *f) noexcept nogil

cdef inline void node_homeless(lnt_pool *p) noexcept nogil:
    """A node was made: it will need a block."""
    p.unhomed += 1

cdef inline void node_housed(lnt_pool *p) noexcept nogil:
    """A node has a home now, or needs none any more."""
    p.unhomed -= 1

cdef inline void cache_limits(lnt_pool *p, uint64_t dirty_stop, uint64_t dirty_slack) noexcept nogil:
    """Writers that have begun wait for a checkpoint above `dirty_stop` dirty pages, others that much below it."""
    p.cache.dirty_stop = dirty_stop
    p.cache.dirty_limit = dirty_stop - dirty_slack
    if p.cache.dirty_limit > p.cache.limit // 2:
        p.cache.dirty_stop -= p.cache.dirty_limit - p.cache.limit // 2
        p.cache.dirty_limit = p.cache.limit // 2
