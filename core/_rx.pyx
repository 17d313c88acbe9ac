# The receive side of a connection: bytes become PDUs in place, commands become tasks in CmdSN order, Data-Out lands in its
# task's buffer (RFC 7143 §4.2.2.1 command numbering, §11 formats, §7 error handling).

from core._command cimport command_plan, task_step
from core._data_out cimport data_arrived, on_data_out
from core._pdu cimport (
    BHS_BYTES, CMD_FINAL, CMD_WRITE, OP_DATA_OUT, OP_LOGIN_REQUEST, OP_LOGOUT_REQUEST,
    OP_NOP_OUT, OP_SCSI_COMMAND, OP_SNACK, OP_TEXT_REQUEST, OP_TMF_REQUEST, OPCODE_IMMEDIATE, OPCODE_MASK,
    REJECT_DATA_DIGEST, REJECT_IMMEDIATE, REJECT_IN_PROGRESS, REJECT_INVALID_FIELD, REJECT_NOT_SUPPORTED,
    REJECT_PROTOCOL, TAG_NONE, bhs_nop_in, bhs_scsi_response, get16, get24, get32, lun_number, pad4, sn_le, sn_lt,
)
from core._session cimport (
    ACQUIRE, C_OPEN, CLOSE_DIGEST, CLOSE_ERROR, CLOSE_PEER, CLOSE_PROTOCOL, EVENTS_MAX, EV_PDU, FAIL_AMOUNT,
    FAIL_UNSOLICITED, IMMEDIATE_MAX, RX_HEADER, RX_PAYLOAD, conn_close, event_new, event_post, lnt_abort, lnt_add32,
    lnt_conn, lnt_event, lnt_reactor, lnt_session, lnt_task, lun_find, task_buffer, task_by_itt, task_free, task_hash,
    task_new, task_turn,
)
from core._snack cimport snack
from core._tx cimport tx_acknowledge, tx_pdu, tx_reject
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef extern from "crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)
cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *buf, size_t n, int flags)
    int MSG_DONTWAIT

cdef enum:
    NUMBER_NOW = 0                    # its turn (or immediate)
    NUMBER_EARLY = 1                  # inside the window, others are missing
    NUMBER_DROP = 2                   # outside the window, or being received: ignored without a trace
    STATUS_TASK_SET_FULL = 0x28
    DIRECT_BYTES = 16384              # payloads with at least this much still to come are received in place


# -- command numbering -----------------------------------------------------------------------------------------------

cdef inline int number(lnt_session *s, const uint8_t *h) noexcept nogil:
    cdef uint32_t cmd_sn = get32(h + 24)
    if h[0] & OPCODE_IMMEDIATE:
        return NUMBER_NOW
    if cmd_sn == s.exp_cmd_sn and sn_le(cmd_sn, s.max_cmd_sn):
        return NUMBER_NOW if s.early == NULL or s.early.cmd_sn != cmd_sn else NUMBER_DROP
    if sn_lt(cmd_sn, s.exp_cmd_sn) or not sn_le(cmd_sn, s.max_cmd_sn):
        return NUMBER_DROP
    return NUMBER_EARLY


cdef void release_early(lnt_reactor *r, lnt_session *s) noexcept nogil:
    # ExpCmdSN moved: commands that waited for it take their turn.
    cdef lnt_task *t
    while s.early != NULL and s.early.cmd_sn == s.exp_cmd_sn and not s.early.deferred:
        t = s.early
        s.early = t.next
        t.early = 0
        task_turn(t)
        s.exp_cmd_sn += 1
        task_step(r, t)
    if s.plug_set and not sn_lt(s.exp_cmd_sn, s.plug_before):
        s.plug_set = 0


cdef inline void take_turn(lnt_reactor *r, lnt_session *s, const uint8_t *h) noexcept nogil:
    if not (h[0] & OPCODE_IMMEDIATE):
        s.exp_cmd_sn += 1
        if s.early != NULL or s.plug_set:
            release_early(r, s)


cdef bint insert_early(lnt_session *s, lnt_task *t) noexcept nogil:
    # Keeps the list sorted by CmdSN; False for a number that is already there.
    cdef lnt_task **at = &s.early
    while at[0] != NULL and sn_lt(at[0].cmd_sn, t.cmd_sn):
        at = &at[0].next
    if at[0] != NULL and at[0].cmd_sn == t.cmd_sn:
        return False
    t.next = at[0]
    at[0] = t
    t.early = 1
    return True


