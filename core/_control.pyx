# What Python asks of the reactor's thread, and what it does to connections and sessions between turns: arrival, removal,
# keepalive (RFC 7143 §11.19), stop.
from core._command cimport command_complete
from core._pdu cimport TAG_NONE, bhs_nop_in
from core._rx cimport abort_missing, rx_bytes
from core._snack cimport segment_changed
from core._session cimport (
    C_DEAD, C_OPEN, CLOSE_ERROR, CLOSE_KEEPALIVE, CLOSE_REQUESTED, CLOSE_STOPPED, CONNS_MAX, EV_CONN_FREED,
    EV_SESSION_CLOSED, IN_ABORT, IN_COMPLETE, IN_CONN, IN_CONN_CLOSE, IN_LUN, IN_LUN_REMOVE, IN_MAX_SEND, IN_SEND, IN_SESSION,
    IN_SESSION_REMOVE, IN_STOP, T_PYTHON, abort_start, conn_arm, conn_close, conn_teardown, event_new, event_post,
    handle_of, lnt_abort, lnt_conn, lnt_event, lnt_inbox, lnt_lun, lnt_reactor, lnt_session, lnt_task, lun_insert, lun_remove,
    pthread_mutex_lock, pthread_mutex_unlock,
)
from core._tx cimport tx_pdu
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef uint64_t FOREVER = <uint64_t>-1


# -- connections -----------------------------------------------------------------------------------------------------

cdef lnt_conn *conn_of(lnt_reactor *r, uint64_t handle) noexcept nogil:
    cdef uint64_t index = (handle & 0xffffff) - 1
    cdef lnt_conn *c
    if index >= CONNS_MAX:
        return NULL
    c = r.conn_table[index]
    return c if c != NULL and c.handle == handle else NULL


cdef void conn_add(lnt_reactor *r, lnt_inbox *m) noexcept nogil:
    cdef lnt_conn *c = <lnt_conn *>m.object
    c.next = r.conns
    r.conns = c
    r.conn_table[c.file - 1] = c
    c.session.conns += 1
    c.last_rx_us = r.now_us
    if c.nop_interval_us:
        r.timer_us = 0
    if c.session.removing or r.stopping:
        conn_close(r, c, CLOSE_STOPPED if r.stopping else CLOSE_REQUESTED, "the session ended")
        return
    if r.ring.api.register_files_update(r.ring, c.file, &c.fd, 1) != 1:
        conn_close(r, c, CLOSE_ERROR, "the ring takes no more sockets")
        return
    if m.length:
        rx_bytes(r, c, <uint8_t *>(m + 1), m.length)
    if c.state == C_OPEN and not c.paused:
        conn_arm(r, c)


cdef void conns_reap(lnt_reactor *r) noexcept nogil:
    # Between turns: terminates what closing connections hold, frees those that nothing refers to, then sessions.
    cdef lnt_conn **at = &r.conns
    cdef lnt_conn *c
    cdef lnt_event *e
    cdef int none = -1
    r.reap_conns = 0
    while at[0] != NULL:
        c = at[0]
        if c.state == C_OPEN or not conn_teardown(r, c):
            at = &c.next
            continue
        at[0] = c.next
        r.conn_table[c.file - 1] = NULL
        r.ring.api.register_files_update(r.ring, c.file, &none, 1)
        close(c.fd)
        c.state = C_DEAD
        c.session.conns -= 1
        e = event_new(EV_CONN_FREED, 0)
        if e != NULL:
            e.conn = c.handle
            e.object = c
            event_post(r, e)
    sessions_reap(r)


cdef void sessions_reap(lnt_reactor *r) noexcept nogil:
    cdef lnt_session **at = &r.sessions
    cdef lnt_session *s
    cdef lnt_event *e
    while at[0] != NULL:
        s = at[0]
        if not s.removing or s.conns or s.task_count:
            at = &s.next
            continue
        at[0] = s.next
        e = event_new(EV_SESSION_CLOSED, 0)
        if e != NULL:
            e.session = s.handle
            e.object = s
            event_post(r, e)


# -- commands from Python --------------------------------------------------------------------------------------------

cdef void session_remove(lnt_reactor *r, lnt_session *s, uint8_t reason) noexcept nogil:
    cdef lnt_conn *c = r.conns
    s.removing = 1
    r.reap_conns = 1
    while c != NULL:
        if c.session == s:
            conn_close(r, c, reason, "the session was removed")
        c = c.next


