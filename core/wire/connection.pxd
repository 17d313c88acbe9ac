# A connection in the ring.
from core.wire.nexus cimport CONNECTION_OPEN, lnt_connection, lnt_reactor
from libc.stdint cimport uint64_t, uint8_t

cdef void connection_arm(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void connection_pause(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void connection_resume(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef void connection_close(lnt_reactor *r, lnt_connection *c, uint8_t reason, const char *detail) noexcept nogil

cdef inline void connection_hold(lnt_connection *c) noexcept nogil:
    # A request of it is in the ring.
    c.ring_refs += 1

cdef inline void connection_let_go(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # The request's last completion came.
    c.ring_refs -= 1
    if c.state != CONNECTION_OPEN:
        r.reap = 1

cdef inline void connection_heard(lnt_connection *c, uint64_t now_us) noexcept nogil:
    c.last_heard_us = now_us

cdef void connection_disarmed(lnt_reactor *r, lnt_connection *c) noexcept nogil
