# The reactor's thread.
from core._session cimport lnt_inbox, lnt_reactor

cdef int loop_start(lnt_reactor *r) noexcept nogil
cdef void loop_join(lnt_reactor *r) noexcept nogil
cdef void loop_post(lnt_reactor *r, lnt_inbox *m) noexcept nogil
cdef int loop_load(const char *library) noexcept nogil
