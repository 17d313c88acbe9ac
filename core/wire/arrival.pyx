"""What a PDU from the initiator means once its header is here: commands become tasks, the rest waits to be complete.

Owns nothing: numbering, tasks and payloads have their own modules; this one decides what becomes of a PDU (RFC 7143 §4.2.2.1
command numbering, §11 formats, §7 error handling).
"""
from core.base.memory cimport mem_new
from core.wire.answer cimport STATUS_TASK_SET_FULL
from core.wire.command cimport command_plan, task_step
from core.wire.connection cimport connection_close
from core.wire.data_out cimport data_out_immediate, data_out_plan, data_out_receiving, on_data_out
from core.wire.keepalive cimport keepalive_answered
from core.wire.lun cimport lun_find
from core.wire.mailbox cimport event_new, event_post
from core.wire.nexus cimport (
    CLOSE_ERROR, CLOSE_PROTOCOL, CONNECTION_OPEN, EVENTS_MAX, EV_PDU, IMMEDIATE_MAX, lnt_event, lnt_session,
)
from core.wire.numbering cimport (
    PLACE_DROP, PLACE_EARLY, PLACE_NOW, numbering_advance, numbering_count, numbering_insert, numbering_next, numbering_place,
    numbering_plugged,
)
from core.wire.pacing cimport pacing_heard
from core.wire.payload cimport payload_drop, payload_into, payload_into_heap, payload_take_heap
from core.wire.pdu cimport (
    BHS_AHS_WORDS, BHS_BYTES, BHS_CMD_SN, BHS_EDTL, BHS_EXP_STAT_SN, BHS_FLAGS, BHS_ITT, BHS_LUN, BHS_OPCODE, BHS_TTT,
    OPCODE_IMMEDIATE, OPCODE_MASK, OP_DATA_OUT, OP_LOGIN_REQUEST, OP_LOGOUT_REQUEST, OP_NOP_OUT, OP_SCSI_COMMAND, OP_SNACK,
    OP_TEXT_REQUEST, OP_TMF_REQUEST, REJECT_DATA_DIGEST, REJECT_IMMEDIATE, REJECT_INVALID_FIELD, REJECT_IN_PROGRESS,
    REJECT_NOT_SUPPORTED, REJECT_PROTOCOL, TAG_NONE, bhs_nop_in, bhs_scsi_response, get_be16, get_be32, lun_number, sn_le, sn_lt,
)
from core.wire.send cimport send_pdu, send_reject
from core.wire.snack cimport snack_request
from core.wire.task cimport task_buffer, task_by_itt, task_free, task_hash, task_join_lun, task_new
from core.wire.task_set cimport task_turn
from core.wire.thread cimport ACQUIRE, lnt_add32
from libc.stdlib cimport free
from libc.string cimport memcpy

# -- turns -----------------------------------------------------------------------------------------------------------

cdef void release_early(lnt_reactor *r, lnt_session *s) noexcept nogil:
    # ExpCmdSN moved: commands that waited for it take their turn.
    cdef lnt_task *t = numbering_next(s)
    while t != NULL:
        task_turn(t)
        task_step(r, t)
        t = numbering_next(s)


cdef inline void take_turn(lnt_reactor *r, lnt_session *s, const uint8_t *h) noexcept nogil:
    if numbering_advance(s, h):
        release_early(r, s)


cdef void abort_missing(lnt_reactor *r, lnt_abort *a) noexcept nogil:
    # ABORT TASK for a command that has not come but may: its CmdSN counts as received (RFC 7143 §11.6.1).
    cdef lnt_connection *c = r.connections
    cdef lnt_session *s
    cdef lnt_task *t
    if a.count or not a.has_missing:
        return
    while c != NULL and (c.session.handle != a.session or c.state != CONNECTION_OPEN):
        c = c.next
    if c == NULL:
        return
    s = c.session
    if sn_lt(a.missing_cmd_sn, s.numbering.exp_cmd_sn) or not sn_le(a.missing_cmd_sn, s.numbering.max_cmd_sn):
        return
    t = task_new(r, c)
    if t == NULL:
        return
    t.cmd_sn = a.missing_cmd_sn
    if not numbering_insert(s, t):
        task_free(r, t)
        return
    t.aborted = 1
    numbering_count(t)
    a.count = 1
    release_early(r, s)


