# SCSI commands of the data plane: READ, WRITE, SYNCHRONIZE CACHE and TEST UNIT READY are decided and executed here,
# everything else goes to Python with its Data-Out (SBC-4 §5; RFC 7143 §11.3, §11.4, §11.8).
from core._buffers cimport buffer_bytes, buffer_give
from core._data_out cimport solicit
from core._pdu cimport (
    CMD_READ, CMD_WRITE, FAST_NONE, FAST_READ, FAST_SYNC, FAST_WRITE, OP_NOP_OUT, OPCODE_MASK,
    TAG_NONE, bhs_nop_in, cdb_decode, get16, get32,
    lnt_cdb, put16, put32, put64,
)
from core._session cimport (
    ACQUIRE, C_OPEN, CLOSE_ERROR, EV_COMMAND, EVENTS_MAX, EV_PDU, LUNF_DSENSE, LUNF_RO, LUNF_SLOW, LUNF_WRITE_SLOW,
    ATTRIBUTE_MASK, ATTRIBUTE_ORDERED, T_DATA, T_DEVICE, T_PYTHON, conn_close, event_new, event_post, handle_of,
    lnt_add32, lnt_event, lnt_inbox, lnt_load32, lnt_lun, lnt_reactor, lnt_task, task_buffer, task_drop_buffer,
    lun_unref, task_enable, task_free, task_wait,
)
from core._tx cimport tx_pdu, tx_task
from core._types cimport (
    OP_READ, OP_SYNC, OP_WRITE, OPF_FUA, ST_BUSY, ST_CHECKSUM, ST_GONE, ST_IO_READ, ST_IO_WRITE, ST_NO_SPACE, ST_OK,
    ST_PROTECTED, ST_RANGE, ST_READ_ONLY, lnt_op,
)
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef enum:
    STATUS_GOOD = 0x00
    STATUS_CHECK = 0x02
    STATUS_BUSY = 0x08
    KEY_MEDIUM = 3
    KEY_ILLEGAL = 5
    KEY_PROTECT = 7
    KEY_ABORTED = 0xb
    RESIDUAL_UNDER = 0x02
    RESIDUAL_OVER = 0x04
    BALLAST_BYTES = 65536


cdef inline uint32_t flags_of(lnt_lun *lun) noexcept nogil:
    return lnt_load32(&lun.flags, ACQUIRE)


# Sense data, fixed or descriptor format by the LUN's D_SENSE (SPC-5 §4.4); `lba` fills INFORMATION where there is one.
cdef void build_sense(lnt_task *t, uint8_t key, uint32_t asc_ascq, bint has_lba, uint64_t lba) noexcept nogil:
    cdef uint8_t *s = t.sense + 2
    cdef uint32_t n
    memset(t.sense, 0, 24)
    if t.lun != NULL and flags_of(t.lun) & LUNF_DSENSE:
        s[0] = 0x72
        s[1] = key
        put16(s + 2, asc_ascq)
        n = 8
        if has_lba:
            s[7] = 12
            s[9] = 10
            s[10] = 0x80
            put64(s + 12, lba)
            n = 20
    else:
        s[0] = 0x70
        s[2] = key
        s[7] = 10
        put16(s + 12, asc_ascq)
        if has_lba and lba <= 0xffffffffu:
            s[0] = 0xf0
            put32(s + 3, <uint32_t>lba)
        n = 18
    put16(t.sense, n)
    t.sense_length = <uint8_t>n
    t.status = STATUS_CHECK


cdef void command_sense(lnt_task *t, uint8_t key, uint32_t asc_ascq) noexcept nogil:
    build_sense(t, key, asc_ascq, False, 0)


cdef inline void set_residual(lnt_task *t, uint32_t declared, uint64_t actual) noexcept nogil:
    if actual > declared:
        t.residual_flags = RESIDUAL_OVER
        t.residual = <uint32_t>(actual - declared) if actual - declared < 0xffffffffu else 0xffffffffu
    elif actual < declared:
        t.residual_flags = RESIDUAL_UNDER
        t.residual = declared - <uint32_t>actual


