"""The receive side of a connection: a byte machine that takes PDUs apart in place and checks their digests.

Lives here and nowhere else: `lnt_connection.receive` (RFC 7143 §11.2, digests §13.1). What a PDU means is core/wire/arrival.pyx.
"""
from core.base.crc32c cimport lnt_crc32c
from core.wire.arrival cimport on_opcode, on_pdu_complete, settle_deferred
from core.wire.command cimport command_takes, task_step
from core.wire.connection cimport connection_close, connection_heard
from core.wire.data_out cimport data_arrived, data_out_received
from core.wire.kept cimport kept_acknowledge
from core.wire.nexus cimport (
    CLOSE_DIGEST, CLOSE_ERROR, CLOSE_PEER, CLOSE_PROTOCOL, CONNECTION_OPEN, RECEIVE_HEADER, RECEIVE_PAYLOAD, lnt_task,
)
from core.wire.payload cimport payload_begin, payload_bytes, payload_nowhere
from core.wire.pdu cimport (
    BHS_AHS_WORDS, BHS_BYTES, BHS_DATA_LENGTH, BHS_EXP_STAT_SN, BHS_OPCODE, OPCODE_MASK, OP_DATA_OUT, OP_SCSI_COMMAND,
    REJECT_DATA_DIGEST, get_be24, get_be32, pad4,
)
from core.wire.send cimport send_reject
from core.wire.task cimport task_free
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *buf, size_t n, int flags)
    int MSG_DONTWAIT

cdef enum:
    DIRECT_BYTES = 16384              # payloads with at least this much still to come are received in place


