# The checkpoint: the metadata of one instant made durable, then moved home.
from core._state cimport frame, lnt_pool, vobj
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef frame *slot_page(lnt_pool *p, uint32_t slot, int *rc) noexcept nogil
cdef void object_store(lnt_pool *p, vobj *o, uint8_t *slot) noexcept nogil
cdef int slot_write(lnt_pool *p, uint32_t slot, const uint8_t *bytes) noexcept nogil
cdef int ckpt_turn(lnt_pool *p) noexcept nogil
cdef int ckpt_due(lnt_pool *p) noexcept nogil
cdef void limits_set(lnt_pool *p) noexcept nogil