cdef inline bint defers(lnt_connection *c, const uint8_t *h) noexcept nogil:
    # A command whose data segment may prove damaged must not count as received before (RFC 7143 §7.8).
    return c.recovery and c.data_digest and not (h[BHS_OPCODE] & OPCODE_IMMEDIATE)


cdef void settle_deferred(lnt_reactor *r, lnt_connection *c, lnt_task *t, const uint8_t *h, bint intact) noexcept nogil:
    t.deferred = 0
    if not intact:
        send_reject(r, c, REJECT_DATA_DIGEST, h)
        task_free(r, t)                       # its CmdSN stays due: the initiator sends it again
        return
    if t.is_pdu or not t.fail:
        data_out_immediate(t, c.receive.data_length)
    release_early(r, t.session)


# -- SCSI Command ----------------------------------------------------------------------------------------------------

cdef bint ahs_sound(const uint8_t *ahs, uint32_t length) noexcept nogil:
    # Checks the chain of additional header segments (RFC 7143 §11.2.2); False when a length lies.
    cdef uint32_t at = 0
    cdef uint32_t n
    while at < length:
        if length - at < 4:
            return False
        n = get_be16(ahs + at)
        if n == 0 or n + 3 > length - at:
            return False
        at += (n + 3 + 3) & ~<uint32_t>3
    return True


cdef bint ahs_keep(lnt_task *t, const uint8_t *ahs, uint32_t length) noexcept nogil:
    # False: there is no memory.
    t.ahs = <uint8_t *>mem_new(length)
    if t.ahs == NULL:
        return False
    memcpy(t.ahs, ahs, length)
    t.ahs_length = length
    return True


