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
cdef void frame_undirty(lnt_pool *p, lnt_frame *f) noexcept nogil
