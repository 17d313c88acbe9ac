"""Task management on the data plane: which tasks a request names, aborting them, and when they are quiet.

RFC 7143 §11.5, §4.2.3.3. Lives here and nowhere else: the reactor's list of requests that wait until what they named has left
the engine.
"""
from core.wire.mailbox cimport event_of, event_post
from core.wire.nexus cimport EV_ABORTED, T_DEVICE, T_FREE, T_SEND, lnt_event, lnt_session, lnt_task
from core.wire.numbering cimport numbering_plug
from core.wire.pdu cimport sn_lt
from core.wire.task cimport task_abort
from libc.stdint cimport uint32_t


cdef bint abort_matches(lnt_abort *a, lnt_task *t) noexcept nogil:
    if t.is_pdu or (a.device and t.state != T_DEVICE):
        return False
    if a.session and t.session.handle != a.session:
        return False
    if a.exclude_session and t.session.handle == a.exclude_session:
        return False
    if a.connection and t.connection.handle != a.connection:
        return False
    if a.lun >= 0 and (t.lun == NULL or t.lun.number != <uint32_t>a.lun):
        return False
    if a.object_id and (t.lun == NULL or t.lun.object_id != a.object_id):
        return False
    if not a.any_itt and t.itt != a.itt:
        return False
    # An immediate command carries the CmdSN of the next one: it is older than the request if it is not above it.
    if not a.any_cmd_sn and not (sn_lt(t.cmd_sn, a.before_cmd_sn) or (t.immediate and t.cmd_sn == a.before_cmd_sn)):
        return False
    return True


cdef void abort_start(lnt_reactor *r, lnt_abort *a) noexcept nogil:
    # Takes ownership of `a`. Aborts or counts, and remembers it until quiescent.
    cdef uint32_t i
    cdef lnt_task *t
    cdef lnt_session *s
    for i in range(r.tasks.used):
        t = &r.tasks.slots[i]
        if t.state == T_FREE or t.state == T_SEND or (t.aborted and (a.query or a.tell)):
            continue
        if abort_matches(a, t):
            if a.tell:
                a.victims[2 * a.count] = t.connection.handle
                a.victims[2 * a.count + 1] = t.itt
            a.count += 1
            if not a.query and not a.device:
                task_abort(r, t)
    if a.session and not a.any_cmd_sn and not a.query and not a.device:
        s = r.sessions
        while s != NULL and s.handle != a.session:
            s = s.next
        if s != NULL:
            numbering_plug(s, a)
    a.next = r.aborts
    r.aborts = a
    r.abort_check = 1


cdef bint abort_pending(lnt_reactor *r, lnt_abort *a) noexcept nogil:
    cdef uint32_t i
    cdef lnt_task *t
    if a.query:
        return False
    for i in range(r.tasks.used):
        t = &r.tasks.slots[i]
        if t.state != T_FREE and (a.device or t.aborted and not t.early) and abort_matches(a, t):
            return True
    return False


cdef void aborts_check(lnt_reactor *r) noexcept nogil:
    # Tells Python about every abort whose task set has become quiescent.
    cdef lnt_abort **at = &r.aborts
    cdef lnt_abort *a
    cdef lnt_event *e
    r.abort_check = 0
    while at[0] != NULL:
        a = at[0]
        if abort_pending(r, a):
            at = &a.next
            continue
        at[0] = a.next
        e = event_of(&a.done, EV_ABORTED, a)
        e.token = a.token
        e.count = a.count
        event_post(r, e)
