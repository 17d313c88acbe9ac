# The map: a copy-on-write radix table from a LUN's blocks to the pool's (design: docs/architecture.md, "The map").
from core._state cimport frame, lnt_pool, vobj
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    TURN_LOOKS = 1024     # of map_unmap in one turn, ...
    LEAF_LOOKS = 16       # ... of which one that takes something away counts for so many
    NODES_KEPT = 8        # free blocks that no new node takes

cdef struct extent:
    uint64_t pba          # 0: hole
    uint64_t n            # blocks
    uint64_t entry        # the map's entry for the first block
    uint8_t exclusive     # may be overwritten in place

cdef int map_level(uint64_t blocks) noexcept nogil
cdef int map_find(lnt_pool *p, vobj *o, uint64_t lba, uint64_t most, int for_write, extent *out) noexcept nogil
cdef frame *node_get(lnt_pool *p, uint64_t id, uint8_t level, int *rc) noexcept nogil
cdef frame *node_new(lnt_pool *p, uint8_t kind, uint8_t level, int *rc) noexcept nogil
cdef int path_own(lnt_pool *p, vobj *o, uint64_t lba, int level, frame **node, frame **parent) noexcept nogil
cdef int map_insert(lnt_pool *p, vobj *o, uint64_t lba, uint64_t pba, uint32_t n, uint64_t hint) noexcept nogil
cdef int map_unmap(lnt_pool *p, vobj *o, uint64_t lba, uint64_t end, uint64_t *next, uint32_t *removed) noexcept nogil
cdef int map_goal(lnt_pool *p, vobj *o, uint64_t lba, uint64_t *goal) noexcept nogil
cdef int map_share(lnt_pool *p, vobj *dst, uint64_t lba, vobj *src, uint64_t src_lba, uint64_t most,
                   uint64_t *done) noexcept nogil
cdef int map_raise(lnt_pool *p, vobj *o, int level) noexcept nogil
cdef void object_dirty(lnt_pool *p, vobj *o) noexcept nogil
