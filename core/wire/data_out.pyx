"""Data-Out: what is asked for with R2T, where it lands, and how what was lost of it is asked for again.

Lives here and nowhere else: `lnt_task.out` (RFC 7143 §11.7, §11.8; at ErrorRecoveryLevel 1 also §7.8, §7.9).
"""
from core.wire.connection cimport connection_close
from core.wire.delay cimport delay_active
from core.wire.kept cimport kept_r2t, kept_recovered
from core.wire.nexus cimport CLOSE_ERROR, FAIL_AMOUNT, FAIL_DIGEST, FAIL_UNSOLICITED, R2T_KEPT, T_DATA, lnt_r2t, lnt_session
from core.wire.operations cimport FAST_WRITE
from core.wire.payload cimport payload_into, payload_lies
from core.wire.pdu cimport (
    BHS_BUFFER_OFFSET, BHS_BYTES, BHS_DATA_SN, BHS_FLAGS, BHS_ITT, BHS_LUN, BHS_OPCODE, BHS_TTT, CMD_FINAL, CMD_WRITE,
    OPCODE_MASK, OP_DATA_OUT, REJECT_DATA_DIGEST, REJECT_INVALID_FIELD, TAG_NONE, bhs_r2t, get_be32, lun_number,
)
from core.wire.send cimport send_pdu, send_reject
from core.wire.task cimport task_buffer, task_by_itt
from core.wire.transfer_tag cimport is_r2t_tag, r2t_tag, r2t_tag_age, r2ts_since, slot_of_tag

cdef enum:
    RECOVERIES_MAX = 64               # recovery R2Ts of one task for damaged Data-Out
    STALE_AGE = 8                     # Data-Out for a task that was the slot's so many tasks ago may still be on its way ...
    STALE_R2TS = 16                   # ... as may that for an R2T of the same task that was answered so many R2Ts ago


cdef inline bint may_lie(lnt_reactor *r, lnt_connection *c, lnt_task *t, uint32_t dsl) noexcept nogil:
    # All that a WRITE takes stands in one receive buffer, and is copied from there to the medium: no buffer of its own is needed
    # if it runs as soon as the PDU is complete (command_takes).
    return (r.disk.copies and t.kind == FAST_WRITE and dsl == t.out.want and dsl <= c.receive.ahead and not c.recovery
            and not delay_active(t.lun))


# -- planning ---------------------------------------------------------------------------------------------------------

cdef void data_out_plan(lnt_reactor *r, lnt_connection *c, lnt_task *t, uint32_t dsl) noexcept nogil:
    # Unsolicited data: how much may come, with the command and behind it, and where it goes.
    cdef lnt_session *s = t.session
    cdef bint more = not (t.flags & CMD_FINAL)
    cdef uint32_t limit = s.negotiated.first_burst_length if s.negotiated.first_burst_length < t.edtl else t.edtl
    cdef uint32_t first
    if not (t.flags & CMD_WRITE):
        if dsl:
            t.fail = FAIL_UNSOLICITED
        return
    if (dsl and not s.negotiated.immediate_data) or (more and s.negotiated.initial_r2t):
        t.fail = FAIL_UNSOLICITED
    elif dsl > limit:
        t.fail = FAIL_AMOUNT
    t.out.sequence_end = limit
    t.out.unsolicited = more and not s.negotiated.initial_r2t and t.edtl > 0
    if t.fail or t.out.want == 0 or not (dsl or t.out.unsolicited):
        return
    if may_lie(r, c, t, dsl):
        payload_lies(c, c.receive.behind)
        return
    first = limit if t.out.unsolicited else dsl
    if first > t.out.want:
        first = t.out.want
    # What a limit may make wait holds no more than has come.
    if (delay_active(t.lun) or not task_buffer(r, t, t.out.want, False)) and not task_buffer(r, t, first, True):
        connection_close(r, c, CLOSE_ERROR, "out of memory")


# -- asking ----------------------------------------------------------------------------------------------------------