# Answers a command that failed before it moved anything.
cdef void answer_failed(lnt_reactor *r, lnt_task *t) noexcept nogil:
    set_residual(t, t.edtl if t.flags & (CMD_READ | CMD_WRITE) else 0, 0)
    if t.lun != NULL:
        t.lun.errors += 1
    task_drop_buffer(r, t)
    tx_task(r, t)


# -- planning, at the header -----------------------------------------------------------------------------------------

cdef void plan_transfer(lnt_reactor *r, lnt_task *t, lnt_cdb *cdb, uint32_t flags) noexcept nogil:
    # READ or WRITE on a mapped LUN: fast, refused here, or left to Python.
    cdef uint64_t block = t.lun.obj.block_bytes
    cdef uint64_t capacity = t.lun.obj.size_bytes // block
    cdef uint64_t length = cdb.blocks * block
    if length > r.max_transfer:
        t.kind = FAST_NONE
        return
    t.expected = <uint32_t>length
    t.offset = cdb.lba * block
    t.fua = cdb.fua
    if flags & LUNF_SLOW or (cdb.kind == FAST_WRITE and flags & LUNF_WRITE_SLOW) or t.lun.obj.gone:
        t.kind = FAST_NONE
    elif cdb.kind == FAST_WRITE and (flags & LUNF_RO or t.lun.obj.read_only):
        build_sense(t, KEY_PROTECT, 0x2700, False, 0)
        t.expected = 0
    elif cdb.lba > capacity or cdb.blocks > capacity - cdb.lba:
        build_sense(t, KEY_ILLEGAL, 0x2100, True, cdb.lba if cdb.lba >= capacity else capacity)
        t.expected = 0


