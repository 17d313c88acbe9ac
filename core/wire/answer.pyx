"""How a command ends: status, sense data and residual (SPC-5 §4.4; RFC 7143 §11.4).

Lives here and nowhere else: `lnt_task.answer` and its sense data; the table from the engine's status to sense.
"""
from core.base.types cimport (
    ST_BUSY, ST_CHECKSUM, ST_GONE, ST_IO_READ, ST_IO_WRITE, ST_MEMORY, ST_NO_SPACE, ST_PROTECTED, ST_RANGE, ST_READ_ONLY,
)
from core.wire.lun cimport lun_flags
from core.wire.nexus cimport LUNF_DSENSE
from core.wire.pdu cimport FAST_WRITE, put_be16, put_be64
from libc.string cimport memcpy, memset

cdef enum:
    STATUS_GOOD = 0x00
    STATUS_CHECK = 0x02
    STATUS_BUSY = 0x08
    STATUS_TASK_SET_FULL = 0x28


# Sense data, fixed or descriptor format by the LUN's D_SENSE (SPC-5 §4.4); `lba` fills INFORMATION where there is one.
cdef void answer_sense(lnt_task *t, uint8_t key, uint32_t asc_ascq, bint has_lba, uint64_t lba) noexcept nogil:
    cdef uint8_t *s = t.sense + 2
    cdef uint32_t n
    memset(t.sense, 0, 24)
    if t.lun != NULL and lun_flags(t.lun) & LUNF_DSENSE:
        s[0] = 0x72
        s[1] = key
        put_be16(s + 2, asc_ascq)
        n = 8
        if has_lba:
            s[7] = 12
            s[9] = 10
            s[10] = 0x80
            put_be64(s + 12, lba)
            n = 20
    else:
        s[0] = 0x70
        s[2] = key
        s[7] = 10
        put_be16(s + 12, asc_ascq)
        if has_lba and lba <= 0xffffffffu:
            s[0] = 0xf0
            put_be32(s + 3, <uint32_t>lba)
        n = 18
    put_be16(t.sense, n)
    t.answer.sense_length = <uint8_t>n
    t.answer.status = STATUS_CHECK


cdef void answer_status(lnt_task *t, uint8_t status) noexcept nogil:
    # lnt_status to sense: the table in core/base/types.pxd.
    if status == ST_IO_READ or status == ST_CHECKSUM:
        answer_sense(t, KEY_MEDIUM, 0x1100, True, (t.offset + t.op.result) // t.lun.obj.block_bytes)
    elif status == ST_IO_WRITE:
        answer_sense(t, KEY_MEDIUM, 0x0c00, t.kind == FAST_WRITE, (t.offset + t.op.result) // t.lun.obj.block_bytes)
    elif status == ST_NO_SPACE:
        answer_sense(t, KEY_PROTECT, 0x2707, False, 0)
    elif status == ST_READ_ONLY or status == ST_PROTECTED:
        answer_sense(t, KEY_PROTECT, 0x2700, False, 0)
    elif status == ST_RANGE:
        answer_sense(t, KEY_ILLEGAL, 0x2100, True, t.offset // t.lun.obj.block_bytes)
    elif status == ST_GONE:
        answer_sense(t, KEY_ILLEGAL, 0x2500, False, 0)
    elif status == ST_BUSY or status == ST_MEMORY:
        t.answer.status = STATUS_BUSY
    else:
        answer_sense(t, KEY_ABORTED, 0x4400, False, 0)


cdef void answer_full(lnt_task *t) noexcept nogil:
    # There is no place for it where it would wait: the initiator asks for less at once (SAM-5 §5.3.1).
    t.answer.status = STATUS_TASK_SET_FULL
    t.answer.sense_length = 0


cdef void answer_clear(lnt_task *t) noexcept nogil:
    # What planning found is not said: somebody else decides.
    t.answer.status = STATUS_GOOD
    t.answer.sense_length = 0


cdef void answer_given(lnt_task *t, lnt_request *m) noexcept nogil:
    # Python's status, response and sense data.
    t.answer.status = m.status
    t.answer.response = m.response
    if m.sense_length:
        put_be16(t.sense, m.sense_length)
        memcpy(t.sense + 2, m.sense, m.sense_length)
        t.answer.sense_length = <uint8_t>m.sense_length
