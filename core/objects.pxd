# The table of objects in memory: by id, and which of them the next checkpoint must write.
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef int objects_init(lnt_pool *p) noexcept nogil
cdef lnt_object *object_find(lnt_pool *p, uint64_t id) noexcept nogil
cdef void object_link(lnt_pool *p, lnt_object *o) noexcept nogil
cdef void object_unlink(lnt_pool *p, lnt_object *o) noexcept nogil
cdef void object_dirty(lnt_pool *p, lnt_object *o) noexcept nogil
cdef void object_release(lnt_pool *p, lnt_object *o) noexcept nogil
cdef lnt_object *dirty_take(lnt_pool *p) noexcept nogil
cdef int dirty_room(lnt_pool *p, uint32_t slots) noexcept nogil
