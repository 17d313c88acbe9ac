# How sessions and connections enter the reactor and leave it.
from core.wire.nexus cimport lnt_connection, lnt_reactor, lnt_request, lnt_session
from libc.stdint cimport uint64_t, uint8_t

cdef lnt_connection *connection_of(lnt_reactor *r, uint64_t handle) noexcept nogil
cdef void connection_add(lnt_reactor *r, lnt_request *m) noexcept nogil
cdef void connections_reap(lnt_reactor *r) noexcept nogil
cdef void sessions_reap(lnt_reactor *r) noexcept nogil
cdef void session_remove(lnt_reactor *r, lnt_session *s, uint8_t reason) noexcept nogil
cdef void stop_all(lnt_reactor *r) noexcept nogil
cdef void session_add(lnt_reactor *r, lnt_session *s) noexcept nogil
