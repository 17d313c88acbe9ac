# SNACK requests: recovery within a command and within a connection at ErrorRecoveryLevel 1 (RFC 7143 §7.1.4.1, §7.1.4.2,
# §11.16).
from core._data_out cimport send_r2t_again
from core._pdu cimport REJECT_INVALID_ACK, REJECT_PROTOCOL, REJECT_SNACK, TAG_NONE, get32, lun_number, sn_le, sn_lt
from core._session cimport HOLDS_MAX, R2T_KEPT, T_DATA, T_SEND, lnt_conn, lnt_reactor, lnt_task, lnt_tx, tx_drop_data
from core._tx cimport ack_tag, data_in_at, data_in_count, task_total, tx_again, tx_reject, tx_reject_at
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    SNACK_DATA = 0
    SNACK_STATUS = 1
    SNACK_DATA_ACK = 2
    SNACK_R_DATA = 3


cdef lnt_task *named(lnt_conn *c, uint32_t itt) noexcept nogil:
    # The youngest task of this tag: one that only waits for its acknowledgement may share it with a newer one.
    cdef lnt_task *t = c.tasks
    while t != NULL and (t.itt != itt or t.is_pdu):
        t = t.conn_next
    return t


cdef bint run(uint32_t begin, uint32_t length, uint32_t first, uint32_t after, uint32_t *end) noexcept nogil:
    # Whether begin and length (0: all from there) lie between `first` and `after`; the end of the run.
    end[0] = begin + length if length else after
    return sn_le(first, begin) and sn_lt(begin, end[0]) and sn_le(end[0], after)


cdef void snack_r2t(lnt_reactor *r, lnt_conn *c, lnt_task *t, const uint8_t *h) noexcept nogil:
    cdef uint32_t begin = get32(h + 40)
    cdef uint32_t end
    cdef uint32_t first = t.r2t_sn - R2T_KEPT if t.r2t_sn > R2T_KEPT else 0
    if begin == 0 and get32(h + 44) == 0:
        begin = t.r2t_done                    # all that are not answered
        if begin == t.r2t_sn:
            return
    if not run(begin, get32(h + 44), first, t.r2t_sn, &end):
        tx_reject_at(r, c, REJECT_PROTOCOL, h, t.r2t_sn)
        return
    while begin != end:
        send_r2t_again(r, t, begin)
        begin += 1


