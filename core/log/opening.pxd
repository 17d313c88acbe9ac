# The superblock that counts: chosen, read and checked when a pool is opened; changed in a pool that nobody has open.
from core.base.pool cimport lnt_pool

cdef object super_read(lnt_pool *p, object device)
cdef int super_load(lnt_pool *p, bytes raw) except -1
cdef bytes super_current(object device)
cdef int super_change(object device, dict values) except -1