cdef void refuse_full(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    cdef uint8_t b[BHS_BYTES]
    bhs_scsi_response(b, get_be32(h + BHS_ITT), 0, STATUS_TASK_SET_FULL, 0, 0, 0, 0)
    send_pdu(r, c, b, NULL, 0, NULL, False)


cdef lnt_task *command_new(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    # A task for this command, with what its header says of it; NULL when all slots are taken.
    cdef lnt_task *t = task_new(r, c)
    if t == NULL:
        return NULL
    t.itt = get_be32(h + BHS_ITT)
    t.cmd_sn = get_be32(h + BHS_CMD_SN)
    t.immediate = (h[BHS_OPCODE] & OPCODE_IMMEDIATE) != 0
    t.flags = h[BHS_FLAGS]
    t.edtl = get_be32(h + BHS_EDTL)
    memcpy(t.bhs, h, BHS_BYTES)
    memcpy(t.lun_field, h + BHS_LUN, 8)
    return t


cdef bint pdu_refused(lnt_reactor *r, lnt_connection *c, const uint8_t *h, lnt_place place) noexcept nogil:
    # A tag that is reserved or in use, or too many immediate commands. True when the command ends here.
    cdef uint32_t itt = get_be32(h + BHS_ITT)
    cdef lnt_task *t = task_by_itt(c.session, itt)
    if t != NULL and t.early and place == PLACE_EARLY and t.cmd_sn == get_be32(h + BHS_CMD_SN):
        return True                     # sent again although it arrived: ignored without a trace
    if itt == <uint32_t>TAG_NONE or t != NULL:
        send_reject(r, c, REJECT_INVALID_FIELD if itt == <uint32_t>TAG_NONE else REJECT_IN_PROGRESS, h)
        if place == PLACE_NOW:
            take_turn(r, c.session, h)
        return True
    if h[BHS_OPCODE] & OPCODE_IMMEDIATE and c.session.numbering.immediates >= IMMEDIATE_MAX:
        send_reject(r, c, REJECT_IMMEDIATE, h)
        return True
    return False


cdef lnt_place receive_data(lnt_connection *c, lnt_task *t, const uint8_t *h, uint32_t dsl, lnt_place place) noexcept nogil:
    # Immediate data follow. A command whose data may prove damaged takes its turn when they have not.
    data_out_receiving(c, t)
    if not t.fail and t.buffer != NULL:
        payload_into(c, t.buffer, dsl if dsl < t.out.want else t.out.want)
    if not defers(c, h):
        return place
    t.deferred = 1
    if place == PLACE_NOW:
        numbering_insert(t.session, t)  # numbering_place saw that the place is free
    return PLACE_EARLY


cdef void on_command(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    cdef lnt_session *s = c.session
    cdef lnt_place place = numbering_place(s, h)
    cdef lnt_task *t
    if place == PLACE_DROP or pdu_refused(r, c, h, place):
        return
    t = command_new(r, c, h)
    if t == NULL:
        if place == PLACE_NOW:
            take_turn(r, s, h)
            refuse_full(r, c, h)
        return
    if place == PLACE_EARLY and not numbering_insert(s, t):
        task_free(r, t)
        return
    numbering_count(t)
    task_hash(t)
    if numbering_plugged(s, t):
        # Counts as received, does nothing. Early ones keep their place until their turn.
        t.aborted = 1
        if place == PLACE_NOW:
            task_free(r, t)
            take_turn(r, s, h)
        return
    task_join_lun(t, lun_find(s, lun_number(t.lun_field)))
    if h[BHS_AHS_WORDS] and not ahs_sound(h + BHS_BYTES, <uint32_t>h[BHS_AHS_WORDS] * 4):
        send_reject(r, c, REJECT_INVALID_FIELD, h)
        task_free(r, t)
        if place == PLACE_NOW:
            take_turn(r, s, h)
        return
    if h[BHS_AHS_WORDS] and not ahs_keep(t, h + BHS_BYTES, <uint32_t>h[BHS_AHS_WORDS] * 4):
        connection_close(r, c, CLOSE_ERROR, "out of memory")
        return
    command_plan(r, t)
    data_out_plan(r, c, t, dsl)
    if dsl:
        place = receive_data(c, t, h, dsl, place)
    if place == PLACE_NOW:
        task_turn(t)
        task_step(r, t)
        take_turn(r, s, h)              # those that waited for it come after it


# -- everything else -------------------------------------------------------------------------------------------------

cdef void on_early_pdu(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    # A numbered PDU ahead of its turn waits as a task.
    cdef lnt_task *t = task_new(r, c)
    if t == NULL:
        return
    t.cmd_sn = get_be32(h + BHS_CMD_SN)
    t.is_pdu = 1
    memcpy(t.bhs, h, BHS_BYTES)
    memcpy(t.lun_field, h + BHS_LUN, 8)
    if not numbering_insert(c.session, t):
        task_free(r, t)
        return
    numbering_count(t)
    if dsl == 0:
        return
    if not task_buffer(r, t, dsl, True):
        connection_close(r, c, CLOSE_ERROR, "out of memory")
        return
    data_out_receiving(c, t)
    t.deferred = defers(c, h)
    payload_into(c, t.buffer, dsl)


cdef void on_other(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    # NOP-Out, Text, Logout, TMF, SNACK: kept whole and handled when complete.
    cdef lnt_place place = PLACE_NOW
    cdef uint8_t opcode = h[BHS_OPCODE] & OPCODE_MASK
    cdef uint8_t *heap
    if opcode != OP_SNACK:
        place = numbering_place(c.session, h)
    if place == PLACE_DROP:
        payload_drop(c)
        return
    if place == PLACE_EARLY or (dsl and defers(c, h)):
        payload_drop(c)
        on_early_pdu(r, c, h, dsl)
        return
    if opcode != OP_SNACK:
        take_turn(r, c.session, h)
    if dsl:
        heap = <uint8_t *>mem_new(dsl)
        if heap == NULL:
            connection_close(r, c, CLOSE_ERROR, "out of memory")
            return
        payload_into_heap(c, heap, dsl)


cdef void on_nop_out(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint8_t *data) noexcept nogil:
    # An answer to our ping, or a ping to echo (RFC 7143 §11.18, §11.19). Takes the data.
    cdef uint8_t b[BHS_BYTES]
    cdef uint32_t n = c.receive.data_length if c.receive.data_length < c.max_send else c.max_send
    if get_be32(h + BHS_TTT) != <uint32_t>TAG_NONE and get_be32(h + BHS_TTT) == c.keepalive.ttt:
        keepalive_answered(r, c)
    if get_be32(h + BHS_ITT) == <uint32_t>TAG_NONE:
        free(data)
        return
    bhs_nop_in(b, h + BHS_LUN, get_be32(h + BHS_ITT), <uint32_t>TAG_NONE, n)
    send_pdu(r, c, b, data, n if data != NULL else 0, data, False)


cdef void on_pdu_complete(lnt_reactor *r, lnt_connection *c, const uint8_t *h, bint intact) noexcept nogil:
    cdef uint8_t opcode = h[BHS_OPCODE] & OPCODE_MASK
    cdef uint8_t *data = payload_take_heap(c)
    cdef lnt_event *e
    if not intact:
        send_reject(r, c, REJECT_DATA_DIGEST, h)
        free(data)
        return
    if opcode == OP_NOP_OUT:
        on_nop_out(r, c, h, data)
        return
    e = event_new(EV_PDU, c.receive.data_length)
    if e == NULL or lnt_add32(&c.pending_events, 1, ACQUIRE) > EVENTS_MAX:
        connection_close(r, c, CLOSE_ERROR if e == NULL else CLOSE_PROTOCOL,
                         "out of memory" if e == NULL else "too many requests at once")
        free(e)
        free(data)
        return
    e.session = c.session.handle
    e.connection = c.handle
    e.object = c
    memcpy(e.bhs, h, BHS_BYTES)
    if c.receive.data_length:
        memcpy(<uint8_t *>(e + 1), data, c.receive.data_length)
    free(data)
    event_post(r, e)


# -- every PDU -------------------------------------------------------------------------------------------------------

cdef void on_opcode(lnt_reactor *r, lnt_connection *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    # What the header at h begins; its data segment of dsl bytes follows (RFC 7143 §11.2.1.2).
    cdef uint8_t opcode = h[BHS_OPCODE] & OPCODE_MASK
    if opcode == OP_SCSI_COMMAND:
        pacing_heard(r, c, get_be32(h + BHS_EXP_STAT_SN))
        on_command(r, c, h, dsl)
    elif opcode == OP_DATA_OUT:
        on_data_out(r, c, h, dsl)
    elif opcode == OP_SNACK and c.recovery:
        payload_drop(c)
        snack_request(r, c, h)
    elif h[BHS_AHS_WORDS] and opcode != OP_SNACK:
        payload_drop(c)
        send_reject(r, c, REJECT_INVALID_FIELD, h)
    elif opcode == OP_NOP_OUT and get_be32(h + BHS_ITT) == <uint32_t>TAG_NONE and not (h[BHS_OPCODE] & OPCODE_IMMEDIATE):
        payload_drop(c)
        send_reject(r, c, REJECT_PROTOCOL, h)
    elif (opcode == OP_NOP_OUT or opcode == OP_TEXT_REQUEST or opcode == OP_TMF_REQUEST
          or opcode == OP_LOGOUT_REQUEST or opcode == OP_SNACK):
        on_other(r, c, h, dsl)
    elif opcode == OP_LOGIN_REQUEST:
        connection_close(r, c, CLOSE_PROTOCOL, "login request in full-feature phase")
    else:
        payload_drop(c)
        send_reject(r, c, REJECT_NOT_SUPPORTED, h)
