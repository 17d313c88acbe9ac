"""A connection's life in the ring: armed, paused while it does not read its answers, closed.

Lives here and nowhere else: a connection's state and what the ring still holds of it. Its end is core/wire/lifecycle.pyx.
"""
from core.wire.mailbox cimport event_of, event_post
from core.wire.inbound cimport INBOUND_GROUP
from core.wire.nexus cimport CONNECTION_CLOSING, EV_CLOSED, lnt_event
from core.wire.tags cimport TAG_CANCEL, TAG_RECV
from core.wire.uring cimport lnt_prep_cancel, lnt_prep_recv_multishot
from libc.stdint cimport uintptr_t

cdef extern from "<sys/socket.h>" nogil:
    int shutdown(int fd, int how)
    int SHUT_RDWR


cdef void connection_arm(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    lnt_prep_recv_multishot(r.ring, <int>c.file, INBOUND_GROUP, 0, <uintptr_t>c | TAG_RECV)
    c.armed = 1
    connection_hold(c)


cdef void connection_pause(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # It sends more than it takes. What it has sent stays in its socket; keepalive ends it if it takes nothing at all.
    if not c.paused:
        c.paused = 1
        r.counters.pauses += 1
        if c.armed:
            lnt_prep_cancel(r.ring, <uintptr_t>c | TAG_RECV, TAG_CANCEL)


cdef void connection_resume(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    c.paused = 0
    if c.state == CONNECTION_OPEN and not c.armed:
        connection_arm(r, c)


cdef void connection_close(lnt_reactor *r, lnt_connection *c, uint8_t reason, const char *detail) noexcept nogil:
    # Safe anywhere in the loop: the socket is shut, the rest happens in core/wire/lifecycle.pyx between turns.
    cdef lnt_event *e
    if c.state != CONNECTION_OPEN:
        return
    c.state = CONNECTION_CLOSING
    r.reap = 1
    shutdown(c.fd, SHUT_RDWR)
    e = event_of(&c.closed, EV_CLOSED, c)
    e.session = c.session.handle
    e.connection = c.handle
    e.reason = reason
    e.detail = detail
    event_post(r, e)


cdef void connection_disarmed(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # The receive that was in the ring is over.
    c.armed = 0
    connection_let_go(r, c)
