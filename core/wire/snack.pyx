"""SNACK requests: recovery within a command and within a connection at ErrorRecoveryLevel 1.

RFC 7143 §7.1.4.1, §7.1.4.2, §11.16.

Owns nothing: it decides what core/wire/kept.pyx and core/wire/data_out.pyx send again.
"""
from core.wire.data_in cimport data_in_renumber, data_in_restart
from core.wire.data_out cimport send_r2t_again
from core.wire.kept cimport data_in_count, kept_acked, kept_drop_data, kept_recut, task_total
from core.wire.nexus cimport HOLDS_MAX, R2T_KEPT, T_DATA, T_SEND, lnt_send
from core.wire.pdu cimport (
    BHS_BEGIN_RUN, BHS_FLAGS, BHS_ITT, BHS_LUN, BHS_RUN_LENGTH, BHS_SNACK_TAG, BHS_TTT, REJECT_INVALID_ACK, REJECT_PROTOCOL,
    REJECT_SNACK, TAG_NONE, get_be32, lun_number, sn_le, sn_lt,
)
from core.wire.send cimport send_again, send_reject, send_reject_at
from core.wire.transfer_tag cimport ack_tag, slot_of_tag

cdef enum:
    SNACK_DATA = 0
    SNACK_STATUS = 1
    SNACK_DATA_ACK = 2
    SNACK_R_DATA = 3


cdef lnt_task *named(lnt_connection *c, uint32_t itt) noexcept nogil:
    # The youngest task of this tag: one that only waits for its acknowledgement may share it with a newer one.
    cdef lnt_task *t = c.tasks
    while t != NULL and (t.itt != itt or t.is_pdu):
        t = t.connection_next
    return t


cdef bint run_within(uint32_t begin, uint32_t length, uint32_t first, uint32_t after, uint32_t *end) noexcept nogil:
    # Whether begin and length (0: all from there) lie between `first` and `after`; the end of the run.
    end[0] = begin + length if length else after
    return sn_le(first, begin) and sn_lt(begin, end[0]) and sn_le(end[0], after)


cdef void snack_r2t(lnt_reactor *r, lnt_connection *c, lnt_task *t, const uint8_t *h) noexcept nogil:
    cdef uint32_t begin = get_be32(h + BHS_BEGIN_RUN)
    cdef uint32_t end
    cdef uint32_t first = t.out.r2t_sn - R2T_KEPT if t.out.r2t_sn > R2T_KEPT else 0
    if begin == 0 and get_be32(h + BHS_RUN_LENGTH) == 0:
        begin = t.out.r2t_done                    # all that are not answered
        if begin == t.out.r2t_sn:
            return
    if not run_within(begin, get_be32(h + BHS_RUN_LENGTH), first, t.out.r2t_sn, &end):
        send_reject_at(r, c, REJECT_PROTOCOL, h, t.out.r2t_sn)
        return
    while begin != end:
        send_r2t_again(r, t, begin)
        begin += 1


