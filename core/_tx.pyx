# The send side of a connection: Data-In and response PDUs are generated as they are sent, one gathered sendmsg a batch
# (RFC 7143 §11.4, §11.7, §11.8; StatSN §4.2.2.2; digests §13.1). At ErrorRecoveryLevel 1 a response and its data are kept
# until ExpStatSN acknowledges them, within bounds, and sent again as they were (§7.1.4, §11.16).
from core._buffers cimport buffer_bytes
from core._pdu cimport (
    BHS_BYTES, OP_NOP_IN, OP_R2T, OPCODE_MASK, TAG_NONE, bhs_ask_ack, bhs_data_in, bhs_data_in_status,
    bhs_numbers, bhs_reject, bhs_scsi_response, get32, pad4, put24, put32, sn_lt,
)
from core._session cimport (
    C_OPEN, CLOSE_ERROR, CLOSE_PEER, CLOSE_PROTOCOL, CLOSE_REQUESTED, CONTROL_BYTES_MAX, CONTROL_BYTES_PAUSE,
    CONTROL_MAX, CONTROL_PAUSE, KEPT_MAX, T_SEND, TAG_SEND, TX_AGAIN, TX_PDU, TX_SLOTS, TX_TASK, conn_close,
    conn_pause, conn_resume, kept_size, lnt_conn, lnt_reactor, lnt_task, lnt_tx, task_answered, task_drop_buffer, task_ended,
    task_free, task_leave_lun, tx_drop_data, tx_gone, tx_let_go, tx_unkeep, window_end,
)
from core._uring cimport iovec, lnt_prep_sendmsg, msghdr
from libc.errno cimport EAGAIN, ECONNRESET, EINTR, EPIPE, errno
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef extern from "crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)
cdef extern from "<sys/socket.h>" nogil:
    ssize_t sendmsg(int fd, const msghdr *m, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    int MSG_MORE
    int MSG_WAITALL


cdef inline void enqueue(lnt_reactor *r, lnt_conn *c, lnt_tx *x) noexcept nogil:
    x.next = NULL
    if c.tx_tail != NULL:
        c.tx_tail.next = x
    else:
        c.tx_head = x
    c.tx_tail = x
    if not c.dirty:
        c.dirty = 1
        c.dirty_next = r.dirty
        r.dirty = c


cdef void tx_task(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # Queues the task's Data-In (send_data, send_left) and its status. The task lives until they are sent.
    t.state = T_SEND
    task_ended(r, t)
    t.tx.kind = TX_TASK
    t.burst_left = t.session.max_burst
    if t.conn.recovery:
        t.again.segment = t.conn.max_send
    enqueue(r, t.conn, &t.tx)


cdef lnt_tx *tx_new(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # An empty entry for the queue; NULL when the connection had to be closed for all it holds already.
    cdef lnt_tx *x = r.free_tx
    if x != NULL:
        r.free_tx = x.next
    else:
        x = <lnt_tx *>malloc(sizeof(lnt_tx))
    if x == NULL or c.control_count >= CONTROL_MAX or c.control_bytes > CONTROL_BYTES_MAX:
        free(x)
        conn_close(r, c, CLOSE_PROTOCOL, "too many answers queued that the peer does not read")
        return NULL
    memset(x, 0, sizeof(lnt_tx))
    return x


cdef void tx_pdu(lnt_reactor *r, lnt_conn *c, const uint8_t *bhs, uint8_t *data, uint32_t length, void *heap,
                 bint close) noexcept nogil:
    # Queues a PDU; `heap` is freed when it is sent. Sequence numbers are filled in at generation.
    cdef lnt_tx *x = tx_new(r, c) if c.state == C_OPEN else NULL
    if x == NULL:
        free(heap)
        return
    memcpy(x.bhs, bhs, BHS_BYTES)
    x.kind = TX_PDU
    x.data = data
    x.length = length
    x.heap = heap
    x.close = close
    c.control_count += 1
    c.control_bytes += length
    if c.control_count >= CONTROL_PAUSE or c.control_bytes >= CONTROL_BYTES_PAUSE:
        conn_pause(r, c)
    enqueue(r, c, x)


cdef void tx_again(lnt_reactor *r, lnt_conn *c, lnt_tx *of, uint32_t sn, uint32_t sn_end, bint status) noexcept nogil:
    # Queues Data-In `sn` to `sn_end` of a task once more, or a kept response, or both.
    cdef lnt_tx *x = tx_new(r, c) if c.state == C_OPEN else NULL
    if x == NULL:
        return
    x.kind = TX_AGAIN
    x.of = of
    x.sn = sn
    x.sn_end = sn_end
    x.status = status
    of.holds += 1
    c.control_count += 1
    if c.control_count >= CONTROL_PAUSE:
        conn_pause(r, c)
    enqueue(r, c, x)


cdef void tx_reject(lnt_reactor *r, lnt_conn *c, uint8_t reason, const uint8_t *bhs) noexcept nogil:
    tx_reject_at(r, c, reason, bhs, 0)


cdef void tx_reject_at(lnt_reactor *r, lnt_conn *c, uint8_t reason, const uint8_t *bhs, uint32_t data_sn) noexcept nogil:
    # A Reject that tells the next DataSN or R2TSN (RFC 7143 §11.17.2).
    cdef uint8_t h[48]
    cdef uint8_t *data = <uint8_t *>malloc(BHS_BYTES)
    if data == NULL:
        conn_close(r, c, CLOSE_ERROR, "out of memory")
        return
    memcpy(data, bhs, BHS_BYTES)
    bhs_reject(h, reason)
    put32(h + 36, data_sn)
    c.rejects += 1
    tx_pdu(r, c, h, data, BHS_BYTES, data, False)


cdef inline uint8_t *append(lnt_conn *c, uint8_t *at, uint32_t length) noexcept nogil:
    # Adds [at, at + length) to the gather list; neighbours in the arena become one entry.
    cdef iovec *last
    if c.iov_count:
        last = &c.iov[c.iov_count - 1]
        if <uint8_t *>last.iov_base + last.iov_len == at:
            last.iov_len += length
            return at + length
    c.iov[c.iov_count].iov_base = at
    c.iov[c.iov_count].iov_len = length
    c.iov_count += 1
    return at + length


cdef inline bint consumes_stat_sn(const uint8_t *h) noexcept nogil:
    cdef uint8_t op = h[0] & OPCODE_MASK
    if op == OP_R2T:
        return False
    return not (op == OP_NOP_IN and get32(h + 16) == <uint32_t>TAG_NONE)


cdef inline bint task_pdu(lnt_conn *c, lnt_task *t, uint8_t *h, uint8_t **data, uint32_t *length) noexcept nogil:
    # Builds the task's next PDU; True when it was the last.
    cdef uint32_t n
    cdef bint burst_end
    if t.send_left:
        n = t.send_left if t.send_left < t.burst_left else t.burst_left
        if n > c.max_send:
            n = c.max_send
        burst_end = n == t.send_left or n == t.burst_left
        bhs_data_in(h, t.itt, t.send_sn, t.send_offset, n, burst_end)
        if c.recovery and burst_end and asks_ack(t):
            bhs_ask_ack(h, t.lun_field, ack_tag(t))
        data[0] = t.send_data + t.send_offset
        length[0] = n
        t.send_sn += 1
        t.send_offset += n
        t.send_left -= n
        t.burst_left = t.session.max_burst if burst_end else t.burst_left - n
        if t.send_left or t.status or t.response or c.recovery:
            return False
        bhs_data_in_status(h, t.residual_flags, t.residual)
        return True
    response(c, t, h, data, length)
    return True


cdef inline void response(lnt_conn *c, lnt_task *t, uint8_t *h, uint8_t **data, uint32_t *length) noexcept nogil:
    cdef uint32_t n = <uint32_t>t.sense_length + 2 if t.sense_length else 0
    bhs_scsi_response(h, t.itt, t.response, t.status, t.residual_flags, t.residual,
                      t.send_sn if t.send_sn else t.r2t_sn, n)
    if c.recovery:
        put32(h + 20, t.again.snack_tag)
    data[0] = t.sense
    length[0] = n


# -- kept, and sent again (ErrorRecoveryLevel 1) ---------------------------------------------------------------------

cdef uint32_t task_total(lnt_task *t) noexcept nogil:
    return t.send_offset + t.send_left


cdef inline bint asks_ack(lnt_task *t) noexcept nogil:
    # Reads longer than a burst ask for an acknowledgement at the end of each (RFC 7143 §11.7.2).
    return task_total(t) > t.session.max_burst


cdef uint32_t ack_tag(lnt_task *t) noexcept nogil:
    # The Target Transfer Tag of a Data-In that asks for an acknowledgement; bit 30 is never set.
    return t.index | (t.generation & 0xffff) << 14 | <uint32_t>1 << 31


cdef uint32_t data_in_count(lnt_task *t) noexcept nogil:
    # DataSN after the last Data-In of the whole task.
    cdef uint32_t burst = t.session.max_burst
    cdef uint32_t left = task_total(t) - t.again.base_offset
    cdef uint32_t each = (burst - 1) // t.again.segment + 1
    return t.again.base_sn + left // burst * each + (left % burst + t.again.segment - 1) // t.again.segment


cdef uint32_t data_in_at(lnt_task *t, uint32_t sn, uint32_t *length) noexcept nogil:
    # Where Data-In `sn` begins, and its length; the end of the data for a number after the last one.
    cdef uint32_t burst = t.session.max_burst
    cdef uint32_t each = (burst - 1) // t.again.segment + 1
    cdef uint32_t k = sn - t.again.base_sn
    cdef uint32_t total = task_total(t)
    cdef uint64_t start = t.again.base_offset + <uint64_t>(k // each) * burst
    cdef uint64_t at = start + <uint64_t>(k % each) * t.again.segment
    cdef uint64_t end = at + t.again.segment
    length[0] = 0
    if at >= total:
        return total
    if end > start + burst:
        end = start + burst
    length[0] = <uint32_t>((end if end < total else total) - at)
    return <uint32_t>at


cdef bint again_pdu(lnt_conn *c, lnt_tx *x, uint8_t *h, uint8_t **data, uint32_t *length) noexcept nogil:
    # Builds the next PDU of what is sent again; True when it was the last.
    cdef lnt_tx *of = x.of
    cdef lnt_task *t = of.task
    cdef uint32_t at, n
    cdef bint burst_end
    cdef uint32_t stat_sn = 0
    if x.sn != x.sn_end:
        at = data_in_at(t, x.sn, &n)
        burst_end = at + n == task_total(t) or (at + n - t.again.base_offset) % t.session.max_burst == 0
        bhs_data_in(h, t.itt, x.sn, at, n, burst_end)
        if burst_end and asks_ack(t):
            bhs_ask_ack(h, t.lun_field, ack_tag(t))
        data[0] = t.send_data + at
        length[0] = n
        x.sn += 1
    else:
        x.status = 0
        stat_sn = of.stat_sn
        if of.kind == TX_TASK:
            response(c, t, h, data, length)
        else:
            memcpy(h, of.bhs, BHS_BYTES)
            put24(h + 5, of.length)
            data[0] = of.data
            length[0] = of.length
    bhs_numbers(h, stat_sn, c.session.exp_cmd_sn, window_end(c.session))
    c.resent += 1
    return x.sn == x.sn_end and not x.status


cdef void keep(lnt_reactor *r, lnt_conn *c, lnt_tx *x) noexcept nogil:
    # A response gets its StatSN: it stays until that is acknowledged.
    cdef uint64_t n
    cdef lnt_task *t = x.task
    x.stat_sn = c.stat_sn
    x.holds += 1
    x.kept = 1
    x.next = NULL
    if c.kept_tail != NULL:
        c.kept_tail.next = x
    else:
        c.kept_head = x
    c.kept_tail = x
    c.kept_count += 1
    if x.kind == TX_TASK:
        r.kept_tasks += 1
        if t.send_data != t.buf or t.send_sn == 0:
            task_drop_buffer(r, t)
        if t.send_sn == 0:
            free(t.send_heap)
            t.send_heap = NULL
        if t.buf != NULL:
            c.kept_buffered += buffer_bytes(t.buf_class)
    n = kept_size(x)
    c.kept_bytes += n
    r.kept_bytes += n


cdef void shed(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # Keeps what is kept within its bounds: the oldest data go first, then the oldest responses.
    cdef lnt_tx *x = c.kept_head
    cdef uint64_t most = r.buffers.conn_limit // 4
    cdef uint64_t most_of_all = r.buffers.limit // 4
    while x != NULL and (c.kept_bytes > most or r.kept_bytes > most_of_all):
        if x.kind == TX_TASK and x.holds == 0 and kept_size(x):
            tx_drop_data(r, x)
        x = x.next
    while (c.kept_head != NULL and c.kept_head.holds == 0
           and (c.kept_count > KEPT_MAX or c.kept_bytes > most or r.kept_tasks > r.max_tasks // 4)):
        tx_unkeep(r, c)


cdef void tx_acknowledge(lnt_reactor *r, lnt_conn *c, uint32_t exp_stat_sn) noexcept nogil:
    # ExpStatSN of any PDU of the initiator (RFC 7143 §4.2.2.2). What was never sent acknowledges nothing.
    if not sn_lt(c.exp_stat_sn, exp_stat_sn) or sn_lt(c.stat_sn, exp_stat_sn):
        return
    c.exp_stat_sn = exp_stat_sn
    while c.kept_head != NULL and sn_lt(c.kept_head.stat_sn, exp_stat_sn):
        tx_unkeep(r, c)


cdef void task_sent(lnt_reactor *r, lnt_conn *c, lnt_task *t) noexcept nogil:
    # The response left; the task only waits for its acknowledgement.
    t.tx.holds -= 1
    if r.aborts != NULL:
        r.abort_check = 1                   # it is done with the engine
    task_leave_lun(r, t)
    tx_gone(r, &t.tx)


# -- batches ---------------------------------------------------------------------------------------------------------

cdef void fill(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # Generates PDUs from the queue into the connection's arena and gather list.
    cdef lnt_tx *x
    cdef lnt_task *t
    cdef uint8_t *at = c.arena
    cdef uint8_t *h
    cdef uint8_t *data
    cdef uint32_t length, pad, crc
    cdef bint last
    c.slots = 0
    c.iov_at = 0
    c.iov_count = 0
    while c.slots < TX_SLOTS and c.tx_head != NULL:
        x = c.tx_head
        h = at
        data = NULL
        length = 0
        c.sent_task[c.slots] = NULL
        c.sent_tx[c.slots] = NULL
        if x.kind == TX_TASK:
            t = x.task
            last = task_pdu(c, t, h, &data, &length)
            if last:
                task_answered(t)
                c.sent_task[c.slots] = t
                c.tx_head = x.next
                bhs_numbers(h, c.stat_sn, t.session.exp_cmd_sn, window_end(t.session))
                if c.recovery:
                    keep(r, c, x)
                c.stat_sn += 1
            else:
                bhs_numbers(h, 0, t.session.exp_cmd_sn, window_end(t.session))
        elif x.kind == TX_AGAIN:
            if again_pdu(c, x, h, &data, &length):
                c.sent_tx[c.slots] = x
                c.tx_head = x.next
        else:
            memcpy(h, x.bhs, BHS_BYTES)
            data = x.data
            length = x.length
            put24(h + 5, length)
            c.sent_tx[c.slots] = x
            c.tx_head = x.next
            bhs_numbers(h, c.stat_sn, c.session.exp_cmd_sn, window_end(c.session))
            if consumes_stat_sn(h):
                if c.recovery:
                    keep(r, c, x)
                c.stat_sn += 1
        if c.tx_head == NULL:
            c.tx_tail = NULL
        at += BHS_BYTES
        if c.header_digest:
            crc = lnt_crc32c(0, h, BHS_BYTES)
            memcpy(at, &crc, 4)
            at += 4
        append(c, h, <uint32_t>(at - h))
        if length:
            append(c, data, length)
            pad = pad4(length)
            if pad or c.data_digest:
                memset(at, 0, pad)
                if c.data_digest:
                    crc = lnt_crc32c(lnt_crc32c(0, data, length), at, pad)
                    memcpy(at + pad, &crc, 4)
                    pad += 4
                at = append(c, at, pad)
        c.slots += 1
    c.tx_pdus += c.slots


cdef void release(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # The batch is on its way: frees what it held.
    cdef uint32_t i, n = c.slots
    cdef lnt_tx *x
    cdef bint close = False
    c.slots = 0
    for i in range(n):
        if c.sent_task[i] != NULL:
            if c.recovery:
                task_sent(r, c, c.sent_task[i])
            else:
                task_free(r, c.sent_task[i])
        x = c.sent_tx[i]
        if x != NULL:
            c.control_count -= 1
            c.control_bytes -= x.length
            close |= x.close
            if c.recovery:
                tx_let_go(r, x)
            else:
                free(x.heap)
                x.next = r.free_tx
                r.free_tx = x
    if c.recovery:
        shed(r, c)
    if c.paused and c.control_count < CONTROL_PAUSE // 2 and c.control_bytes < CONTROL_BYTES_PAUSE // 2:
        conn_resume(r, c)
    if close:
        conn_close(r, c, CLOSE_REQUESTED, "closed after its last answer")


cdef bint advance(lnt_reactor *r, lnt_conn *c, size_t n) noexcept nogil:
    # Accounts for n bytes sent; True when the batch is complete.
    cdef iovec *v
    c.tx_bytes += n
    while c.iov_at < c.iov_count:
        v = &c.iov[c.iov_at]
        if n < v.iov_len:
            v.iov_base = <uint8_t *>v.iov_base + n
            v.iov_len -= n
            return False
        n -= v.iov_len
        c.iov_at += 1
    release(r, c)
    return True


cdef void send_later(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # The socket is full: the ring waits for room.
    c.msg.msg_iov = &c.iov[c.iov_at]
    c.msg.msg_iovlen = c.iov_count - c.iov_at
    lnt_prep_sendmsg(r.ring, <int>c.file, &c.msg, MSG_WAITALL | MSG_NOSIGNAL, <uintptr_t>c | TAG_SEND)
    c.sending = 1
    c.ring_refs += 1
    r.async_sends += 1


cdef void tx_flush(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # Sends until the queue is empty or the socket is full.
    cdef ssize_t n
    while c.state == C_OPEN and not c.sending:
        if c.iov_at == c.iov_count:
            if c.tx_head == NULL:
                return
            fill(r, c)
        c.msg.msg_iov = &c.iov[c.iov_at]
        c.msg.msg_iovlen = c.iov_count - c.iov_at
        n = sendmsg(c.fd, &c.msg, MSG_DONTWAIT | MSG_NOSIGNAL | (MSG_MORE if c.tx_head != NULL else 0))
        r.sends += 1
        if n < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                send_later(r, c)
                return
            conn_close(r, c, CLOSE_PEER if errno == EPIPE or errno == ECONNRESET else CLOSE_ERROR, "send failed")
            return
        if not advance(r, c, <size_t>n):
            send_later(r, c)
            return


cdef void tx_completed(lnt_reactor *r, lnt_conn *c, int32_t result) noexcept nogil:
    # A send from the ring ended.
    c.sending = 0
    c.ring_refs -= 1
    if c.state != C_OPEN:
        r.reap_conns = 1
        return
    if result < 0 and result != -EINTR and result != -EAGAIN:
        conn_close(r, c, CLOSE_PEER if result == -EPIPE or result == -ECONNRESET else CLOSE_ERROR, "send failed")
        return
    if result > 0:
        c.last_rx_us = r.now_us         # it takes what it is sent: it lives
        if not advance(r, c, <size_t>result):
            send_later(r, c)
            return
    if result <= 0:
        send_later(r, c)
        return
    if not c.dirty:
        c.dirty = 1
        c.dirty_next = r.dirty
        r.dirty = c
