# The changes of objects themselves, as operations make them and replay repeats them.
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint64_t

cdef int derive_apply(lnt_pool *p, lnt_object *src, lnt_object *new) noexcept nogil
cdef int delete_apply(lnt_pool *p, lnt_object *o) noexcept nogil
cdef int revert_apply(lnt_pool *p, lnt_object *vol, lnt_object *snap) noexcept nogil
