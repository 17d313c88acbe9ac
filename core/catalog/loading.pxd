# A slot becomes an object here, with its checks, and nowhere else; the catalog when a pool is opened.
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint8_t

cdef lnt_object *object_from(const uint8_t *slot) except NULL
cdef int catalog_load(lnt_pool *p, list keys) except -1
