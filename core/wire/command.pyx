"""SCSI commands of the data plane: planned at their header, stepped as data and buffers come, executed, answered.

READ, WRITE, SYNCHRONIZE CACHE and TEST UNIT READY are decided and executed here; everything else goes to Python with its Data-Out
(core/wire/handover.pyx; SBC-4 §5; RFC 7143 §11.3, §11.8).
"""
from core.base.types cimport OPF_FUA, OP_READ, OP_SYNC, OP_WRITE, ST_OK, lnt_op
from core.wire.answer cimport (
    ASC_INVALID_FIELD_IN_COMMAND_IU, ASC_LBA_OUT_OF_RANGE, ASC_WRITE_PROTECTED, KEY_ABORTED, KEY_ILLEGAL, KEY_PROTECT,
    answer_full, answer_residual, answer_sense, answer_status,
)
from core.wire.connection cimport connection_close
from core.wire.data_in cimport data_in_expect, data_in_ready
from core.wire.data_out cimport data_out_solicit, data_out_want
from core.wire.delay cimport (
    DELAY_FULL, DELAY_NOT, DELAY_WAITS, delay_active, delay_holds, delay_next, delay_settled, lnt_wait,
)
from core.wire.handover cimport command_to_python, echo_nop, pdu_to_python
from core.wire.lun cimport lun_flags, lun_ref, lun_unref
from core.wire.nexus cimport CLOSE_ERROR, CONNECTION_OPEN, LUNF_RO, LUNF_SLOW, LUNF_WRITE_SLOW, T_DATA, T_DEVICE, lnt_lun
from core.wire.numbering cimport numbering_opens
from core.wire.operations cimport FAST_NONE, FAST_READ, FAST_SYNC, FAST_WRITE
from core.wire.pdu cimport (
    BHS_BYTES, BHS_CDB, BHS_OPCODE, CMD_READ, CMD_WRITE, OPCODE_MASK, OP_NOP_OUT, TAG_NONE, bhs_nop_in, cdb_decode, lnt_cdb,
)
from core.wire.send cimport send_pdu, send_task
from core.wire.share cimport share_done, share_submit, share_waits
from core.wire.task cimport (
    task_buffer, task_check, task_copies, task_drop_buffer, task_free, task_grow_buffer, task_held, task_lies, task_wait,
    task_waiters,
)
from core.wire.task_set cimport task_set_next, task_set_to_settle
from libc.stdint cimport uint32_t, uint8_t
from libc.string cimport memset


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
        answer_sense(t, KEY_PROTECT, ASC_WRITE_PROTECTED, False, 0)
        t.expected = 0
    elif cdb.lba > capacity or cdb.blocks > capacity - cdb.lba:
        answer_sense(t, KEY_ILLEGAL, ASC_LBA_OUT_OF_RANGE, True, cdb.lba if cdb.lba >= capacity else capacity)
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
        cdb_decode(t.bhs + BHS_CDB, &cdb)
        t.kind = cdb.kind
        flags = lun_flags(lun)
        if cdb.kind == FAST_READ or cdb.kind == FAST_WRITE:
            plan_transfer(r, t, &cdb, flags)
            if t.kind == FAST_NONE and t.expected == 0 and cdb.blocks:
                return                                  # too big: Python refuses it without its data
            if writes and (t.answer.status or cdb.kind == FAST_WRITE):
                data_out_want(t, t.expected if t.expected < t.edtl else t.edtl)
                return
            if t.kind != FAST_NONE:
                return
        elif cdb.kind != FAST_NONE:
            if flags & LUNF_SLOW or (cdb.kind == FAST_SYNC and flags & LUNF_WRITE_SLOW) or lun.obj.gone:
                t.kind = FAST_NONE
            elif cdb.kind == FAST_SYNC:
                block = lun.obj.block_bytes
                capacity = lun.obj.size_bytes // block
                if cdb.lba > capacity or cdb.blocks > capacity - cdb.lba:
                    answer_sense(t, KEY_ILLEGAL, ASC_LBA_OUT_OF_RANGE, True, cdb.lba)
            if t.kind != FAST_NONE:
                return
    if writes:
        data_out_want(t, t.edtl if t.edtl < r.max_transfer else r.max_transfer)


