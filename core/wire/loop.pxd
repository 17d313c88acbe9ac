# The reactor's thread.
from core.wire.nexus cimport lnt_reactor

cdef int loop_load(const char *library) noexcept nogil
cdef int loop_start(lnt_reactor *r) noexcept nogil
cdef void loop_join(lnt_reactor *r) noexcept nogil
