"""How sessions and connections enter the reactor and leave it.

Lives here and nowhere else: the reactor's lists of both and the table of connections. A connection is freed by Python, which made
it, when nothing in the ring and no task refers to it any more.
"""
from core.wire.connection cimport connection_arm, connection_close, connection_heard
from core.wire.handle cimport handle_index
from core.wire.mailbox cimport event_of, event_post
from core.wire.nexus cimport (
    CLOSE_ERROR, CLOSE_REQUESTED, CLOSE_STOPPED, CONNECTIONS_MAX, CONNECTION_DEAD, CONNECTION_OPEN, EV_CONNECTION_FREED,
    EV_SESSION_CLOSED, LUN_HASH, T_SEND, lnt_event, lnt_lun, lnt_task,
)
from core.wire.pacing cimport lnt_is_neighbour
from core.wire.payload cimport payload_take_heap
from core.wire.receive cimport receive_bytes
from core.wire.send cimport send_teardown
from core.wire.share cimport share_join, share_leave
from core.wire.task cimport task_abort, task_free
from core.wire.task_set cimport task_set_forget
from libc.stdlib cimport free

cdef extern from "<unistd.h>" nogil:
    int close(int fd)


cdef lnt_connection *connection_of(lnt_reactor *r, uint64_t handle) noexcept nogil:
    cdef uint64_t index = handle_index(handle)
    cdef lnt_connection *c
    if index >= CONNECTIONS_MAX:
        return NULL
    c = r.connection_table[index]
    return c if c != NULL and c.handle == handle else NULL


cdef void connection_add(lnt_reactor *r, lnt_request *m) noexcept nogil:
    cdef lnt_connection *c = <lnt_connection *>m.object
    c.next = r.connections
    r.connections = c
    r.connection_table[c.file - 1] = c
    c.session.connections += 1
    c.neighbour = <uint8_t>lnt_is_neighbour(c.fd)
    connection_heard(c, r.now_us)
    if c.keepalive.interval_us:
        r.keepalive_us = 0
    if c.session.removing or r.stopping:
        connection_close(r, c, CLOSE_STOPPED if r.stopping else CLOSE_REQUESTED, "the session ended")
        return
    if r.ring.api.register_files_update(r.ring, c.file, &c.fd, 1) != 1:
        connection_close(r, c, CLOSE_ERROR, "the ring takes no more sockets")
        return
    if m.length:
        receive_bytes(r, c, <uint8_t *>(m + 1), m.length)
    if c.state == CONNECTION_OPEN and not c.paused:
        connection_arm(r, c)


cdef bint connection_teardown(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # Terminates what a closing connection still holds; True when nothing refers to it any more.
    cdef lnt_task *t
    cdef lnt_task *following
    free(payload_take_heap(c))
    if not c.outgoing.sending:
        send_teardown(r, c)
    t = c.tasks
    while t != NULL:
        following = t.connection_next
        if t.state == T_SEND:
            if not c.outgoing.sending:
                task_free(r, t)
        elif t.early:
            task_free(r, t)
        else:
            task_abort(r, t)
        t = following
    return c.task_count == 0 and c.ring_refs == 0 and not c.outgoing.dirty and not c.receive.bulk


cdef void connections_reap(lnt_reactor *r) noexcept nogil:
    # Between turns: terminates what closing connections hold, frees those that nothing refers to, then sessions.
    cdef lnt_connection **at = &r.connections
    cdef lnt_connection *c
    cdef lnt_event *e
    cdef int none = -1
    r.reap = 0
    while at[0] != NULL:
        c = at[0]
        if c.state == CONNECTION_OPEN or not connection_teardown(r, c):
            at = &c.next
            continue
        at[0] = c.next
        r.connection_table[c.file - 1] = NULL
        r.ring.api.register_files_update(r.ring, c.file, &none, 1)
        close(c.fd)
        c.state = CONNECTION_DEAD
        c.session.connections -= 1
        e = event_of(&c.freed, EV_CONNECTION_FREED, c)
        e.connection = c.handle
        event_post(r, e)
    sessions_reap(r)


cdef void task_sets_forget(lnt_reactor *r, lnt_session *s) noexcept nogil:
    # Its LUNs go with it, in Python: a set that its last tasks left in this turn is not looked at any more.
    cdef lnt_lun *lun
    cdef int i
    for i in range(LUN_HASH):
        lun = s.luns[i]
        while lun != NULL:
            task_set_forget(r, lun)
            lun = lun.next


cdef void sessions_reap(lnt_reactor *r) noexcept nogil:
    cdef lnt_session **at = &r.sessions
    cdef lnt_session *s
    cdef lnt_event *e
    while at[0] != NULL:
        s = at[0]
        if not s.removing or s.connections or s.task_count:
            at = &s.next
            continue
        at[0] = s.next
        share_leave(r, s)
        task_sets_forget(r, s)
        e = event_of(&s.ended, EV_SESSION_CLOSED, s)
        e.session = s.handle
        event_post(r, e)


cdef void session_remove(lnt_reactor *r, lnt_session *s, uint8_t reason) noexcept nogil:
    cdef lnt_connection *c = r.connections
    s.removing = 1
    r.reap = 1
    while c != NULL:
        if c.session == s:
            connection_close(r, c, reason, "the session was removed")
        c = c.next


cdef void stop_all(lnt_reactor *r) noexcept nogil:
    cdef lnt_connection *c = r.connections
    r.stopping = 1
    r.reap = 1
    while c != NULL:
        connection_close(r, c, CLOSE_STOPPED, "the target stops")
        c = c.next


cdef void session_add(lnt_reactor *r, lnt_session *s) noexcept nogil:
    s.reactor = r
    share_join(r, s)
    s.next = r.sessions
    r.sessions = s