cdef void abort_missing(lnt_reactor *r, lnt_abort *a) noexcept nogil:
    # ABORT TASK for a command that has not come but may: its CmdSN counts as received (RFC 7143 §11.6.1).
    cdef lnt_conn *c = r.conns
    cdef lnt_session *s
    cdef lnt_task *t
    if a.count or not a.has_missing:
        return
    while c != NULL and (c.session.handle != a.session or c.state != C_OPEN):
        c = c.next
    if c == NULL:
        return
    s = c.session
    if sn_lt(a.missing_cmd_sn, s.exp_cmd_sn) or not sn_le(a.missing_cmd_sn, s.max_cmd_sn):
        return
    t = task_new(r, c)
    if t == NULL:
        return
    t.cmd_sn = a.missing_cmd_sn
    if not insert_early(s, t):
        task_free(r, t)
        return
    t.aborted = 1
    t.counted = 1
    s.numbered += 1
    a.count = 1
    release_early(r, s)


cdef inline bint defers(lnt_conn *c, const uint8_t *h) noexcept nogil:
    # A command whose data segment may prove damaged must not count as received before (RFC 7143 §7.8).
    return c.recovery and c.data_digest and not (h[0] & OPCODE_IMMEDIATE)


cdef void settle_deferred(lnt_reactor *r, lnt_conn *c, lnt_task *t, const uint8_t *h, bint intact) noexcept nogil:
    t.deferred = 0
    if not intact:
        tx_reject(r, c, REJECT_DATA_DIGEST, h)
        task_free(r, t)                       # its CmdSN stays due: the initiator sends it again
        return
    if t.is_pdu or not t.fail:
        t.got = c.data_length
    release_early(r, t.session)


# -- SCSI Command ----------------------------------------------------------------------------------------------------

cdef bint parse_ahs(lnt_conn *c, lnt_task *t, const uint8_t *ahs, uint32_t length) noexcept nogil:
    # Checks the chain of additional header segments (RFC 7143 §11.2.2) and keeps it; False when a length lies.
    cdef uint32_t at = 0
    cdef uint32_t n
    while at < length:
        if length - at < 4:
            return False
        n = get16(ahs + at)
        if n == 0 or n + 3 > length - at:
            return False
        at += (n + 3 + 3) & ~<uint32_t>3
    t.ahs = <uint8_t *>malloc(length)
    if t.ahs == NULL:
        return False
    memcpy(t.ahs, ahs, length)
    t.ahs_length = length
    return True


