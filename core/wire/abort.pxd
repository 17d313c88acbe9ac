# Task management on the data plane.
from core.wire.nexus cimport lnt_abort, lnt_reactor

cdef void abort_start(lnt_reactor *r, lnt_abort *a) noexcept nogil
cdef void aborts_check(lnt_reactor *r) noexcept nogil