cdef void command_plan(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # Decides from the header what the command is and how much Data-Out it takes. t.lun is set if the LUN is mapped.
    cdef lnt_cdb cdb
    cdef lnt_lun *lun = t.lun
    cdef bint writes = (t.flags & CMD_WRITE) != 0
    cdef uint32_t flags
    cdef uint64_t block, capacity
    t.kind = FAST_NONE
    if lun != NULL and t.ahs == NULL and (t.flags & (CMD_READ | CMD_WRITE)) != (CMD_READ | CMD_WRITE):
        cdb_decode(t.bhs + 32, &cdb)
        t.kind = cdb.kind
        flags = flags_of(lun)
        if cdb.kind == FAST_READ or cdb.kind == FAST_WRITE:
            plan_transfer(r, t, &cdb, flags)
            if t.kind == FAST_NONE and t.expected == 0 and cdb.blocks:
                return                                  # too big: Python refuses it without its data
            if writes and (t.status or cdb.kind == FAST_WRITE):
                t.want = t.expected if t.expected < t.edtl else t.edtl
                return
            if t.kind != FAST_NONE:
                return
        elif cdb.kind != FAST_NONE:
            if flags & LUNF_SLOW or lun.obj.gone:
                t.kind = FAST_NONE
            elif cdb.kind == FAST_SYNC:
                block = lun.obj.block_bytes
                capacity = lun.obj.size_bytes // block
                if cdb.lba > capacity or cdb.blocks > capacity - cdb.lba:
                    build_sense(t, KEY_ILLEGAL, 0x2100, True, cdb.lba)
            if t.kind != FAST_NONE:
                return
    if writes:
        t.want = t.edtl if t.edtl < r.max_transfer else r.max_transfer


# -- stepping --------------------------------------------------------------------------------------------------------

cdef bint full_buffer(lnt_reactor *r, lnt_task *t, uint32_t length) noexcept nogil:
    # Makes the task's buffer hold `length` bytes, keeping what arrived in a smaller one.
    cdef uint8_t *old = t.buf
    cdef uint8_t old_class = t.buf_class
    cdef uint32_t have
    if old != NULL and buffer_bytes(old_class) >= length:
        return True
    if not task_buffer(r, t, length, False):
        t.buf = old
        t.buf_class = old_class
        return False
    if old != NULL:
        have = t.got if t.got < buffer_bytes(old_class) else <uint32_t>buffer_bytes(old_class)
        memcpy(t.buf, old, have)
        t.conn.buffered -= buffer_bytes(old_class)
        buffer_give(&r.buffers, old, old_class)
    return True


cdef void task_step(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # Moves a task on after its header, its data, its CmdSN's turn or a buffer came.
    if t.state != T_DATA or not t.ordered or t.receiving or t.waiting or t.dormant:
        return
    if t.aborted:
        task_free(r, t)
        return
    if t.is_pdu:
        if t.fail:
            task_free(r, t)
        elif (t.bhs[0] & OPCODE_MASK) == OP_NOP_OUT:
            echo_nop(r, t)
        else:
            pdu_to_python(r, t)
        return
    if t.unsolicited:
        return
    if t.fail:
        build_sense(t, KEY_ABORTED, t.fail, False, 0)
        answer_failed(r, t)
        return
    if t.got < t.want:
        if full_buffer(r, t, t.want):
            solicit(r, t)
        else:
            task_wait(r, t)
        return
    execute(r, t)


cdef void dormant_step(lnt_reactor *r) noexcept nogil:
    # Task sets that something left: what waited runs, in order, up to the next ORDERED task that still has to wait.
    cdef lnt_lun *lun
    cdef lnt_task *t
    while r.settle != NULL:
        lun = r.settle
        r.settle = lun.settle_next
        lun.settling = 0
        lun.refs += 1                   # stepping may end the last task of a LUN that is removed
        while lun.dormant_head != NULL and not lun.barrier:
            t = lun.dormant_head
            if t.flags & ATTRIBUTE_MASK == ATTRIBUTE_ORDERED and lun.enabled:
                break
            lun.dormant_head = t.next
            if t.next == NULL:
                lun.dormant_tail = NULL
            task_enable(t)
            task_step(r, t)
        lun_unref(r, lun)


cdef void waiting_step(lnt_reactor *r) noexcept nogil:
    # Buffers may have come back: tries the tasks that wait, in order, once each.
    cdef lnt_task *t = r.wait_head
    cdef lnt_task *following
    r.wait_head = NULL
    r.wait_tail = NULL
    while t != NULL:
        following = t.wait_next
        t.waiting = 0
        task_step(r, t)
        t = following


# -- execution -------------------------------------------------------------------------------------------------------

cdef void execute(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_lun *lun = t.lun
    cdef uint32_t flags
    if lun == NULL or t.kind == FAST_NONE:
        command_to_python(r, t)
        return
    flags = flags_of(lun)
    if flags & LUNF_SLOW or (t.kind == FAST_WRITE and flags & LUNF_WRITE_SLOW):
        command_to_python(r, t)
    elif t.status:
        answer_failed(r, t)
    elif t.kind == FAST_READ:
        execute_read(r, t)
    elif t.kind == FAST_WRITE:
        execute_write(r, t)
    elif t.kind == FAST_SYNC:
        lun.fast_other += 1
        submit(r, t, OP_SYNC, 0, 0)
    else:
        lun.fast_other += 1
        set_residual(t, t.edtl if t.flags & (CMD_READ | CMD_WRITE) else 0, 0)
        tx_task(r, t)


cdef void submit(lnt_reactor *r, lnt_task *t, uint8_t kind, uint64_t offset, uint64_t length) noexcept nogil:
    cdef lnt_op *op = &t.op
    memset(op, 0, sizeof(lnt_op))
    op.kind = kind
    op.flags = OPF_FUA if t.fua and kind == OP_WRITE else 0
    op.offset = offset
    op.length = length
    op.buf = t.buf
    op.obj = t.lun.obj
    op.dev = &r.disk.dev
    op.done = command_done
    op.owner = t
    t.state = T_DEVICE
    if r.submit_tail != NULL:
        r.submit_tail.next = op
    else:
        r.submit_head = op
    r.submit_tail = op


cdef void execute_read(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef uint32_t allowed = t.edtl if t.flags & CMD_READ else 0
    cdef uint32_t n = t.expected if t.expected < allowed else allowed
    cdef uint32_t block = t.lun.obj.block_bytes
    if n == 0:
        t.lun.fast_reads += 1
        set_residual(t, allowed, t.expected)
        tx_task(r, t)
        return
    t.send_left = n
    n = (n + block - 1) // block * block
    if t.buf == NULL and not task_buffer(r, t, n, False):
        t.send_left = 0
        task_wait(r, t)
        return
    t.lun.fast_reads += 1
    submit(r, t, OP_READ, t.offset, n)


cdef void execute_write(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef uint32_t n = t.want
    t.lun.fast_writes += 1
    if n % t.lun.obj.block_bytes:
        # The initiator declared a part of a block: nothing is written (SAM-5 §5.8.4, SPC-4 annex F 0Eh/03h).
        build_sense(t, KEY_ILLEGAL, 0x0e03, False, 0)
        t.send_left = 0
        task_drop_buffer(r, t)
        t.lun.errors += 1
        set_residual(t, t.edtl, t.expected)
        tx_task(r, t)
        return
    if n == 0:
        set_residual(t, t.edtl if t.flags & CMD_WRITE else 0, t.expected)
        tx_task(r, t)
        return
    submit(r, t, OP_WRITE, t.offset, n)


cdef void status_sense(lnt_task *t, uint8_t status) noexcept nogil:
    # lnt_status to sense: the table in _types.pxd.
    if status == ST_IO_READ or status == ST_CHECKSUM:
        build_sense(t, KEY_MEDIUM, 0x1100, True, (t.offset + t.op.result) // t.lun.obj.block_bytes)
    elif status == ST_IO_WRITE:
        build_sense(t, KEY_MEDIUM, 0x0c00, t.kind == FAST_WRITE, (t.offset + t.op.result) // t.lun.obj.block_bytes)
    elif status == ST_NO_SPACE:
        build_sense(t, KEY_PROTECT, 0x2707, False, 0)
    elif status == ST_READ_ONLY or status == ST_PROTECTED:
        build_sense(t, KEY_PROTECT, 0x2700, False, 0)
    elif status == ST_RANGE:
        build_sense(t, KEY_ILLEGAL, 0x2100, True, t.offset // t.lun.obj.block_bytes)
    elif status == ST_GONE:
        build_sense(t, KEY_ILLEGAL, 0x2500, False, 0)
    elif status == ST_BUSY:
        t.status = STATUS_BUSY
    else:
        build_sense(t, KEY_ABORTED, 0x4400, False, 0)


cdef void command_done(lnt_op *op) noexcept nogil:
    # The engine finished the op (no lock held): answer, or drop what was aborted meanwhile.
    cdef lnt_task *t = <lnt_task *>op.owner
    cdef lnt_reactor *r = t.session.reactor
    cdef lnt_lun *lun = t.lun
    if t.aborted or t.conn.state != C_OPEN:
        task_free(r, t)
        return
    if op.status != ST_OK:
        status_sense(t, op.status)
        t.send_left = 0
        answer_failed(r, t)
        return
    if t.kind == FAST_READ:
        lun.read_bytes += t.send_left
        t.send_data = t.buf
        if t.edtl != t.expected:
            set_residual(t, t.edtl, t.expected)
    elif t.kind == FAST_WRITE:
        lun.write_bytes += op.length
        if t.edtl != t.expected:
            set_residual(t, t.edtl, t.expected)
        task_drop_buffer(r, t)
    else:
        set_residual(t, t.edtl if t.flags & (CMD_READ | CMD_WRITE) else 0, 0)
    tx_task(r, t)


# -- Python's share --------------------------------------------------------------------------------------------------

cdef void command_to_python(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef uint32_t n = t.got if t.got < t.want else t.want
    cdef lnt_event *e
    if t.buf == NULL:
        n = 0
    e = event_new(EV_COMMAND, n + t.ahs_length)
    if e == NULL:
        conn_close(r, t.conn, CLOSE_ERROR, "out of memory")
        return
    if t.lun != NULL:
        t.lun.slow += 1
    t.status = STATUS_GOOD                    # what planning found is Python's to say
    t.sense_length = 0
    e.length = n
    e.ahs_length = t.ahs_length
    if n:
        memcpy(<uint8_t *>(e + 1), t.buf, n)
    if t.ahs_length:
        memcpy(<uint8_t *>(e + 1) + n, t.ahs, t.ahs_length)
    memcpy(e.bhs, t.bhs, 48)
    e.task = handle_of(t.index, t.generation)
    e.session = t.session.handle
    e.conn = t.conn.handle
    e.itt = t.itt
    e.edtl = t.edtl
    if n <= BALLAST_BYTES:                    # a bigger one stays, unused, so that the bounds hold for the copy
        task_drop_buffer(r, t)
    t.state = T_PYTHON
    event_post(r, e)


cdef void pdu_to_python(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # A PDU that waited for its CmdSN; the task was only its place to wait.
    cdef lnt_event *e = event_new(EV_PDU, t.got)
    if e == NULL or lnt_add32(&t.conn.pending_events, 1, ACQUIRE) > EVENTS_MAX:
        free(e)
        conn_close(r, t.conn, CLOSE_ERROR, "out of memory or too many requests at once")
        return
    e.session = t.session.handle
    e.conn = t.conn.handle
    e.object = t.conn
    memcpy(e.bhs, t.bhs, 48)
    if t.got:
        memcpy(<uint8_t *>(e + 1), t.buf, t.got)
    event_post(r, e)
    task_free(r, t)


cdef void echo_nop(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # A ping that waited for its CmdSN (RFC 7143 §11.19).
    cdef uint8_t h[48]
    cdef uint32_t n = t.got if t.got < t.conn.max_send else t.conn.max_send
    cdef void *data = malloc(n) if n else NULL
    if n and data == NULL:
        n = 0
    if n:
        memcpy(data, t.buf, n)
    bhs_nop_in(h, t.lun_field, get32(t.bhs + 16), <uint32_t>TAG_NONE, n)
    tx_pdu(r, t.conn, h, <uint8_t *>data, n, data, False)
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
        n = get16(t.ahs + at)
        if t.ahs[at + 2] == 2 and n >= 5 and at + 8 <= t.ahs_length:
            return get32(t.ahs + at + 4)
        at += (n + 3 + 3) & ~<uint32_t>3
    return 0


cdef void command_complete(lnt_reactor *r, lnt_task *t, lnt_inbox *m) noexcept nogil:
    # Python's answer; takes ownership of `m`.
    cdef uint32_t allowed
    t.send_heap = m
    t.status = m.status
    t.response = m.response
    if m.sense_length:
        put16(t.sense, m.sense_length)
        memcpy(t.sense + 2, m.sense, m.sense_length)
        t.sense_length = <uint8_t>m.sense_length
    if t.flags & CMD_READ or m.length or not (t.flags & CMD_WRITE):
        allowed = data_in_allowed(t)
        t.send_data = <uint8_t *>(m + 1)
        t.send_left = m.length if m.length < allowed else allowed
        set_residual(t, allowed, m.length)
    else:
        set_residual(t, t.edtl, t.edtl if m.out_length < 0 else <uint64_t>m.out_length)
    tx_task(r, t)
