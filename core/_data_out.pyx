# Data-Out: what is asked for with R2T, where it lands, and how what was lost of it is asked for again
# (RFC 7143 §11.7, §11.8; at ErrorRecoveryLevel 1 also §7.8, §7.9).
from core._pdu cimport (
    CMD_FINAL, OP_DATA_OUT, OPCODE_MASK, REJECT_DATA_DIGEST, REJECT_INVALID_FIELD, TAG_NONE, bhs_r2t, get32, lun_number,
)
from core._session cimport (
    FAIL_AMOUNT, FAIL_DIGEST, R2T_KEPT, T_DATA, lnt_conn, lnt_r2t, lnt_reactor, lnt_task, task_by_itt,
)
from core._tx cimport tx_pdu, tx_reject
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    RECOVERIES_MAX = 64               # recovery R2Ts of one task for damaged Data-Out


# -- asking ----------------------------------------------------------------------------------------------------------

cdef uint32_t r2t_tag(lnt_task *t, uint32_t sn) noexcept nogil:
    return t.index | (sn & 0xff) << 14 | (t.generation & 0x1ff) << 22


cdef void solicit(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # R2Ts up to MaxOutstandingR2T, each at most MaxBurstLength, in order.
    cdef uint8_t h[48]
    cdef uint32_t n
    if t.r2t_sn == 0:
        t.r2t_base = t.got
        t.r2t_next = t.got
        t.data_sn = 0
        t.sequence_end = t.want if t.want - t.got < t.session.max_burst else t.got + t.session.max_burst
    while t.r2t_next < t.want and t.r2t_sn - t.r2t_done < t.session.max_r2t:
        n = t.want - t.r2t_next
        if n > t.session.max_burst:
            n = t.session.max_burst
        if t.r2t_again:
            n = t.r2t_again - t.r2t_next
            t.r2t_again = 0
        if t.session.recovery:
            t.again.r2ts[t.r2t_sn % R2T_KEPT].offset = t.r2t_next
            t.again.r2ts[t.r2t_sn % R2T_KEPT].length = n
        bhs_r2t(h, t.lun_field, t.itt, r2t_tag(t, t.r2t_sn), t.r2t_sn, t.r2t_next, n)
        t.r2t_next += n
        t.r2t_sn += 1
        tx_pdu(r, t.conn, h, NULL, 0, NULL, False)


cdef void send_r2t_again(lnt_reactor *r, lnt_task *t, uint32_t sn) noexcept nogil:
    # An exact replica of one of the last R2Ts (RFC 7143 §11.16).
    cdef uint8_t h[48]
    cdef lnt_r2t *was = &t.again.r2ts[sn % R2T_KEPT]
    bhs_r2t(h, t.lun_field, t.itt, r2t_tag(t, sn), sn, was.offset, was.length)
    t.conn.resent += 1
    tx_pdu(r, t.conn, h, NULL, 0, NULL, False)


# -- receiving -------------------------------------------------------------------------------------------------------

cdef lnt_task *find_by_ttt(lnt_reactor *r, lnt_conn *c, uint32_t ttt, bint *stale) noexcept nogil:
    cdef uint32_t index = ttt & 0x3fff
    cdef uint32_t age
    cdef lnt_task *t
    stale[0] = False
    if index >= r.max_tasks or ttt >> 31:
        return NULL
    t = &r.tasks[index]
    age = ((t.generation & 0x1ff) - (ttt >> 22)) & 0x1ff
    if age or t.state != T_DATA or t.conn != c:
        stale[0] = age <= 8             # answers to an R2T of a task that ended meanwhile: swallowed
        return NULL
    if c.recovery and ((t.r2t_done - 1 - (ttt >> 14)) & 0xff) < 16 and t.r2t_done:
        stale[0] = True                 # to one that a recovery R2T has replaced
        return NULL
    if (ttt >> 14 & 0xff) != (t.r2t_done & 0xff) or t.r2t_done >= t.r2t_sn:
        return NULL
    return t


cdef void on_data_out(lnt_reactor *r, lnt_conn *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    cdef uint32_t itt = get32(h + 16)
    cdef uint32_t ttt = get32(h + 20)
    cdef uint32_t offset = get32(h + 40)
    cdef bint stale = False
    cdef lnt_task *t
    if ttt == <uint32_t>TAG_NONE:
        t = task_by_itt(c.session, itt)
        stale = t == NULL and c.recovery      # its command was lost and will come again, with its data
        if t != NULL and (t.conn != c or t.state != T_DATA or t.is_pdu or not t.unsolicited):
            t = NULL
    else:
        t = find_by_ttt(r, c, ttt, &stale)
        if t != NULL and (t.itt != itt or lun_number(h + 8) != lun_number(t.lun_field)):
            t = NULL
    if t == NULL:
        if not stale:
            tx_reject(r, c, REJECT_INVALID_FIELD, h)
        return
    c.rx_task = t
    t.receiving = 1
    if not t.fail:
        if get32(h + 36) != t.data_sn or offset != t.got:
            if c.recovery:
                t.gap = 1                     # one before it was lost: the rest of the sequence is asked for again
            else:
                t.fail = FAIL_AMOUNT
        elif dsl > t.sequence_end - t.got:
            t.fail = FAIL_AMOUNT
    if t.fail or t.gap:
        return
    t.data_sn += 1
    if t.buf != NULL and t.got < t.want:
        c.dst = t.buf + t.got
        c.dst_left = dsl if dsl < t.want - t.got else t.want - t.got


cdef void end_sequence(lnt_task *t) noexcept nogil:
    # The F bit, or all the sequence may hold. What is missing of it is asked for with a recovery R2T, which takes the next
    # R2TSN and begins at the first byte that was lost (RFC 7143 §7.8, §7.9).
    cdef uint32_t left
    t.data_sn = 0
    if t.unsolicited:
        t.unsolicited = 0
        t.gap = 0
        return
    t.r2t_done += 1
    if t.gap:
        t.gap = 0
        if not t.fail:
            t.conn.recovery_r2ts += 1
            t.r2t_next = t.got
            t.r2t_again = t.sequence_end
        return
    if not t.fail and t.got != t.sequence_end:
        t.fail = FAIL_AMOUNT
    left = t.want - t.got if t.want > t.got else 0
    t.sequence_end = t.got + (left if left < t.session.max_burst else t.session.max_burst)


cdef bint data_arrived(lnt_reactor *r, lnt_conn *c, lnt_task *t, const uint8_t *h, bint intact) noexcept nogil:
    # A payload for a task (immediate data or Data-Out) is complete. False when the task cannot live without it.
    cdef bint data_out = (h[0] & OPCODE_MASK) == OP_DATA_OUT
    if not intact:
        tx_reject(r, c, REJECT_DATA_DIGEST, h)
        if not c.recovery:
            t.fail = FAIL_DIGEST
        elif not data_out:
            return False                      # an immediate command
        t.gap = c.recovery != 0
    if t.is_pdu:
        t.got = c.data_length
        if not intact:
            t.want = 0
    elif not t.fail and not t.gap:
        t.got += c.data_length
    if data_out and (h[1] & CMD_FINAL or (not t.fail and not t.gap and t.got == t.sequence_end)):
        if t.gap:
            t.again.recoveries += 1
            if t.again.recoveries > RECOVERIES_MAX and not t.fail:
                t.fail = FAIL_DIGEST
        end_sequence(t)
    return True