cdef void snack_data(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    cdef lnt_task *t = named(c, get32(h + 16))
    cdef uint32_t begin = get32(h + 40)
    cdef uint32_t end
    if t == NULL or t.early:
        tx_reject(r, c, REJECT_PROTOCOL, h)
        return
    if t.state == T_DATA:
        snack_r2t(r, c, t, h)
        return
    if begin == 0 and get32(h + 44) == 0:
        begin = t.again.acked_sn
        if begin == t.send_sn:
            return
    if t.state != T_SEND or not run(begin, get32(h + 44), t.again.acked_sn, t.send_sn, &end):
        tx_reject_at(r, c, REJECT_PROTOCOL, h, t.send_sn if t.send_sn else t.r2t_sn)
    elif t.again.dropped or t.again.mixed or t.again.segment != c.max_send or t.tx.holds >= HOLDS_MAX:
        tx_reject(r, c, REJECT_SNACK, h)      # given up for room, or to be asked for with R-Data
    else:
        tx_again(r, c, &t.tx, begin, end, False)


cdef void snack_r_data(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    # All data that is not acknowledged, cut anew, and the response with the SNACK Tag (RFC 7143 §11.16.3).
    cdef lnt_task *t = named(c, get32(h + 16))
    cdef uint32_t tag = get32(h + 20)
    if t == NULL or tag == 0 or tag == <uint32_t>TAG_NONE or get32(h + 40) or get32(h + 44) or t.state != T_SEND:
        tx_reject(r, c, REJECT_PROTOCOL, h)
        return
    if ((t.again.dropped and t.again.acked_offset < task_total(t)) or t.tx.holds >= HOLDS_MAX
            or (t.again.mixed and t.again.acked_sn)):
        tx_reject(r, c, REJECT_SNACK, h)
        return
    t.again.snack_tag = tag
    t.again.base_sn = t.again.acked_sn
    t.again.base_offset = t.again.acked_offset
    t.again.segment = c.max_send
    t.again.mixed = 0
    if t.tx.kept:
        t.send_sn = data_in_count(t)
        tx_again(r, c, &t.tx, t.again.base_sn, t.send_sn, True)
        return
    t.send_left = task_total(t) - t.again.base_offset      # it is still queued: from there once more
    t.send_offset = t.again.base_offset
    t.send_sn = t.again.base_sn
    t.burst_left = t.session.max_burst


cdef void data_ack(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    cdef uint32_t ttt = get32(h + 20)
    cdef uint32_t index = ttt & 0x3fff
    cdef uint32_t begin = get32(h + 40)
    cdef uint32_t n
    cdef lnt_task *t = &r.tasks[index] if index < r.max_tasks else NULL
    if (t == NULL or t.state != T_SEND or t.conn != c or ack_tag(t) != ttt or get32(h + 16) != <uint32_t>TAG_NONE
            or lun_number(h + 8) != lun_number(t.lun_field) or get32(h + 44)
            or not sn_le(t.again.acked_sn, begin) or not sn_le(begin, t.send_sn)):
        tx_reject(r, c, REJECT_INVALID_ACK, h)
        return
    if t.again.mixed:
        return                                # which byte that is, is not known any more: it frees nothing
    t.again.acked_sn = begin
    t.again.acked_offset = data_in_at(t, begin, &n)
    if begin == t.send_sn and t.tx.kept and t.tx.holds == 0 and not t.again.dropped:
        tx_drop_data(r, &t.tx)


cdef void snack(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    # One SNACK request. What was acknowledged or never sent is a protocol error, what is no longer held a SNACK reject.
    cdef uint8_t kind = h[1] & 0x0f
    c.snacks += 1
    if kind == SNACK_DATA:
        snack_data(r, c, h)
    elif kind == SNACK_STATUS:
        snack_status(r, c, h)
    elif kind == SNACK_DATA_ACK:
        data_ack(r, c, h)
    elif kind == SNACK_R_DATA:
        snack_r_data(r, c, h)
    else:
        tx_reject(r, c, REJECT_PROTOCOL, h)


cdef void snack_status(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    cdef uint32_t begin = get32(h + 40)
    cdef uint32_t end
    cdef lnt_tx *x = c.kept_head
    if begin == 0 and get32(h + 44) == 0:
        begin = c.exp_stat_sn
        if begin == c.stat_sn:
            return
    if get32(h + 16) != <uint32_t>TAG_NONE or not run(begin, get32(h + 44), c.exp_stat_sn, c.stat_sn, &end):
        tx_reject(r, c, REJECT_PROTOCOL, h)
        return
    if x == NULL or sn_lt(begin, x.stat_sn):
        tx_reject(r, c, REJECT_SNACK, h)
        return
    while x != NULL and sn_lt(x.stat_sn, end):
        if sn_le(begin, x.stat_sn) and x.holds < HOLDS_MAX:
            tx_again(r, c, x, 0, 0, True)
        x = x.next


cdef void segment_changed(lnt_conn *c, uint32_t max_send) noexcept nogil:
    # The initiator declared another MaxRecvDataSegmentLength (RFC 7143 §13.12): what is generated from now on keeps to it.
    cdef lnt_task *t = c.tasks
    c.max_send = max_send
    if not c.recovery:
        return
    while t != NULL:
        if t.state == T_SEND and not t.tx.kept and t.again.segment != max_send:
            if t.send_sn:
                t.again.mixed = 1
            else:
                t.again.segment = max_send
        t = t.conn_next
