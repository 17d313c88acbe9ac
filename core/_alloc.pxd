# Space: reference counts of blocks, where new blocks come from, and when dropped ones come back.
from core._state cimport frame, lnt_pool
from core._types cimport lnt_op
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef uint32_t *count_at(lnt_pool *p, uint64_t pba, frame **f, int *rc) noexcept nogil
cdef int count_touch(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil
cdef int count_add(lnt_pool *p, uint64_t pba, uint32_t n, int32_t delta) noexcept nogil
cdef int count_is_one(lnt_pool *p, uint64_t pba, uint32_t n, int *rc) noexcept nogil
cdef int node_ref(lnt_pool *p, uint64_t id, int32_t delta) noexcept nogil
cdef int node_touch(lnt_pool *p, uint64_t id) noexcept nogil
cdef int node_room(lnt_pool *p, uint64_t id, uint32_t more) noexcept nogil
cdef int shares_room(lnt_pool *p, uint64_t pba, uint32_t n) noexcept nogil

cdef uint64_t available_blocks(lnt_pool *p) noexcept nogil
cdef uint64_t space_for_nodes(lnt_pool *p) noexcept nogil
cdef uint64_t space_beyond(lnt_pool *p, uint64_t reserve) noexcept nogil
cdef uint64_t space_for_data(lnt_pool *p) noexcept nogil
cdef int alloc_extent(lnt_pool *p, uint64_t goal, uint32_t offset, uint32_t want, bint thrifty, uint64_t *pba,
                      uint32_t *got) noexcept nogil
cdef bint marks_press(lnt_pool *p) noexcept nogil
cdef int alloc_home(lnt_pool *p, uint64_t *pba) noexcept nogil

cdef void node_gone(lnt_pool *p, frame *f) noexcept nogil
cdef void drop_data(lnt_pool *p, uint64_t pba, uint32_t n, uint8_t trim) noexcept nogil
cdef void drop_node(lnt_pool *p, uint64_t id, uint8_t level, uint8_t trim) noexcept nogil
cdef int epochs_turn(lnt_pool *p) noexcept nogil
cdef int reclaim_turn(lnt_pool *p, int budget) noexcept nogil
cdef uint64_t pending_count(lnt_pool *p) noexcept nogil
cdef void freed_mark(lnt_pool *p, uint64_t pba) noexcept nogil
cdef void homes_release(lnt_pool *p) noexcept nogil