cdef void refuse_full(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    cdef uint8_t b[48]
    bhs_scsi_response(b, get32(h + 16), 0, STATUS_TASK_SET_FULL, 0, 0, 0, 0)
    tx_pdu(r, c, b, NULL, 0, NULL, False)


cdef bint plugged(lnt_session *s, lnt_task *t) noexcept nogil:
    # True for a command that task management aborted before it arrived.
    if not s.plug_set or t.immediate or not sn_lt(t.cmd_sn, s.plug_before):
        return False
    if s.plug_lun >= 0 and lun_number(t.lun_field) != s.plug_lun:
        return False
    return s.plug_any_itt or s.plug_itt == t.itt


cdef void plan_data_out(lnt_reactor *r, lnt_conn *c, lnt_task *t, uint32_t dsl) noexcept nogil:
    # Unsolicited data: how much may come, with the command and behind it, and where it goes.
    cdef lnt_session *s = t.session
    cdef bint more = not (t.flags & CMD_FINAL)
    cdef uint32_t limit = s.first_burst if s.first_burst < t.edtl else t.edtl
    cdef uint32_t first
    if not (t.flags & CMD_WRITE):
        if dsl:
            t.fail = FAIL_UNSOLICITED
        return
    if (dsl and not s.immediate_data) or (more and s.initial_r2t):
        t.fail = FAIL_UNSOLICITED
    elif dsl > limit:
        t.fail = FAIL_AMOUNT
    t.sequence_end = limit
    t.unsolicited = more and not s.initial_r2t and t.edtl > 0
    if t.fail or t.want == 0 or not (dsl or t.unsolicited):
        return
    first = limit if t.unsolicited else dsl
    if first > t.want:
        first = t.want
    if not task_buffer(r, t, t.want, False) and not task_buffer(r, t, first, True):
        conn_close(r, c, CLOSE_ERROR, "out of memory")


cdef void on_command(lnt_reactor *r, lnt_conn *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    cdef lnt_session *s = c.session
    cdef int turn = number(s, h)
    cdef uint32_t itt = get32(h + 16)
    cdef lnt_task *t
    if turn == NUMBER_DROP:
        return
    t = task_by_itt(s, itt)
    if t != NULL and t.early and turn == NUMBER_EARLY and t.cmd_sn == get32(h + 24):
        return                          # sent again although it arrived: ignored without a trace
    if itt == <uint32_t>TAG_NONE or t != NULL:
        tx_reject(r, c, REJECT_INVALID_FIELD if itt == <uint32_t>TAG_NONE else REJECT_IN_PROGRESS, h)
        if turn == NUMBER_NOW:
            take_turn(r, s, h)
        return
    if h[0] & OPCODE_IMMEDIATE and s.immediates >= IMMEDIATE_MAX:
        tx_reject(r, c, REJECT_IMMEDIATE, h)
        return
    t = task_new(r, c)
    if t == NULL:
        if turn == NUMBER_NOW:
            take_turn(r, s, h)
            refuse_full(r, c, h)
        return
    t.itt = itt
    t.cmd_sn = get32(h + 24)
    t.immediate = (h[0] & OPCODE_IMMEDIATE) != 0
    t.flags = h[1]
    t.edtl = get32(h + 20)
    memcpy(t.bhs, h, BHS_BYTES)
    memcpy(t.lun_field, h + 8, 8)
    if turn == NUMBER_EARLY and not insert_early(s, t):
        task_free(r, t)
        return
    t.counted = 1
    if t.immediate:
        s.immediates += 1
    else:
        s.numbered += 1
    task_hash(t)
    if plugged(s, t):
        # Counts as received, does nothing. Early ones keep their place until their turn.
        t.aborted = 1
        if turn == NUMBER_NOW:
            task_free(r, t)
            take_turn(r, s, h)
        return
    t.lun = lun_find(s, lun_number(t.lun_field))
    if t.lun != NULL:
        t.lun.refs += 1
    if h[4] and not parse_ahs(c, t, h + BHS_BYTES, <uint32_t>h[4] * 4):
        tx_reject(r, c, REJECT_INVALID_FIELD, h)
        task_free(r, t)
        if turn == NUMBER_NOW:
            take_turn(r, s, h)
        return
    command_plan(r, t)
    plan_data_out(r, c, t, dsl)
    if dsl:
        t.receiving = 1
        c.rx_task = t
        if not t.fail and t.buf != NULL:
            c.dst = t.buf
            c.dst_left = dsl if dsl < t.want else t.want
        if defers(c, h):
            t.deferred = 1
            if turn == NUMBER_NOW:
                insert_early(s, t)          # `number` saw that the place is free
                turn = NUMBER_EARLY
    if turn == NUMBER_NOW:
        task_turn(t)
        task_step(r, t)
        take_turn(r, s, h)              # those that waited for it come after it


# -- everything else -------------------------------------------------------------------------------------------------

cdef void on_early_pdu(lnt_reactor *r, lnt_conn *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    # A numbered PDU ahead of its turn waits as a task.
    cdef lnt_task *t = task_new(r, c)
    if t == NULL:
        return
    t.cmd_sn = get32(h + 24)
    t.is_pdu = 1
    memcpy(t.bhs, h, BHS_BYTES)
    memcpy(t.lun_field, h + 8, 8)
    if not insert_early(c.session, t):
        task_free(r, t)
        return
    t.counted = 1
    c.session.numbered += 1
    if dsl == 0:
        return
    if not task_buffer(r, t, dsl, True):
        conn_close(r, c, CLOSE_ERROR, "out of memory")
        return
    t.receiving = 1
    t.deferred = defers(c, h)
    c.rx_task = t
    c.dst = t.buf
    c.dst_left = dsl


cdef void on_other(lnt_reactor *r, lnt_conn *c, const uint8_t *h, uint32_t dsl) noexcept nogil:
    # NOP-Out, Text, Logout, TMF, SNACK: kept whole and handled when complete.
    cdef int turn = NUMBER_NOW
    cdef uint8_t opcode = h[0] & OPCODE_MASK
    if opcode != OP_SNACK:
        turn = number(c.session, h)
    if turn == NUMBER_DROP:
        c.drop = 1
        return
    if turn == NUMBER_EARLY or (dsl and defers(c, h)):
        c.drop = 1
        on_early_pdu(r, c, h, dsl)
        return
    if opcode != OP_SNACK:
        take_turn(r, c.session, h)
    if dsl:
        c.rx_data = <uint8_t *>malloc(dsl)
        if c.rx_data == NULL:
            conn_close(r, c, CLOSE_ERROR, "out of memory")
            return
        c.dst = c.rx_data
        c.dst_left = dsl


cdef void on_nop_out(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    # An answer to our ping, or a ping to echo (RFC 7143 §11.18, §11.19). Takes rx_data.
    cdef uint8_t b[48]
    cdef uint32_t n = c.data_length if c.data_length < c.max_send else c.max_send
    cdef uint8_t *data = c.rx_data
    c.rx_data = NULL
    if get32(h + 20) != <uint32_t>TAG_NONE and get32(h + 20) == c.nop_ttt:
        c.nop_sent_us = 0
    if get32(h + 16) == <uint32_t>TAG_NONE:
        free(data)
        return
    bhs_nop_in(b, h + 8, get32(h + 16), <uint32_t>TAG_NONE, n)
    tx_pdu(r, c, b, data, n if data != NULL else 0, data, False)


cdef void on_pdu_complete(lnt_reactor *r, lnt_conn *c, const uint8_t *h, bint intact) noexcept nogil:
    cdef uint8_t opcode = h[0] & OPCODE_MASK
    cdef uint8_t *data = c.rx_data
    cdef lnt_event *e
    if not intact:
        tx_reject(r, c, REJECT_DATA_DIGEST, h)
        free(data)
        c.rx_data = NULL
        return
    if opcode == OP_NOP_OUT:
        on_nop_out(r, c, h)
        return
    c.rx_data = NULL
    e = event_new(EV_PDU, c.data_length)
    if e == NULL or lnt_add32(&c.pending_events, 1, ACQUIRE) > EVENTS_MAX:
        free(e)
        free(data)
        conn_close(r, c, CLOSE_PROTOCOL, "too many requests at once")
        return
    e.session = c.session.handle
    e.conn = c.handle
    e.object = c
    memcpy(e.bhs, h, BHS_BYTES)
    if c.data_length:
        memcpy(<uint8_t *>(e + 1), data, c.data_length)
    free(data)
    event_post(r, e)


# -- the byte machine ------------------------------------------------------------------------------------------------

cdef void complete(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    # The whole PDU is here.
    cdef lnt_task *t = c.rx_task
    cdef uint8_t opcode = h[0] & OPCODE_MASK
    cdef uint32_t wire = 0
    cdef bint intact = True
    c.rx_state = RX_HEADER
    c.header_have = 0
    if c.data_digest and c.data_length:
        memcpy(&wire, c.trail + pad4(c.data_length), 4)
        intact = wire == lnt_crc32c(c.crc, c.trail, pad4(c.data_length))
        if not intact:
            c.digest_errors += 1
    c.rx_task = NULL
    c.dst = NULL
    c.dst_left = 0
    if t != NULL:
        t.receiving = 0
        if t.deferred:
            settle_deferred(r, c, t, h, intact)
        elif data_arrived(r, c, t, h, intact):
            task_step(r, t)
        else:
            task_free(r, t)
    elif c.drop:
        return
    elif opcode != OP_SCSI_COMMAND and opcode != OP_DATA_OUT:
        on_pdu_complete(r, c, h, intact)
    elif not intact:
        tx_reject(r, c, REJECT_DATA_DIGEST, h)


cdef void on_header(lnt_reactor *r, lnt_conn *c, const uint8_t *h) noexcept nogil:
    # BHS, AHS and header digest are contiguous at h.
    cdef uint32_t dsl = get24(h + 5)
    cdef uint32_t bytes = BHS_BYTES + <uint32_t>h[4] * 4
    cdef uint8_t opcode = h[0] & OPCODE_MASK
    cdef uint32_t wire
    c.rx_pdus += 1
    r.pdus += 1
    if c.header_digest:
        memcpy(&wire, h + bytes, 4)
        if wire != lnt_crc32c(0, h, bytes):
            c.digest_errors += 1
            conn_close(r, c, CLOSE_DIGEST, "header digest error")
            return
    if dsl > c.max_recv:
        conn_close(r, c, CLOSE_PROTOCOL, "DataSegmentLength above MaxRecvDataSegmentLength")
        return
    c.data_length = dsl
    c.rx_task = NULL
    c.dst = NULL
    c.dst_left = 0
    c.drop = 0
    if c.recovery:
        tx_acknowledge(r, c, get32(h + 28))
    if opcode == OP_SCSI_COMMAND:
        if c.stat_sn - get32(h + 28) < r.behind:
            r.behind = c.stat_sn - get32(h + 28)
        on_command(r, c, h, dsl)
    elif opcode == OP_DATA_OUT:
        on_data_out(r, c, h, dsl)
    elif opcode == OP_SNACK and c.recovery:
        c.drop = 1
        snack(r, c, h)
    elif h[4] and opcode != OP_SNACK:
        c.drop = 1
        tx_reject(r, c, REJECT_INVALID_FIELD, h)
    elif opcode == OP_NOP_OUT and get32(h + 16) == <uint32_t>TAG_NONE and not (h[0] & OPCODE_IMMEDIATE):
        c.drop = 1
        tx_reject(r, c, REJECT_PROTOCOL, h)
    elif (opcode == OP_NOP_OUT or opcode == OP_TEXT_REQUEST or opcode == OP_TMF_REQUEST
          or opcode == OP_LOGOUT_REQUEST or opcode == OP_SNACK):
        on_other(r, c, h, dsl)
    elif opcode == OP_LOGIN_REQUEST:
        conn_close(r, c, CLOSE_PROTOCOL, "login request in full-feature phase")
    else:
        c.drop = 1
        tx_reject(r, c, REJECT_NOT_SUPPORTED, h)
    if c.state != C_OPEN:
        return
    c.data_left = dsl
    c.trail_have = 0
    c.trail_left = 0
    c.crc = 0
    if dsl == 0:
        complete(r, c, h)
        return
    c.trail_left = pad4(dsl) + (4 if c.data_digest else 0)
    c.rx_state = RX_PAYLOAD
    if h != c.header:
        memcpy(c.header, h, BHS_BYTES)


cdef inline void payload(lnt_conn *c, const uint8_t *p, uint32_t n) noexcept nogil:
    # n payload bytes: to their place (unless received there) and into the digest.
    cdef uint32_t k
    if c.data_digest:
        c.crc = lnt_crc32c(c.crc, p, n)
    if c.dst != NULL:
        k = n if n < c.dst_left else c.dst_left
        if c.dst != p:
            memcpy(c.dst, p, k)
        c.dst += k
        c.dst_left -= k
    c.data_left -= n


cdef void rx_bytes(lnt_reactor *r, lnt_conn *c, const uint8_t *p, uint32_t n) noexcept nogil:
    # Consumes all n bytes, or as many as it takes to close the connection.
    cdef uint32_t need, k
    cdef uint32_t digest = 4 if c.header_digest else 0
    c.rx_bytes += n
    c.last_rx_us = r.now_us
    while n and c.state == C_OPEN:
        if c.rx_state == RX_PAYLOAD:
            if c.data_left:
                k = n if n < c.data_left else c.data_left
                payload(c, p, k)
            else:
                k = n if n < c.trail_left else c.trail_left
                memcpy(c.trail + c.trail_have, p, k)
                c.trail_have += k
                c.trail_left -= k
            p += k
            n -= k
            if c.data_left == 0 and c.trail_left == 0:
                complete(r, c, c.header)
            continue
        if c.header_have == 0 and n >= BHS_BYTES:
            need = BHS_BYTES + <uint32_t>p[4] * 4 + digest
            if n >= need:
                on_header(r, c, p)
                p += need
                n -= need
                continue
        need = BHS_BYTES if c.header_have < BHS_BYTES else BHS_BYTES + <uint32_t>c.header[4] * 4 + digest
        k = need - c.header_have
        if k > n:
            k = n
        memcpy(c.header + c.header_have, p, k)
        c.header_have += k
        p += k
        n -= k
        if c.header_have >= BHS_BYTES and c.header_have == BHS_BYTES + <uint32_t>c.header[4] * 4 + digest:
            on_header(r, c, c.header)
    if c.state == C_OPEN and c.rx_state == RX_PAYLOAD and c.dst_left >= DIRECT_BYTES and not c.bulk:
        c.bulk = 1
        c.bulk_next = r.bulk
        r.bulk = c


cdef void rx_direct(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # Takes the rest of a big payload from the socket into its buffer. Nothing that arrived earlier may be unprocessed.
    cdef ssize_t n
    while c.state == C_OPEN and c.rx_state == RX_PAYLOAD and c.dst_left >= DIRECT_BYTES:
        n = recv(c.fd, c.dst, c.dst_left, MSG_DONTWAIT)
        if n < 0:
            if errno == EINTR:
                continue
            if errno != EAGAIN:
                conn_close(r, c, CLOSE_ERROR, "receive failed")
            return
        if n == 0:
            conn_close(r, c, CLOSE_PEER, "closed by the peer")
            return
        r.direct_recvs += 1
        c.rx_bytes += <uint64_t>n
        c.last_rx_us = r.now_us
        payload(c, c.dst, <uint32_t>n)
        if c.data_left == 0 and c.trail_left == 0:
            complete(r, c, c.header)