# -- stepping --------------------------------------------------------------------------------------------------------

cdef void task_step(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # Moves a task on after its header, its data, its CmdSN's turn or a buffer came.
    cdef lnt_wait held
    task_check(t)
    if t.state != T_DATA or not t.ordered or t.out.receiving or t.waiting or t.dormant or t.delayed:
        return
    if t.aborted:
        task_free(r, t)
        return
    if t.is_pdu:
        if t.fail:
            task_free(r, t)
        elif (t.bhs[BHS_OPCODE] & OPCODE_MASK) == OP_NOP_OUT:
            echo_nop(r, t)
        else:
            pdu_to_python(r, t)
        return
    if t.out.unsolicited:
        return
    if t.fail:
        answer_sense(t, KEY_ABORTED, t.fail, False, 0)
        answer_failed(r, t)
        return
    if delay_active(t.lun):
        held = delay_holds(r, t, task_held(t))
        if held == DELAY_FULL:
            answer_full(t)
            answer_failed(r, t)
        elif held == DELAY_WAITS and numbering_opens(t):
            tell_window(r, t)
        if held != DELAY_NOT:
            return
    if t.out.got < t.out.want:
        if task_grow_buffer(r, t, t.out.want):
            data_out_solicit(r, t)
        else:
            task_wait(r, t)
        return
    execute(r, t)


cdef bint command_takes(lnt_reactor *r, lnt_task *t, const uint8_t *at) noexcept nogil:
    # All data of a WRITE stand at `at`, in a receive buffer. They stay there if it runs now; else it takes a copy of them. False:
    # there is no memory for that.
    if t.fail or t.aborted or (t.ordered and not t.dormant and task_lies(r, t, at)):
        return True
    if task_copies(r, t, at, t.out.want):
        return True
    connection_close(r, t.connection, CLOSE_ERROR, "out of memory")
    return False


cdef void tell_window(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # A NOP-In that wants no answer carries MaxCmdSN (RFC 7143 §11.19).
    cdef uint8_t h[BHS_BYTES]
    bhs_nop_in(h, t.lun_field, <uint32_t>TAG_NONE, <uint32_t>TAG_NONE, 0)
    send_pdu(r, t.connection, h, NULL, 0, NULL, False)


cdef void dormant_step(lnt_reactor *r) noexcept nogil:
    # Task sets that something left: what waited runs, in order, up to the next ORDERED task that still has to wait.
    cdef lnt_lun *lun
    cdef lnt_task *t
    lun = task_set_to_settle(r)
    while lun != NULL:
        lun_ref(lun)                    # stepping may end the last task of a LUN that is removed
        t = task_set_next(lun)
        while t != NULL:
            task_step(r, t)
            t = task_set_next(lun)
        lun_unref(r, lun)
        lun = task_set_to_settle(r)


cdef void delayed_step(lnt_reactor *r) noexcept nogil:
    # What limits made wait, and what they let begin now.
    cdef lnt_lun *lun = r.delays.first
    cdef lnt_lun *following
    cdef lnt_task *t
    while lun != NULL:
        following = lun.delay.next
        lun_ref(lun)
        t = delay_next(r, lun)
        while t != NULL:
            task_step(r, t)
            t = delay_next(r, lun)
        lun_unref(r, lun)
        lun = following
    delay_settled(r)


cdef void waiting_step(lnt_reactor *r) noexcept nogil:
    # Buffers may have come back: tries the tasks that wait, in order, once each.
    cdef lnt_task *t = task_waiters(r)
    cdef lnt_task *following
    while t != NULL:
        following = t.wait_next
        task_step(r, t)
        t = following


# -- execution -------------------------------------------------------------------------------------------------------

cdef void execute(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_lun *lun = t.lun
    cdef uint32_t flags
    if lun != NULL and t.kind == FAST_NONE and not t.flags & CMD_WRITE:
        command_plan(r, t)              # what Python had to decide at its header may not need it any more
    if lun == NULL or t.kind == FAST_NONE:
        command_to_python(r, t)
        return
    flags = lun_flags(lun)
    if flags & LUNF_SLOW or (t.kind == FAST_WRITE and flags & LUNF_WRITE_SLOW):
        command_to_python(r, t)
    elif t.answer.status:
        answer_failed(r, t)
    elif t.kind == FAST_READ:
        execute_read(r, t)
    elif t.kind == FAST_WRITE:
        execute_write(r, t)
    elif t.kind == FAST_SYNC:
        lun.counters.fast_other += 1
        submit(r, t, OP_SYNC, 0, 0)
    else:
        lun.counters.fast_other += 1
        answer_residual(t, t.edtl if t.flags & (CMD_READ | CMD_WRITE) else 0, 0)
        send_task(r, t)


cdef void submit(lnt_reactor *r, lnt_task *t, uint8_t kind, uint64_t offset, uint64_t length) noexcept nogil:
    cdef lnt_op *op = &t.op
    memset(op, 0, sizeof(lnt_op))
    op.kind = kind
    op.flags = OPF_FUA if t.fua and kind == OP_WRITE else 0
    op.offset = offset
    op.length = length
    op.buf = t.buffer
    op.obj = t.lun.obj
    op.dev = &r.disk.dev
    op.done = command_done
    op.owner = t
    t.state = T_DEVICE
    if kind == OP_SYNC or not share_waits(r, t.session, op):
        share_submit(r, op)


cdef void execute_read(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef uint32_t allowed = t.edtl if t.flags & CMD_READ else 0
    cdef uint32_t n = t.expected if t.expected < allowed else allowed
    cdef uint32_t block = t.lun.obj.block_bytes
    if n == 0:
        t.lun.counters.fast_reads += 1
        answer_residual(t, allowed, t.expected)
        send_task(r, t)
        return
    data_in_expect(t, n)
    n = (n + block - 1) // block * block
    if t.buffer == NULL and not task_buffer(r, t, n, False):
        data_in_expect(t, 0)
        task_wait(r, t)
        return
    t.lun.counters.fast_reads += 1
    submit(r, t, OP_READ, t.offset, n)


cdef void execute_write(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef uint32_t n = t.out.want
    t.lun.counters.fast_writes += 1
    if n % t.lun.obj.block_bytes:
        # The initiator declared a part of a block: nothing is written (SAM-5 §5.8.4, SPC-4 annex F 0Eh/03h).
        answer_sense(t, KEY_ILLEGAL, ASC_INVALID_FIELD_IN_COMMAND_IU, False, 0)
        data_in_expect(t, 0)
        task_drop_buffer(r, t)
        t.lun.counters.errors += 1
        answer_residual(t, t.edtl, t.expected)
        send_task(r, t)
        return
    if n == 0:
        answer_residual(t, t.edtl if t.flags & CMD_WRITE else 0, t.expected)
        send_task(r, t)
        return
    submit(r, t, OP_WRITE, t.offset, n)


# Answers a command that failed before it moved anything.
cdef void answer_failed(lnt_reactor *r, lnt_task *t) noexcept nogil:
    answer_residual(t, t.edtl if t.flags & (CMD_READ | CMD_WRITE) else 0, 0)
    if t.lun != NULL:
        t.lun.counters.errors += 1
    task_drop_buffer(r, t)
    send_task(r, t)


cdef void command_done(lnt_op *op) noexcept nogil:
    # The engine finished the op (no lock held): answer, or drop what was aborted meanwhile.
    cdef lnt_task *t = <lnt_task *>op.owner
    cdef lnt_reactor *r = t.session.reactor
    cdef lnt_lun *lun = t.lun
    task_check(t)
    if op.kind != OP_SYNC:
        share_done(r, t.session, op)
    if t.aborted or t.connection.state != CONNECTION_OPEN:
        task_free(r, t)
        return
    if op.status != ST_OK:
        answer_status(t, op.status)
        data_in_expect(t, 0)
        answer_failed(r, t)
        return
    if t.kind == FAST_READ:
        lun.counters.read_bytes += t.data_in.left
        data_in_ready(t)
        if t.edtl != t.expected:
            answer_residual(t, t.edtl, t.expected)
    elif t.kind == FAST_WRITE:
        lun.counters.write_bytes += op.length
        if t.edtl != t.expected:
            answer_residual(t, t.edtl, t.expected)
        task_drop_buffer(r, t)
    else:
        answer_residual(t, t.edtl if t.flags & (CMD_READ | CMD_WRITE) else 0, 0)
    send_task(r, t)
