"""Responses that are kept until ExpStatSN acknowledges them, and what is sent again (ErrorRecoveryLevel 1).

Lives here and nowhere else: `lnt_connection.kept`, `lnt_task.kept`, and who still holds an entry of a send queue. What is kept
has bounds: the oldest data go first, then the oldest responses (RFC 7143 §4.2.2.2, §7.1.4, §11.16).
"""
from core.base.memory cimport mem_new
from core.wire.answer cimport response_pdu
from core.wire.nexus cimport SEND_AGAIN, SEND_TASK, T_SEND
from core.wire.numbering cimport window_end
from core.wire.pdu cimport BHS_BYTES, BHS_DATA_LENGTH, bhs_ask_ack, bhs_data_in, bhs_numbers, put_be24, sn_lt
from core.wire.task cimport task_drop_buffer, task_drop_data, task_free, task_held, task_leave_lun
from core.wire.transfer_tag cimport ack_tag
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef enum:
    KEPT_MAX = 256                 # responses a connection keeps


# -- entries of a send queue, kept or being sent ---------------------------------------------------------------------

cdef lnt_send *send_take(lnt_reactor *r) noexcept nogil:
    # An empty entry; NULL without memory.
    cdef lnt_send *x = r.free_sends
    if x != NULL:
        r.free_sends = x.next
    else:
        x = <lnt_send *>mem_new(sizeof(lnt_send))
    if x != NULL:
        memset(x, 0, sizeof(lnt_send))
    return x


cdef void send_free(lnt_reactor *r, lnt_send *x) noexcept nogil:
    # A PDU of its own: not a task's.
    free(x.heap)
    x.next = r.free_sends
    r.free_sends = x


cdef uint64_t kept_size(lnt_send *x) noexcept nogil:
    # Bytes that a kept response holds beyond itself.
    return task_held(x.task) if x.kind == SEND_TASK else x.length


cdef void kept_drop_data(lnt_reactor *r, lnt_send *x) noexcept nogil:
    # A kept response of a task lets go of its data; only the response can be sent again.
    cdef lnt_task *t = x.task
    cdef lnt_connection *c = t.connection
    cdef uint64_t n = kept_size(x)
    c.kept.bytes -= n
    r.kept.bytes -= n
    c.kept.buffered -= n
    task_drop_data(r, t)
    t.kept.dropped = 1