cdef void snack_data(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    cdef lnt_task *t = named(c, get_be32(h + BHS_ITT))
    cdef uint32_t begin = get_be32(h + BHS_BEGIN_RUN)
    cdef uint32_t end
    if t == NULL or t.early:
        send_reject(r, c, REJECT_PROTOCOL, h)
        return
    if t.state == T_DATA:
        snack_r2t(r, c, t, h)
        return
    if begin == 0 and get_be32(h + BHS_RUN_LENGTH) == 0:
        begin = t.kept.acked_sn
        if begin == t.data_in.data_sn:
            return
    if t.state != T_SEND or not run_within(begin, get_be32(h + BHS_RUN_LENGTH), t.kept.acked_sn, t.data_in.data_sn, &end):
        send_reject_at(r, c, REJECT_PROTOCOL, h, t.data_in.data_sn if t.data_in.data_sn else t.out.r2t_sn)
    elif t.kept.dropped or t.kept.mixed or t.kept.segment != c.max_send or t.send.holds >= HOLDS_MAX:
        send_reject(r, c, REJECT_SNACK, h)      # given up for room, or to be asked for with R-Data
    else:
        send_again(r, c, &t.send, begin, end, False)


cdef void snack_r_data(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    # All data that is not acknowledged, cut anew, and the response with the SNACK Tag (RFC 7143 §11.16.3).
    cdef lnt_task *t = named(c, get_be32(h + BHS_ITT))
    cdef uint32_t tag = get_be32(h + BHS_SNACK_TAG)
    if (t == NULL or tag == 0 or tag == <uint32_t>TAG_NONE or get_be32(h + BHS_BEGIN_RUN)
            or get_be32(h + BHS_RUN_LENGTH) or t.state != T_SEND):
        send_reject(r, c, REJECT_PROTOCOL, h)
        return
    if ((t.kept.dropped and t.kept.acked_offset < task_total(t)) or t.send.holds >= HOLDS_MAX
            or (t.kept.mixed and t.kept.acked_sn)):
        send_reject(r, c, REJECT_SNACK, h)
        return
    kept_recut(t, tag)
    if t.send.kept:
        data_in_renumber(t, data_in_count(t))
        send_again(r, c, &t.send, t.kept.base_sn, t.data_in.data_sn, True)
    else:
        data_in_restart(t, t.kept.base_sn, t.kept.base_offset)     # it is still queued: from there once more


cdef void data_ack(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    cdef uint32_t ttt = get_be32(h + BHS_TTT)
    cdef uint32_t begin = get_be32(h + BHS_BEGIN_RUN)
    cdef lnt_task *t = slot_of_tag(r, ttt)
    if (t == NULL or t.state != T_SEND or t.connection != c or ack_tag(t) != ttt or get_be32(h + BHS_ITT) != <uint32_t>TAG_NONE
            or lun_number(h + BHS_LUN) != lun_number(t.lun_field) or get_be32(h + BHS_RUN_LENGTH)
            or not sn_le(t.kept.acked_sn, begin) or not sn_le(begin, t.data_in.data_sn)):
        send_reject(r, c, REJECT_INVALID_ACK, h)
        return
    if t.kept.mixed:
        return                                # which byte that is, is not known any more: it frees nothing
    kept_acked(t, begin)
    if begin == t.data_in.data_sn and t.send.kept and t.send.holds == 0 and not t.kept.dropped:
        kept_drop_data(r, &t.send)


cdef void snack_status(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    cdef uint32_t begin = get_be32(h + BHS_BEGIN_RUN)
    cdef uint32_t end
    cdef lnt_send *x = c.kept.head
    if begin == 0 and get_be32(h + BHS_RUN_LENGTH) == 0:
        begin = c.kept.exp_stat_sn
        if begin == c.stat_sn:
            return
    if (get_be32(h + BHS_ITT) != <uint32_t>TAG_NONE
            or not run_within(begin, get_be32(h + BHS_RUN_LENGTH), c.kept.exp_stat_sn, c.stat_sn, &end)):
        send_reject(r, c, REJECT_PROTOCOL, h)
        return
    if x == NULL or sn_lt(begin, x.stat_sn):
        send_reject(r, c, REJECT_SNACK, h)
        return
    while x != NULL and sn_lt(x.stat_sn, end):
        if sn_le(begin, x.stat_sn) and x.holds < HOLDS_MAX:
            send_again(r, c, x, 0, 0, True)
        x = x.next


cdef void snack_request(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    # One SNACK request. What was acknowledged or never sent is a protocol error, what is no longer held a SNACK reject.
    cdef uint8_t kind = h[BHS_FLAGS] & 0x0f
    c.traffic.snacks += 1
    if kind == SNACK_DATA:
        snack_data(r, c, h)
    elif kind == SNACK_STATUS:
        snack_status(r, c, h)
    elif kind == SNACK_DATA_ACK:
        data_ack(r, c, h)
    elif kind == SNACK_R_DATA:
        snack_r_data(r, c, h)
    else:
        send_reject(r, c, REJECT_PROTOCOL, h)
