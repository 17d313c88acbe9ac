# What Python asks of the reactor's thread, and what it does to connections and sessions between turns.
from core._session cimport lnt_reactor

cdef void take_inbox(lnt_reactor *r) noexcept nogil
cdef void keepalive(lnt_reactor *r) noexcept nogil
cdef void conns_reap(lnt_reactor *r) noexcept nogil
cdef void sessions_reap(lnt_reactor *r) noexcept nogil