cdef void pdu_complete(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    # The whole PDU is here.
    cdef lnt_task *t = c.payload.task
    cdef const uint8_t *lies = c.payload.lies
    cdef uint8_t opcode = h[BHS_OPCODE] & OPCODE_MASK
    cdef uint32_t wire = 0
    cdef bint intact = True
    c.receive.state = RECEIVE_HEADER
    c.receive.header_have = 0
    if c.data_digest and c.receive.data_length:
        memcpy(&wire, c.receive.trail + pad4(c.receive.data_length), 4)
        intact = wire == lnt_crc32c(c.receive.crc, c.receive.trail, pad4(c.receive.data_length))
        if not intact:
            c.traffic.digest_errors += 1
    payload_nowhere(c)
    if t != NULL:
        data_out_received(t)
        if t.deferred:
            settle_deferred(r, c, t, h, intact)
        elif data_arrived(r, c, t, h, intact):
            if lies == NULL or command_takes(r, t, lies):
                task_step(r, t)
        else:
            task_free(r, t)
    elif c.payload.drop:
        return
    elif opcode != OP_SCSI_COMMAND and opcode != OP_DATA_OUT:
        on_pdu_complete(r, c, h, intact)
    elif not intact:
        send_reject(r, c, REJECT_DATA_DIGEST, h)


cdef void on_header(lnt_reactor *r, lnt_connection *c, const uint8_t *h) noexcept nogil:
    # BHS, AHS and header digest are contiguous at h.
    cdef uint32_t dsl = get_be24(h + BHS_DATA_LENGTH)
    cdef uint32_t bytes = BHS_BYTES + <uint32_t>h[BHS_AHS_WORDS] * 4
    cdef uint32_t wire
    c.traffic.rx_pdus += 1
    r.counters.pdus += 1
    if c.header_digest:
        memcpy(&wire, h + bytes, 4)
        if wire != lnt_crc32c(0, h, bytes):
            c.traffic.digest_errors += 1
            connection_close(r, c, CLOSE_DIGEST, "header digest error")
            return
    if dsl > c.max_recv:
        connection_close(r, c, CLOSE_PROTOCOL, "DataSegmentLength above MaxRecvDataSegmentLength")
        return
    c.receive.data_length = dsl
    payload_begin(c)
    if c.recovery:
        kept_acknowledge(r, c, get_be32(h + BHS_EXP_STAT_SN))
    on_opcode(r, c, h, dsl)
    if c.state != CONNECTION_OPEN:
        return
    c.receive.data_left = dsl
    c.receive.trail_have = 0
    c.receive.trail_left = 0
    c.receive.crc = 0
    if dsl == 0:
        pdu_complete(r, c, h)
        return
    c.receive.trail_left = pad4(dsl) + (4 if c.data_digest else 0)
    c.receive.state = RECEIVE_PAYLOAD
    if h != c.receive.header:
        memcpy(c.receive.header, h, BHS_BYTES)


cdef inline void payload_take(lnt_connection *c, const uint8_t *p, uint32_t n) noexcept nogil:
    # n payload bytes: to their place (unless received there) and into the digest.
    if c.data_digest:
        c.receive.crc = lnt_crc32c(c.receive.crc, p, n)
    payload_bytes(c, p, n)
    c.receive.data_left -= n


cdef void receive_bytes(lnt_reactor *r, lnt_connection *c, const uint8_t *p, uint32_t n) noexcept nogil:
    # Consumes all n bytes, or as many as it takes to close the connection.
    cdef uint32_t need, k
    cdef uint32_t digest = 4 if c.header_digest else 0
    c.traffic.rx_bytes += n
    connection_heard(c, r.now_us)
    while n and c.state == CONNECTION_OPEN:
        if c.receive.state == RECEIVE_PAYLOAD:
            if c.receive.data_left:
                k = n if n < c.receive.data_left else c.receive.data_left
                payload_take(c, p, k)
            else:
                k = n if n < c.receive.trail_left else c.receive.trail_left
                memcpy(c.receive.trail + c.receive.trail_have, p, k)
                c.receive.trail_have += k
                c.receive.trail_left -= k
            p += k
            n -= k
            if c.receive.data_left == 0 and c.receive.trail_left == 0:
                pdu_complete(r, c, c.receive.header)
            continue
        if c.receive.header_have == 0 and n >= BHS_BYTES:
            need = BHS_BYTES + <uint32_t>p[4] * 4 + digest
            if n >= need:
                c.receive.behind = p + need
                c.receive.ahead = n - need
                on_header(r, c, p)
                p += need
                n -= need
                continue
        need = BHS_BYTES if c.receive.header_have < BHS_BYTES else BHS_BYTES + <uint32_t>c.receive.header[4] * 4 + digest
        k = need - c.receive.header_have
        if k > n:
            k = n
        memcpy(c.receive.header + c.receive.header_have, p, k)
        c.receive.header_have += k
        p += k
        n -= k
        if c.receive.header_have >= BHS_BYTES and c.receive.header_have == BHS_BYTES + <uint32_t>c.receive.header[4] * 4 + digest:
            c.receive.ahead = 0
            on_header(r, c, c.receive.header)
    if (c.state == CONNECTION_OPEN and c.receive.state == RECEIVE_PAYLOAD and c.payload.left >= DIRECT_BYTES
            and not c.receive.bulk):
        c.receive.bulk = 1
        c.receive.bulk_next = r.bulk
        r.bulk = c


cdef void receive_direct(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    # Takes the rest of a big payload from the socket into its buffer. Nothing that arrived earlier may be unprocessed.
    cdef ssize_t n
    while c.state == CONNECTION_OPEN and c.receive.state == RECEIVE_PAYLOAD and c.payload.left >= DIRECT_BYTES:
        n = recv(c.fd, c.payload.to, c.payload.left, MSG_DONTWAIT)
        if n < 0:
            if errno == EINTR:
                continue
            if errno != EAGAIN:
                connection_close(r, c, CLOSE_ERROR, "receive failed")
            return
        if n == 0:
            connection_close(r, c, CLOSE_PEER, "closed by the peer")
            return
        r.counters.direct_receives += 1
        c.traffic.rx_bytes += <uint64_t>n
        connection_heard(c, r.now_us)
        payload_take(c, c.payload.to, <uint32_t>n)
        if c.receive.data_left == 0 and c.receive.trail_left == 0:
            pdu_complete(r, c, c.receive.header)


cdef lnt_connection *receive_bulk(lnt_reactor *r) noexcept nogil:
    # Takes the next connection off the list of those that want their payload received directly; NULL: there is none.
    cdef lnt_connection *c = r.bulk
    if c != NULL:
        r.bulk = c.receive.bulk_next
        c.receive.bulk = 0
    return c