cdef void data_out_solicit(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # R2Ts up to MaxOutstandingR2T, each at most MaxBurstLength, in order.
    cdef uint8_t h[BHS_BYTES]
    cdef uint32_t n
    cdef uint32_t burst = t.session.negotiated.max_burst_length
    if t.out.r2t_sn == 0:
        t.out.r2t_base = t.out.got
        t.out.r2t_next = t.out.got
        t.out.data_sn = 0
        t.out.sequence_end = t.out.want if t.out.want - t.out.got < burst else t.out.got + burst
    while t.out.r2t_next < t.out.want and t.out.r2t_sn - t.out.r2t_done < t.session.negotiated.max_outstanding_r2t:
        n = t.out.want - t.out.r2t_next
        if n > burst:
            n = burst
        if t.out.r2t_again:
            n = t.out.r2t_again - t.out.r2t_next
            t.out.r2t_again = 0
        if t.session.negotiated.error_recovery_level:
            kept_r2t(t, t.out.r2t_sn, t.out.r2t_next, n)
        bhs_r2t(h, t.lun_field, t.itt, r2t_tag(t, t.out.r2t_sn), t.out.r2t_sn, t.out.r2t_next, n)
        t.out.r2t_next += n
        t.out.r2t_sn += 1
        send_pdu(r, t.connection, h, NULL, 0, NULL, False)


cdef void send_r2t_again(lnt_reactor *r, lnt_task *t, uint32_t sn) noexcept nogil:
    # An exact replica of one of the last R2Ts (RFC 7143 §11.16).
    cdef uint8_t h[BHS_BYTES]
    cdef lnt_r2t *was = &t.kept.r2ts[sn % R2T_KEPT]
    bhs_r2t(h, t.lun_field, t.itt, r2t_tag(t, sn), sn, was.offset, was.length)
    t.connection.traffic.resent += 1
    send_pdu(r, t.connection, h, NULL, 0, NULL, False)


# -- receiving -------------------------------------------------------------------------------------------------------


cdef lnt_task *task_by_ttt(lnt_reactor *r, lnt_connection *c, uint32_t ttt, bint *stale) noexcept nogil:
    # The task whose next sequence an R2T of this tag asked for. `stale`: it belongs to one that is over.
    cdef uint32_t age
    cdef lnt_task *t = slot_of_tag(r, ttt) if is_r2t_tag(ttt) else NULL
    stale[0] = False
    if t == NULL:
        return NULL
    age = r2t_tag_age(t, ttt)
    if age or t.state != T_DATA or t.connection != c:
        stale[0] = age <= STALE_AGE     # answers to an R2T of a task that ended meanwhile: swallowed
        return NULL
    if c.recovery and t.out.r2t_done and r2ts_since(ttt, t.out.r2t_done - 1) < STALE_R2TS:
        stale[0] = True                 # to one that a recovery R2T has replaced
        return NULL
    if r2ts_since(ttt, t.out.r2t_done) or t.out.r2t_done >= t.out.r2t_sn:
        return NULL
    return t


cdef void on_data_out(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    cdef uint32_t itt = get_be32(h + BHS_ITT)
    cdef uint32_t ttt = get_be32(h + BHS_TTT)
    cdef uint32_t offset = get_be32(h + BHS_BUFFER_OFFSET)
    cdef bint stale = False
    cdef lnt_task *t
    if ttt == <uint32_t>TAG_NONE:
        t = task_by_itt(c.session, itt)
        stale = t == NULL and c.recovery      # its command was lost and will come again, with its data
        if t != NULL and (t.connection != c or t.state != T_DATA or t.is_pdu or not t.out.unsolicited):
            t = NULL
    else:
        t = task_by_ttt(r, c, ttt, &stale)
        if t != NULL and (t.itt != itt or lun_number(h + BHS_LUN) != lun_number(t.lun_field)):
            t = NULL
    if t == NULL:
        if not stale:
            send_reject(r, c, REJECT_INVALID_FIELD, h)
        return
    data_out_receiving(c, t)
    if not t.fail:
        if get_be32(h + BHS_DATA_SN) != t.out.data_sn or offset != t.out.got:
            if c.recovery:
                t.out.gap = 1                     # one before it was lost: the rest of the sequence is asked for again
            else:
                t.fail = FAIL_AMOUNT
        elif dsl > t.out.sequence_end - t.out.got:
            t.fail = FAIL_AMOUNT
    if t.fail or t.out.gap:
        return
    t.out.data_sn += 1
    if t.buffer != NULL and t.out.got < t.out.want:
        payload_into(c, t.buffer + t.out.got, dsl if dsl < t.out.want - t.out.got else t.out.want - t.out.got)


cdef void end_sequence(lnt_task *t) noexcept nogil:
    # The F bit, or all the sequence may hold. What is missing of it is asked for with a recovery R2T, which takes the next
    # R2TSN and begins at the first byte that was lost (RFC 7143 §7.8, §7.9).
    cdef uint32_t left
    t.out.data_sn = 0
    if t.out.unsolicited:
        t.out.unsolicited = 0
        t.out.gap = 0
        return
    t.out.r2t_done += 1
    if t.out.gap:
        t.out.gap = 0
        if not t.fail:
            t.connection.traffic.recovery_r2ts += 1
            t.out.r2t_next = t.out.got
            t.out.r2t_again = t.out.sequence_end
        return
    if not t.fail and t.out.got != t.out.sequence_end:
        t.fail = FAIL_AMOUNT
    left = t.out.want - t.out.got if t.out.want > t.out.got else 0
    if left > t.session.negotiated.max_burst_length:
        left = t.session.negotiated.max_burst_length
    t.out.sequence_end = t.out.got + left


cdef bint data_arrived(lnt_reactor *r, lnt_connection *c, lnt_task *t, const uint8_t *h, bint intact) noexcept nogil:
    # A payload for a task (immediate data or Data-Out) is complete. False when the task cannot live without it.
    cdef bint data_out = (h[BHS_OPCODE] & OPCODE_MASK) == OP_DATA_OUT
    if not intact:
        send_reject(r, c, REJECT_DATA_DIGEST, h)
        if not c.recovery:
            t.fail = FAIL_DIGEST
        elif not data_out:
            return False                      # an immediate command
        t.out.gap = c.recovery != 0
    if t.is_pdu:
        t.out.got = c.receive.data_length
        if not intact:
            t.out.want = 0
    elif not t.fail and not t.out.gap:
        t.out.got += c.receive.data_length
    if data_out and (h[BHS_FLAGS] & CMD_FINAL or (not t.fail and not t.out.gap and t.out.got == t.out.sequence_end)):
        if t.out.gap:
            if kept_recovered(t) > RECOVERIES_MAX and not t.fail:
                t.fail = FAIL_DIGEST
        end_sequence(t)
    return True
