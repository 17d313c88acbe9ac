# Slots of the catalog: where they are, who has them, and an object's bytes in one (docs/on-disk-format.md).
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    NO_SLOT = 0x7fffffff

cdef lnt_page *slot_page(lnt_pool *p, lnt_waiter *who, uint32_t slot, int *rc) noexcept nogil
cdef int slot_write(lnt_pool *p, lnt_waiter *who, uint32_t slot, const uint8_t *bytes) noexcept nogil
cdef void object_store(lnt_pool *p, lnt_object *o, uint8_t *slot) noexcept nogil
cdef uint32_t slot_alloc(lnt_pool *p, uint8_t kind) noexcept nogil
cdef void slot_free(lnt_pool *p, uint32_t slot) noexcept nogil
cdef int slots_room(lnt_pool *p, uint32_t slots) noexcept nogil
cdef void slot_keep(lnt_pool *p, uint32_t slot, uint8_t kind) noexcept nogil
cdef uint64_t object_number(lnt_pool *p) noexcept nogil
cdef void object_known(lnt_pool *p, uint64_t id) noexcept nogil