cdef void kept_drop_oldest(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # The oldest kept response is acknowledged, or given up. It is gone once nothing of it is being sent.
    cdef lnt_send *x = c.kept.head
    cdef uint64_t n = kept_size(x)
    c.kept.head = x.next
    if c.kept.head == NULL:
        c.kept.tail = NULL
    x.kept = 0
    c.kept.count -= 1
    c.kept.bytes -= n
    r.kept.bytes -= n
    if x.kind == SEND_TASK:
        r.kept.tasks -= 1
        c.kept.buffered -= n
    send_gone(r, x)


cdef void send_gone(lnt_reactor *r, lnt_send *x) noexcept nogil:
    # Frees a response that is neither kept nor being sent.
    if x.kept or x.holds:
        return
    if x.kind == SEND_TASK:
        task_free(r, x.task)
    else:
        send_free(r, x)


cdef void send_let_go(lnt_reactor *r, lnt_send *x) noexcept nogil:
    # One PDU that is no task's was sent, or will never be.
    cdef lnt_send *of = x.again
    if x.kind == SEND_AGAIN:
        send_free(r, x)
        x = of
    if x.holds:
        x.holds -= 1
    send_gone(r, x)


cdef void kept_sent(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # The response left; the task only waits for its acknowledgement.
    t.send.holds -= 1
    if r.aborts != NULL:
        r.abort_check = 1                   # it is done with the engine
    task_leave_lun(r, t)
    send_gone(r, &t.send)


# -- what is kept, and for how long --------------------------------------------------------------------------------

cdef void kept_add(lnt_reactor *r, lnt_connection *c, lnt_send *x) noexcept nogil:
    # A response gets its StatSN: it stays until that is acknowledged.
    cdef uint64_t n
    cdef lnt_task *t = x.task
    x.stat_sn = c.stat_sn
    x.holds += 1
    x.kept = 1
    x.next = NULL
    if c.kept.tail != NULL:
        c.kept.tail.next = x
    else:
        c.kept.head = x
    c.kept.tail = x
    c.kept.count += 1
    if x.kind == SEND_TASK:
        r.kept.tasks += 1
        if t.data_in.data_sn == 0:
            task_drop_data(r, t)
        elif t.data_in.data != t.buffer:
            task_drop_buffer(r, t)
        c.kept.buffered += task_held(t)
    n = kept_size(x)
    c.kept.bytes += n
    r.kept.bytes += n


cdef void kept_shed(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # Keeps what is kept within its bounds: the oldest data go first, then the oldest responses.
    cdef lnt_send *x = c.kept.head
    cdef uint64_t most = r.buffers.connection_limit // 4
    cdef uint64_t most_of_all = r.buffers.limit // 4
    while x != NULL and (c.kept.bytes > most or r.kept.bytes > most_of_all):
        if x.kind == SEND_TASK and x.holds == 0 and kept_size(x):
            kept_drop_data(r, x)
        x = x.next
    while (c.kept.head != NULL and c.kept.head.holds == 0
           and (c.kept.count > KEPT_MAX or c.kept.bytes > most or r.kept.tasks > r.tasks.max // 4)):
        kept_drop_oldest(r, c)


cdef void kept_acknowledge(lnt_reactor *r, lnt_connection *c, uint32_t exp_stat_sn) noexcept nogil:
    # ExpStatSN of any PDU of the initiator (RFC 7143 §4.2.2.2). What was never sent acknowledges nothing.
    if not sn_lt(c.kept.exp_stat_sn, exp_stat_sn) or sn_lt(c.stat_sn, exp_stat_sn):
        return
    c.kept.exp_stat_sn = exp_stat_sn
    while c.kept.head != NULL and sn_lt(c.kept.head.stat_sn, exp_stat_sn):
        kept_drop_oldest(r, c)


# -- which Data-In is where -----------------------------------------------------------------------------------------

cdef uint32_t task_total(lnt_task *t) noexcept nogil:
    return t.data_in.offset + t.data_in.left


cdef bint asks_ack(lnt_task *t) noexcept nogil:
    # Reads longer than a burst ask for an acknowledgement at the end of each (RFC 7143 §11.7.2).
    return task_total(t) > t.session.negotiated.max_burst_length


cdef uint32_t data_in_count(lnt_task *t) noexcept nogil:
    # DataSN after the last Data-In of the whole task.
    cdef uint32_t burst = t.session.negotiated.max_burst_length
    cdef uint32_t left = task_total(t) - t.kept.base_offset
    cdef uint32_t each = (burst - 1) // t.kept.segment + 1
    return t.kept.base_sn + left // burst * each + (left % burst + t.kept.segment - 1) // t.kept.segment


cdef uint32_t data_in_at(lnt_task *t, uint32_t sn, uint32_t *length) noexcept nogil:
    # Where Data-In `sn` begins, and its length; the end of the data for a number after the last one.
    cdef uint32_t burst = t.session.negotiated.max_burst_length
    cdef uint32_t each = (burst - 1) // t.kept.segment + 1
    cdef uint32_t k = sn - t.kept.base_sn
    cdef uint32_t total = task_total(t)
    cdef uint64_t start = t.kept.base_offset + <uint64_t>(k // each) * burst
    cdef uint64_t at = start + <uint64_t>(k % each) * t.kept.segment
    cdef uint64_t end = at + t.kept.segment
    length[0] = 0
    if at >= total:
        return total
    if end > start + burst:
        end = start + burst
    length[0] = <uint32_t>((end if end < total else total) - at)
    return <uint32_t>at


cdef bint kept_pdu(lnt_connection *c, lnt_send *x, uint8_t *h, uint8_t **data, uint32_t *length) noexcept nogil:
    # Builds the next PDU of what is sent again; True when it was the last.
    cdef lnt_send *of = x.again
    cdef lnt_task *t = of.task
    cdef uint32_t at, n
    cdef bint burst_end
    cdef uint32_t stat_sn = 0
    if x.data_sn != x.data_sn_end:
        at = data_in_at(t, x.data_sn, &n)
        burst_end = at + n == task_total(t) or (at + n - t.kept.base_offset) % t.session.negotiated.max_burst_length == 0
        bhs_data_in(h, t.itt, x.data_sn, at, n, burst_end)
        if burst_end and asks_ack(t):
            bhs_ask_ack(h, t.lun_field, ack_tag(t))
        data[0] = t.data_in.data + at
        length[0] = n
        x.data_sn += 1
    else:
        x.status = 0
        stat_sn = of.stat_sn
        if of.kind == SEND_TASK:
            response_pdu(c, t, h, data, length)
        else:
            memcpy(h, of.bhs, BHS_BYTES)
            put_be24(h + BHS_DATA_LENGTH, of.length)
            data[0] = of.data
            length[0] = of.length
    bhs_numbers(h, stat_sn, c.session.numbering.exp_cmd_sn, window_end(c.session))
    c.traffic.resent += 1
    return x.data_sn == x.data_sn_end and not x.status


cdef void kept_segment_changed(lnt_connection *c) noexcept nogil:
    # Tasks whose Data-In has begun are cut in two ways from now on; the others in the new one.
    cdef lnt_task *t = c.tasks
    while t != NULL:
        if t.state == T_SEND and not t.send.kept and t.kept.segment != c.max_send:
            if t.data_in.data_sn:
                t.kept.mixed = 1
            else:
                t.kept.segment = c.max_send
        t = t.connection_next


# -- what a task's recovery needs --------------------------------------------------------------------------------------

cdef void kept_acked(lnt_task *t, uint32_t data_sn) noexcept nogil:
    # A DataACK: the initiator has every Data-In before this DataSN.
    cdef uint32_t length
    t.kept.acked_sn = data_sn
    t.kept.acked_offset = data_in_at(t, data_sn, &length)


cdef void kept_recut(lnt_task *t, uint32_t snack_tag) noexcept nogil:
    # All data that is not acknowledged will be cut anew, by the connection's segment length of now (RFC 7143 §11.16.3).
    t.kept.snack_tag = snack_tag
    t.kept.base_sn = t.kept.acked_sn
    t.kept.base_offset = t.kept.acked_offset
    t.kept.segment = t.connection.max_send
    t.kept.mixed = 0