cdef void stop_all(lnt_reactor *r) noexcept nogil:
    cdef lnt_conn *c = r.conns
    r.stopping = 1
    r.reap_conns = 1
    while c != NULL:
        conn_close(r, c, CLOSE_STOPPED, "the target stops")
        c = c.next


cdef lnt_task *task_of(lnt_reactor *r, uint64_t handle) noexcept nogil:
    cdef uint64_t index = (handle & 0xffffff) - 1
    cdef lnt_task *t
    if index >= r.max_tasks:
        return NULL
    t = &r.tasks[index]
    return t if handle_of(t.index, t.generation) == handle else NULL


cdef bint on_inbox(lnt_reactor *r, lnt_inbox *m) noexcept nogil:
    # True when the message may be freed.
    cdef lnt_conn *c
    cdef lnt_task *t
    cdef lnt_session *s
    if m.kind == IN_COMPLETE:
        t = task_of(r, m.handle)
        if t == NULL or t.state != T_PYTHON or t.aborted or t.conn.state != C_OPEN:
            return True
        command_complete(r, t, m)
        return False
    if m.kind == IN_SEND:
        c = conn_of(r, m.handle)
        if c == NULL or c.state != C_OPEN:
            return True
        tx_pdu(r, c, m.bhs, <uint8_t *>(m + 1), m.length, m, m.close)
        return False
    if m.kind == IN_SESSION:
        s = <lnt_session *>m.object
        s.reactor = r
        s.next = r.sessions
        r.sessions = s
    elif m.kind == IN_SESSION_REMOVE:
        session_remove(r, <lnt_session *>m.object, CLOSE_REQUESTED)
    elif m.kind == IN_CONN:
        conn_add(r, m)
    elif m.kind == IN_CONN_CLOSE:
        c = conn_of(r, m.handle)
        if c != NULL:
            conn_close(r, c, CLOSE_REQUESTED, "closed on request")
    elif m.kind == IN_MAX_SEND:
        c = conn_of(r, m.handle)
        if c != NULL:
            segment_changed(c, m.number)
    elif m.kind == IN_LUN:
        lun_insert((<lnt_lun *>m.object).session, <lnt_lun *>m.object)
    elif m.kind == IN_LUN_REMOVE:
        lun_remove(r, <lnt_lun *>m.object)
    elif m.kind == IN_ABORT:
        abort_start(r, <lnt_abort *>m.object)
        abort_missing(r, <lnt_abort *>m.object)
    elif m.kind == IN_STOP:
        stop_all(r)
    return True


cdef void take_inbox(lnt_reactor *r) noexcept nogil:
    cdef lnt_inbox *m
    cdef lnt_inbox *following
    pthread_mutex_lock(&r.mutex)
    m = r.inbox_head
    r.inbox_head = NULL
    r.inbox_tail = NULL
    pthread_mutex_unlock(&r.mutex)
    while m != NULL:
        following = m.next
        if on_inbox(r, m):
            free(m)
        m = following


# -- keepalive -------------------------------------------------------------------------------------------------------

cdef void keepalive(lnt_reactor *r) noexcept nogil:
    # Pings connections that were silent for their interval, closes those that did not answer, finds the next deadline.
    cdef lnt_conn *c = r.conns
    cdef uint64_t due
    cdef uint64_t next_us = FOREVER
    cdef uint8_t h[48]
    cdef uint8_t lun[8]
    cdef int i
    for i in range(8):
        lun[i] = 0
    while c != NULL:
        if c.state == C_OPEN and c.nop_interval_us:
            if c.nop_sent_us and c.last_rx_us > c.nop_sent_us:
                c.nop_sent_us = 0                        # anything it sends proves that it lives
            if c.nop_sent_us:
                due = c.nop_sent_us + c.nop_timeout_us
                if r.now_us >= due:
                    conn_close(r, c, CLOSE_KEEPALIVE, "NOP-In was not answered")
                    c = c.next
                    continue
            else:
                due = c.last_rx_us + c.nop_interval_us
                if r.now_us >= due:
                    r.nop_count += 1
                    c.nop_ttt = r.nop_count & 0x7fffffff
                    c.nop_sent_us = r.now_us
                    bhs_nop_in(h, lun, <uint32_t>TAG_NONE, c.nop_ttt, 0)
                    tx_pdu(r, c, h, NULL, 0, NULL, False)
                    due = r.now_us + c.nop_timeout_us
            if due < next_us:
                next_us = due
        c = c.next
    r.timer_us = next_us
