"""Commands and PDUs that Python decides: handed over with their data, answered when it has decided.

Owns nothing: it fills events and turns Python's answers into responses (RFC 7143 §11.3, §11.4, §11.18). What Python holds for
a command counts as the command's buffer would, before it is asked: answers that nobody reads hold up the questions.
"""
from core.base.memory cimport mem_new, mem_wider
from core.base.types cimport ST_MEMORY
from core.wire.answer cimport answer_clear, answer_given, answer_residual, answer_status
from core.wire.connection cimport connection_close
from core.wire.data_in cimport data_in_from_heap
from core.wire.handle cimport handle_of
from core.wire.latency cimport direction_of
from core.wire.mailbox cimport event_new, event_post
from core.wire.nexus cimport CLOSE_ERROR, EVENTS_MAX, EV_COMMAND, EV_PDU, T_PYTHON, lnt_event
from core.wire.operations cimport DIRECTION_READ, DIRECTION_WRITE, FAST_READ
from core.wire.pdu cimport (
    BHS_BYTES, BHS_CDB, BHS_ITT, CMD_READ, CMD_WRITE, TAG_NONE, bhs_nop_in, cdb_decode, get_be16, get_be32, lnt_cdb,
)
from core.wire.send cimport send_pdu, send_task
from core.wire.task cimport task_charge, task_drop_buffer, task_free, task_wait
from core.wire.thread cimport ACQUIRE, lnt_add32
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy

cdef enum:
    ANSWER_BYTES = 65536                  # what is counted for the answer of a command that is no READ, until it is known


cdef uint32_t answer_bytes(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # How much data Python may come to hold for its answer. A READ is read whole, whatever the initiator expects.
    cdef lnt_cdb cdb
    cdef uint64_t n = data_in_allowed(t)
    cdb_decode(t.bhs + BHS_CDB, &cdb)
    if cdb.kind != FAST_READ or t.lun == NULL:
        return <uint32_t>n if n < ANSWER_BYTES else ANSWER_BYTES
    n = <uint64_t>cdb.blocks * t.lun.obj.block_bytes
    return <uint32_t>n if n <= r.max_transfer else 0    # a longer one is refused


cdef void answer_busy(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # There is no memory to ask Python: the initiator tries again.
    answer_clear(t)
    answer_status(t, ST_MEMORY)
    answer_residual(t, t.edtl if t.flags & (CMD_READ | CMD_WRITE) else 0, 0)
    if t.lun != NULL:
        t.lun.counters.errors += 1
    task_drop_buffer(r, t)
    task_charge(r, t, 0, True)
    send_task(r, t)


cdef void command_to_python(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # It waits where the connection, or all of them together, hold too much already.
    cdef uint32_t n = t.out.got if t.out.got < t.out.want else t.out.want
    cdef uint32_t answer = answer_bytes(r, t)
    cdef lnt_event *e
    if answer and not task_charge(r, t, answer, False):
        task_wait(r, t)
        return
    if t.buffer == NULL:
        n = 0
    e = event_new(EV_COMMAND, n + t.ahs_length)
    if e == NULL:
        answer_busy(r, t)
        return
    if t.lun != NULL:
        t.lun.counters.slow += 1
    answer_clear(t)                           # what planning found is Python's to say
    e.length = n
    e.ahs_length = t.ahs_length
    if n:
        memcpy(<uint8_t *>(e + 1), t.buffer, n)
    if t.ahs_length:
        memcpy(<uint8_t *>(e + 1) + n, t.ahs, t.ahs_length)
    memcpy(e.bhs, t.bhs, BHS_BYTES)
    e.task = handle_of(t.index, t.generation)
    e.session = t.session.handle
    e.connection = t.connection.handle
    e.itt = t.itt
    e.edtl = t.edtl
    task_drop_buffer(r, t)                    # the copy is counted in its place
    task_charge(r, t, answer + n, True)
    t.state = T_PYTHON
    event_post(r, e)


cdef void pdu_to_python(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # A PDU that waited for its CmdSN; the task was only its place to wait.
    cdef lnt_event *e = event_new(EV_PDU, t.out.got)
    if e == NULL or lnt_add32(&t.connection.pending_events, 1, ACQUIRE) > EVENTS_MAX:
        free(e)
        connection_close(r, t.connection, CLOSE_ERROR, "out of memory or too many requests at once")
        return
    e.session = t.session.handle
    e.connection = t.connection.handle
    e.object = t.connection
    memcpy(e.bhs, t.bhs, BHS_BYTES)
    if t.out.got:
        memcpy(<uint8_t *>(e + 1), t.buffer, t.out.got)
    event_post(r, e)
    task_free(r, t)


cdef void echo_nop(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # A ping that waited for its CmdSN (RFC 7143 §11.19).
    cdef uint8_t h[BHS_BYTES]
    cdef uint32_t n = t.out.got if t.out.got < t.connection.max_send else t.connection.max_send
    cdef void *data = mem_new(n) if n else NULL
    if n and data == NULL:
        connection_close(r, t.connection, CLOSE_ERROR, "out of memory")
        return
    if n:
        memcpy(data, t.buffer, n)
    bhs_nop_in(h, t.lun_field, get_be32(t.bhs + BHS_ITT), <uint32_t>TAG_NONE, n)
    send_pdu(r, t.connection, h, <uint8_t *>data, n, data, False)
    task_free(r, t)


cdef uint32_t data_in_allowed(lnt_task *t) noexcept nogil:
    # EDTL of the read direction; for bidirectional commands it is in an AHS (RFC 7143 §11.2.2.4).
    cdef uint32_t at = 0
    cdef uint32_t n
    if not (t.flags & CMD_READ):
        return 0
    if not (t.flags & CMD_WRITE):
        return t.edtl
    while at + 4 <= t.ahs_length:
        n = get_be16(t.ahs + at)
        if t.ahs[at + 2] == 2 and n >= 5 and at + 8 <= t.ahs_length:
            return get_be32(t.ahs + at + 4)
        at += (n + 3 + 3) & ~<uint32_t>3
    return 0


cdef void command_complete(lnt_reactor *r, lnt_task *t, lnt_request *m) noexcept nogil:
    # Python's answer; takes ownership of `m`, unless it is a spare one, which has no data.
    cdef uint32_t allowed, n
    cdef lnt_request *cut
    answer_given(t, m)
    if t.flags & CMD_READ or m.length or not (t.flags & CMD_WRITE):
        allowed = data_in_allowed(t)
        n = m.length if m.length < allowed else allowed
        answer_residual(t, allowed, m.length)
        if n < m.length:
            cut = <lnt_request *>mem_wider(m, sizeof(lnt_request) + n)    # what is not sent is not held
            m = cut if cut != NULL else m
        data_in_from_heap(t, NULL if m.spare else m, <uint8_t *>(m + 1), n)
        task_charge(r, t, n, True)
        if t.lun != NULL and direction_of(t) == DIRECTION_READ:
            t.lun.counters.read_bytes += n
    else:
        data_in_from_heap(t, NULL if m.spare else m, NULL, 0)
        answer_residual(t, t.edtl, t.edtl if m.out_length < 0 else <uint64_t>m.out_length)
        task_charge(r, t, 0, True)
        if t.lun != NULL and direction_of(t) == DIRECTION_WRITE and not t.answer.status:
            t.lun.counters.write_bytes += t.edtl if m.out_length < 0 else <uint64_t>m.out_length
    send_task(r, t)
