"""What Python asks of the reactor's thread: one table from the kind of a request to what is done.

Owns nothing but the table.
"""
from core.wire.abort cimport abort_start
from core.wire.arrival cimport abort_missing
from core.wire.connection cimport connection_close
from core.wire.delay cimport delay_changed, delay_limits
from core.wire.handover cimport command_complete
from core.wire.lifecycle cimport connection_add, connection_of, session_add, session_remove, stop_all
from core.wire.lun cimport lun_insert, lun_remove
from core.wire.mailbox cimport request_free, requests_all
from core.wire.nexus cimport (
    CLOSE_REQUESTED, CONNECTION_OPEN, IN_ABORT, IN_COMPLETE, IN_CONNECTION, IN_CONNECTION_CLOSE, IN_KINDS, IN_LIMITS,
    IN_LIMIT_CHANGED, IN_LUN, IN_LUN_REMOVE, IN_MAX_SEND, IN_SEND, IN_SESSION, IN_SESSION_REMOVE, IN_STOP, T_PYTHON, lnt_abort,
    lnt_connection, lnt_limit, lnt_lun, lnt_request, lnt_session, lnt_task,
)
from core.wire.send cimport segment_changed, send_pdu
from core.wire.task cimport task_of
from libc.stdint cimport uint8_t


# -- one function a kind: True when the request may be freed ----------------------------------------------------------

cdef bint on_complete(lnt_reactor *r, lnt_request *m) noexcept nogil:
    cdef bint spare = m.spare != 0          # asked now: a request that is no spare one goes with its answer
    cdef lnt_task *t = task_of(r, m.handle)
    if t == NULL or t.state != T_PYTHON or t.aborted or t.connection.state != CONNECTION_OPEN:
        return True
    command_complete(r, t, m)
    return spare


cdef bint on_send(lnt_reactor *r, lnt_request *m) noexcept nogil:
    cdef bint spare = m.spare != 0          # asked now, as above
    cdef lnt_connection *c = connection_of(r, m.handle)
    if c == NULL or c.state != CONNECTION_OPEN:
        return True
    send_pdu(r, c, m.bhs, <uint8_t *>(m + 1), m.length, NULL if spare else m, m.close)
    return spare


cdef bint on_session(lnt_reactor *r, lnt_request *m) noexcept nogil:
    session_add(r, <lnt_session *>m.object)
    return True


cdef bint on_session_remove(lnt_reactor *r, lnt_request *m) noexcept nogil:
    session_remove(r, <lnt_session *>m.object, CLOSE_REQUESTED)
    return True


cdef bint on_connection(lnt_reactor *r, lnt_request *m) noexcept nogil:
    connection_add(r, m)
    return True


cdef bint on_connection_close(lnt_reactor *r, lnt_request *m) noexcept nogil:
    cdef lnt_connection *c = connection_of(r, m.handle)
    if c != NULL:
        connection_close(r, c, CLOSE_REQUESTED, "closed on request")
    return True


cdef bint on_max_send(lnt_reactor *r, lnt_request *m) noexcept nogil:
    cdef lnt_connection *c = connection_of(r, m.handle)
    if c != NULL:
        segment_changed(c, m.number)
    return True


cdef bint on_lun(lnt_reactor *r, lnt_request *m) noexcept nogil:
    lun_insert((<lnt_lun *>m.object).session, <lnt_lun *>m.object)
    return True


cdef bint on_limits(lnt_reactor *r, lnt_request *m) noexcept nogil:
    delay_limits(r, <lnt_lun *>m.object, m.limits[0], m.limits[1])
    return True


cdef bint on_limit_changed(lnt_reactor *r, lnt_request *m) noexcept nogil:
    delay_changed(r, <lnt_limit *>m.object)
    return True


cdef bint on_lun_remove(lnt_reactor *r, lnt_request *m) noexcept nogil:
    lun_remove(r, <lnt_lun *>m.object)
    return True


cdef bint on_abort(lnt_reactor *r, lnt_request *m) noexcept nogil:
    abort_start(r, <lnt_abort *>m.object)
    abort_missing(r, <lnt_abort *>m.object)
    return True


cdef bint on_stop(lnt_reactor *r, lnt_request *m) noexcept nogil:
    stop_all(r)
    return True


cdef bint (*HANDLERS[IN_KINDS])(lnt_reactor *, lnt_request *) noexcept nogil
HANDLERS[IN_SESSION] = on_session
HANDLERS[IN_SESSION_REMOVE] = on_session_remove
HANDLERS[IN_CONNECTION] = on_connection
HANDLERS[IN_CONNECTION_CLOSE] = on_connection_close
HANDLERS[IN_LUN] = on_lun
HANDLERS[IN_LUN_REMOVE] = on_lun_remove
HANDLERS[IN_COMPLETE] = on_complete
HANDLERS[IN_SEND] = on_send
HANDLERS[IN_ABORT] = on_abort
HANDLERS[IN_STOP] = on_stop
HANDLERS[IN_MAX_SEND] = on_max_send
HANDLERS[IN_LIMITS] = on_limits
HANDLERS[IN_LIMIT_CHANGED] = on_limit_changed


cdef void requests_take(lnt_reactor *r) noexcept nogil:
    cdef lnt_request *m = requests_all(r)
    cdef lnt_request *following
    while m != NULL:
        following = m.next
        if HANDLERS[m.kind](r, m):
            request_free(r, m)
        m = following
