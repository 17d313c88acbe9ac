"""The send side of a connection: Data-In and response PDUs are generated as they are sent, one gathered sendmsg a batch.

Lives here and nowhere else: `lnt_connection.outgoing`, and its StatSN (RFC 7143 §11.4, §11.7, §11.8; StatSN
§4.2.2.2; digests §13.1). What has to be sent again is core/wire/kept.pyx.
"""
from core.base.crc32c cimport lnt_crc32c
from core.base.memory cimport mem_new
from core.wire.answer cimport response_pdu
from core.wire.connection cimport (
    connection_close, connection_heard, connection_hold, connection_let_go, connection_pause, connection_resume,
)
from core.wire.data_in cimport data_in_advance, data_in_start
from core.wire.kept cimport (
    asks_ack, kept_add, kept_begin, kept_drop_oldest, kept_pdu, kept_segment_changed, kept_sent, kept_shed,
    send_free, send_hold, send_let_go, send_take,
)
from core.wire.latency cimport latency_answered
from core.wire.nexus cimport (
    CLOSE_ERROR, CLOSE_PEER, CLOSE_PROTOCOL, CLOSE_REQUESTED, CONNECTION_OPEN, SEND_AGAIN, SEND_PDU, SEND_SLOTS, SEND_TASK,
    T_SEND,
)
from core.wire.numbering cimport window_end
from core.wire.pdu cimport (
    BHS_BYTES, BHS_DATA_LENGTH, BHS_DATA_SN, BHS_ITT, BHS_OPCODE, OPCODE_MASK, OP_NOP_IN, OP_R2T, TAG_NONE, bhs_ask_ack,
    bhs_data_in, bhs_data_in_status, bhs_numbers, bhs_reject, get_be32, pad4, put_be24, put_be32,
)
from core.wire.tags cimport TAG_SEND
from core.wire.task cimport task_answered, task_free
from core.wire.task_set cimport task_ended
from core.wire.transfer_tag cimport ack_tag
from core.wire.uring cimport iovec, lnt_prep_sendmsg, msghdr
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EPIPE, errno
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendmsg(int fd, const msghdr *m, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    int MSG_MORE
    int MSG_WAITALL

cdef enum:
    CONTROL_PAUSE = 512            # answers waiting on a connection beyond which nothing more is read from it ...
    CONTROL_BYTES_PAUSE = 1 << 20  # ... and their data
    CONTROL_MAX = 32768            # what receive buffers that are filled already may add to that
    CONTROL_BYTES_MAX = 8 << 20


cdef inline void to_flush(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # The connection has something to send at the end of the turn.
    if not c.outgoing.dirty:
        c.outgoing.dirty = 1
        c.outgoing.dirty_next = r.dirty
        r.dirty = c


cdef inline void enqueue(lnt_reactor *r, lnt_connection *c, lnt_send *x) noexcept nogil:
    x.next = NULL
    if c.outgoing.tail != NULL:
        c.outgoing.tail.next = x
    else:
        c.outgoing.head = x
    c.outgoing.tail = x
    to_flush(r, c)


cdef void send_task(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # Queues the task's Data-In (its data_in) and its status. The task lives until they are sent.
    t.state = T_SEND
    task_ended(r, t)
    t.send.kind = SEND_TASK
    data_in_start(t)
    if t.connection.recovery:
        kept_begin(t)
    enqueue(r, t.connection, &t.send)


cdef lnt_send *send_new(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # An empty entry for the queue; NULL when the connection had to be closed for all it holds already.
    cdef lnt_send *x = send_take(r)
    if x == NULL:
        connection_close(r, c, CLOSE_ERROR, "out of memory")
        return NULL
    if c.outgoing.control_count >= CONTROL_MAX or c.outgoing.control_bytes > CONTROL_BYTES_MAX:
        send_free(r, x)
        connection_close(r, c, CLOSE_PROTOCOL, "too many answers queued that the peer does not read")
        return NULL
    return x


cdef void send_pdu(lnt_reactor *r, lnt_connection *c, const uint8_t *bhs, uint8_t *data, uint32_t length, void *heap,
                   bint close) noexcept nogil:
    # Queues a PDU; `heap` is freed when it is sent. Sequence numbers are filled in at generation.
    cdef lnt_send *x = send_new(r, c) if c.state == CONNECTION_OPEN else NULL
    if x == NULL:
        free(heap)
        return
    memcpy(x.bhs, bhs, BHS_BYTES)
    x.kind = SEND_PDU
    x.data = data
    x.length = length
    x.heap = heap
    x.close = close
    c.outgoing.control_count += 1
    c.outgoing.control_bytes += length
    if c.outgoing.control_count >= CONTROL_PAUSE or c.outgoing.control_bytes >= CONTROL_BYTES_PAUSE:
        connection_pause(r, c)
    enqueue(r, c, x)


cdef void send_again(lnt_reactor *r, lnt_connection *c, lnt_send *of, uint32_t sn, uint32_t sn_end, bint status) noexcept nogil:
    # Queues Data-In `sn` to `sn_end` of a task once more, or a kept response, or both.
    cdef lnt_send *x = send_new(r, c) if c.state == CONNECTION_OPEN else NULL
    if x == NULL:
        return
    x.kind = SEND_AGAIN
    x.again = of
    x.data_sn = sn
    x.data_sn_end = sn_end
    x.status = status
    send_hold(of)
    c.outgoing.control_count += 1
    if c.outgoing.control_count >= CONTROL_PAUSE:
        connection_pause(r, c)
    enqueue(r, c, x)


cdef void send_reject(lnt_reactor *r, lnt_connection *c, uint8_t reason, const uint8_t *bhs) noexcept nogil:
    send_reject_at(r, c, reason, bhs, 0)


cdef void send_reject_at(lnt_reactor *r, lnt_connection *c, uint8_t reason, const uint8_t *bhs, uint32_t data_sn) noexcept nogil:
    # A Reject that tells the next DataSN or R2TSN (RFC 7143 §11.17.2).
    cdef uint8_t h[BHS_BYTES]
    cdef uint8_t *data = <uint8_t *>mem_new(BHS_BYTES)
    if data == NULL:
        connection_close(r, c, CLOSE_ERROR, "out of memory")
        return
    memcpy(data, bhs, BHS_BYTES)
    bhs_reject(h, reason)
    put_be32(h + BHS_DATA_SN, data_sn)
    c.traffic.rejects += 1
    send_pdu(r, c, h, data, BHS_BYTES, data, False)


# -- PDUs -----------------------------------------------------------------------------------------------------------

cdef inline uint8_t *append(lnt_connection *c, uint8_t *at, uint32_t length) noexcept nogil:
    # Adds [at, at + length) to the gather list; neighbours in the arena become one entry.
    cdef iovec *last
    if c.outgoing.iov_count:
        last = &c.outgoing.iov[c.outgoing.iov_count - 1]
        if <uint8_t *>last.iov_base + last.iov_len == at:
            last.iov_len += length
            return at + length
    c.outgoing.iov[c.outgoing.iov_count].iov_base = at
    c.outgoing.iov[c.outgoing.iov_count].iov_len = length
    c.outgoing.iov_count += 1
    return at + length


cdef inline bint consumes_stat_sn(const uint8_t *h) noexcept nogil:
    cdef uint8_t op = h[BHS_OPCODE] & OPCODE_MASK
    if op == OP_R2T:
        return False
    return not (op == OP_NOP_IN and get_be32(h + BHS_ITT) == <uint32_t>TAG_NONE)


cdef inline bint task_pdu(lnt_connection *c, lnt_task *t, uint8_t *h, uint8_t **data, uint32_t *length) noexcept nogil:
    # Builds the task's next PDU; True when it was the last.
    cdef uint32_t n
    cdef bint burst_end
    if t.data_in.left:
        n = t.data_in.left if t.data_in.left < t.data_in.burst_left else t.data_in.burst_left
        if n > c.max_send:
            n = c.max_send
        burst_end = n == t.data_in.left or n == t.data_in.burst_left
        bhs_data_in(h, t.itt, t.data_in.data_sn, t.data_in.offset, n, burst_end)
        if c.recovery and burst_end and asks_ack(t):
            bhs_ask_ack(h, t.lun_field, ack_tag(t))
        data[0] = t.data_in.data + t.data_in.offset
        length[0] = n
        data_in_advance(t, n, burst_end)
        if t.data_in.left or t.answer.status or t.answer.response or c.recovery:
            return False
        bhs_data_in_status(h, t.answer.residual_flags, t.answer.residual)
        return True
    response_pdu(c, t, h, data, length)
    return True


# -- batches --------------------------------------------------------------------------------------------------------

cdef inline void task_next(lnt_reactor *r, lnt_connection *c, lnt_task *t, uint8_t *h, uint8_t **data,
                           uint32_t *length) noexcept nogil:
    # The next PDU of the task at the head of the queue; with its last one it leaves the queue.
    if not task_pdu(c, t, h, data, length):
        bhs_numbers(h, 0, t.session.numbering.exp_cmd_sn, window_end(t.session))
        return
    latency_answered(r, t)
    task_answered(t)
    c.outgoing.sent_task[c.outgoing.slots] = t
    c.outgoing.head = t.send.next
    bhs_numbers(h, c.stat_sn, t.session.numbering.exp_cmd_sn, window_end(t.session))
    if c.recovery:
        kept_add(r, c, &t.send)
    c.stat_sn += 1


cdef inline void pdu_next(lnt_reactor *r, lnt_connection *c, lnt_send *x, uint8_t *h, uint8_t **data,
                          uint32_t *length) noexcept nogil:
    # A PDU that is no task's leaves the queue.
    memcpy(h, x.bhs, BHS_BYTES)
    data[0] = x.data
    length[0] = x.length
    put_be24(h + BHS_DATA_LENGTH, x.length)
    c.outgoing.sent[c.outgoing.slots] = x
    c.outgoing.head = x.next
    bhs_numbers(h, c.stat_sn, c.session.numbering.exp_cmd_sn, window_end(c.session))
    if consumes_stat_sn(h):
        if c.recovery:
            kept_add(r, c, x)
        c.stat_sn += 1


cdef inline uint8_t *pdu_frame(lnt_connection *c, uint8_t *h, const uint8_t *data, uint32_t length) noexcept nogil:
    # Header, data, padding and digests of one PDU enter the gather list; where the arena goes on.
    cdef uint8_t *at = h + BHS_BYTES
    cdef uint32_t pad, crc
    if c.header_digest:
        crc = lnt_crc32c(0, h, BHS_BYTES)
        memcpy(at, &crc, 4)
        at += 4
    append(c, h, <uint32_t>(at - h))
    if length == 0:
        return at
    append(c, <uint8_t *>data, length)
    pad = pad4(length)
    if not pad and not c.data_digest:
        return at
    memset(at, 0, pad)
    if c.data_digest:
        crc = lnt_crc32c(lnt_crc32c(0, data, length), at, pad)
        memcpy(at + pad, &crc, 4)
        pad += 4
    return append(c, at, pad)


cdef void batch_fill(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # Generates PDUs from the queue into the connection's arena and gather list.
    cdef lnt_send *x
    cdef uint8_t *at = c.outgoing.arena
    cdef uint8_t *data
    cdef uint32_t length
    c.outgoing.slots = 0
    c.outgoing.iov_at = 0
    c.outgoing.iov_count = 0
    while c.outgoing.slots < SEND_SLOTS and c.outgoing.head != NULL:
        x = c.outgoing.head
        data = NULL
        length = 0
        c.outgoing.sent_task[c.outgoing.slots] = NULL
        c.outgoing.sent[c.outgoing.slots] = NULL
        if x.kind == SEND_TASK:
            task_next(r, c, x.task, at, &data, &length)
        elif x.kind == SEND_PDU:
            pdu_next(r, c, x, at, &data, &length)
        elif kept_pdu(c, x, at, &data, &length):
            c.outgoing.sent[c.outgoing.slots] = x
            c.outgoing.head = x.next
        if c.outgoing.head == NULL:
            c.outgoing.tail = NULL
        at = pdu_frame(c, at, data, length)
        c.outgoing.slots += 1
    c.traffic.tx_pdus += c.outgoing.slots


cdef void batch_release(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # The batch is on its way: frees what it held.
    cdef uint32_t i, n = c.outgoing.slots
    cdef lnt_send *x
    cdef bint close = False
    c.outgoing.slots = 0
    for i in range(n):
        if c.outgoing.sent_task[i] != NULL:
            if c.recovery:
                kept_sent(r, c.outgoing.sent_task[i])
            else:
                task_free(r, c.outgoing.sent_task[i])
        x = c.outgoing.sent[i]
        if x != NULL:
            c.outgoing.control_count -= 1
            c.outgoing.control_bytes -= x.length
            close |= x.close
            if c.recovery:
                send_let_go(r, x)
            else:
                send_free(r, x)
    if c.recovery:
        kept_shed(r, c)
    if c.paused and c.outgoing.control_count < CONTROL_PAUSE // 2 and c.outgoing.control_bytes < CONTROL_BYTES_PAUSE // 2:
        connection_resume(r, c)
    if close:
        connection_close(r, c, CLOSE_REQUESTED, "closed after its last answer")


cdef bint advance(lnt_reactor *r, lnt_connection *c, size_t n) noexcept nogil:
    # Accounts for n bytes sent; True when the batch is complete.
    cdef iovec *v
    c.traffic.tx_bytes += n
    while c.outgoing.iov_at < c.outgoing.iov_count:
        v = &c.outgoing.iov[c.outgoing.iov_at]
        if n < v.iov_len:
            v.iov_base = <uint8_t *>v.iov_base + n
            v.iov_len -= n
            return False
        n -= v.iov_len
        c.outgoing.iov_at += 1
    batch_release(r, c)
    return True


cdef void send_later(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # The socket is full: the ring waits for room.
    c.outgoing.msg.msg_iov = &c.outgoing.iov[c.outgoing.iov_at]
    c.outgoing.msg.msg_iovlen = c.outgoing.iov_count - c.outgoing.iov_at
    lnt_prep_sendmsg(r.ring, <int>c.file, &c.outgoing.msg, MSG_WAITALL | MSG_NOSIGNAL, <uintptr_t>c | TAG_SEND)
    c.outgoing.sending = 1
    connection_hold(c)
    r.counters.async_sends += 1


cdef void send_flush(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # Sends until the queue is empty or the socket is full.
    cdef ssize_t n
    while c.state == CONNECTION_OPEN and not c.outgoing.sending:
        if c.outgoing.iov_at == c.outgoing.iov_count:
            if c.outgoing.head == NULL:
                return
            batch_fill(r, c)
        c.outgoing.msg.msg_iov = &c.outgoing.iov[c.outgoing.iov_at]
        c.outgoing.msg.msg_iovlen = c.outgoing.iov_count - c.outgoing.iov_at
        n = sendmsg(c.fd, &c.outgoing.msg, MSG_DONTWAIT | MSG_NOSIGNAL | (MSG_MORE if c.outgoing.head != NULL else 0))
        r.counters.sends += 1
        if n < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                send_later(r, c)
                return
            connection_close(r, c, CLOSE_PEER if errno == EPIPE or errno == ECONNRESET else CLOSE_ERROR, "send failed")
            return
        if not advance(r, c, <size_t>n):
            send_later(r, c)
            return


cdef void send_completed(lnt_reactor *r, lnt_connection *c, int32_t result) noexcept nogil:
    # A send from the ring ended.
    c.outgoing.sending = 0
    connection_let_go(r, c)
    if c.state != CONNECTION_OPEN:
        return
    if result < 0 and result != -EINTR and result != -EAGAIN:
        connection_close(r, c, CLOSE_PEER if result == -EPIPE or result == -ECONNRESET else CLOSE_ERROR, "send failed")
        return
    if result > 0:
        connection_heard(c, r.now_us)       # it takes what it is sent: it lives
        if not advance(r, c, <size_t>result):
            send_later(r, c)
            return
    if result <= 0:
        send_later(r, c)
        return
    to_flush(r, c)


cdef void send_teardown(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # What is queued, sent or kept goes; tasks are left to core/wire/lifecycle.pyx.
    cdef lnt_task *t = c.tasks
    cdef lnt_send *x
    cdef uint32_t i
    while t != NULL:
        t.send.holds = 0xffff
        t = t.connection_next
    while c.outgoing.head != NULL:
        x = c.outgoing.head
        c.outgoing.head = x.next
        if x.kind != SEND_TASK:
            send_let_go(r, x)
    c.outgoing.tail = NULL
    for i in range(c.outgoing.slots):
        if c.outgoing.sent[i] != NULL:
            send_let_go(r, c.outgoing.sent[i])
    c.outgoing.slots = 0
    while c.kept.head != NULL:
        kept_drop_oldest(r, c)


cdef lnt_connection *send_dirty(lnt_reactor *r) noexcept nogil:
    # Takes the next connection off the list of those that have something to send; NULL: there is none.
    cdef lnt_connection *c = r.dirty
    if c != NULL:
        r.dirty = c.outgoing.dirty_next
        c.outgoing.dirty = 0
    return c


cdef void segment_changed(lnt_connection *c, uint32_t max_send) noexcept nogil:
    # The initiator declared another MaxRecvDataSegmentLength (RFC 7143 §13.12): what is generated from now on keeps to it.
    c.max_send = max_send
    if c.recovery:
        kept_segment_changed(c)
