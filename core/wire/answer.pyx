"""How a command ends: status, sense data and residual (SPC-5 §4.4; RFC 7143 §11.4).

Lives here and nowhere else: `lnt_task.answer` and its sense data; the table from the engine's status to sense.
"""
from core.base.types cimport (
    ST_BUSY, ST_CHECKSUM, ST_GONE, ST_IO_READ, ST_IO_WRITE, ST_MEMORY, ST_NO_SPACE, ST_PROTECTED, ST_RANGE, ST_READ_ONLY,
)
from core.wire.lun cimport lun_flags
from core.wire.nexus cimport LUNF_DSENSE
from core.wire.operations cimport FAST_WRITE
from core.wire.pdu cimport put_be16, put_be64
from libc.string cimport memcpy, memset

cdef enum:                             # sense data in fixed format (SPC-5 §4.4.3), from its first byte on
    FIXED_RESPONSE_CODE = 0
    FIXED_KEY = 2
    FIXED_INFORMATION = 3
    FIXED_ADDITIONAL_LENGTH = 7
    FIXED_ASC = 12                     # and ASCQ behind it
    FIXED_BYTES = 18

cdef enum:                             # in descriptor format (SPC-5 §4.4.2), with at most an Information descriptor (§4.4.2.2)
    DESCRIPTOR_RESPONSE_CODE = 0
    DESCRIPTOR_KEY = 1
    DESCRIPTOR_ASC = 2
    DESCRIPTOR_ADDITIONAL_LENGTH = 7
    DESCRIPTOR_HEADER_BYTES = 8
    INFORMATION_ADDITIONAL_LENGTH = 9  # its type, byte 8, is 0
    INFORMATION_FLAGS = 10
    INFORMATION = 12
    INFORMATION_BYTES = 12

cdef enum:
    CURRENT_FIXED = 0x70               # response codes: an error of this command
    CURRENT_DESCRIPTOR = 0x72
    VALID = 0x80                       # INFORMATION says something
    SENSE_LENGTH_BYTES = 2             # before the sense data in a response's data segment (RFC 7143 §11.4.7)


# Sense data, fixed or descriptor format by the LUN's D_SENSE (SPC-5 §4.4); `lba` fills INFORMATION where there is one.
cdef void answer_sense(lnt_task *t, uint8_t key, uint32_t asc_ascq, bint has_lba, uint64_t lba) noexcept nogil:
    cdef uint8_t *s = t.sense + SENSE_LENGTH_BYTES
    cdef uint32_t n
    memset(t.sense, 0, SENSE_LENGTH_BYTES + DESCRIPTOR_HEADER_BYTES + INFORMATION_BYTES)
    if t.lun != NULL and lun_flags(t.lun) & LUNF_DSENSE:
        s[DESCRIPTOR_RESPONSE_CODE] = CURRENT_DESCRIPTOR
        s[DESCRIPTOR_KEY] = key
        put_be16(s + DESCRIPTOR_ASC, asc_ascq)
        n = DESCRIPTOR_HEADER_BYTES
        if has_lba:
            s[DESCRIPTOR_ADDITIONAL_LENGTH] = INFORMATION_BYTES
            s[INFORMATION_ADDITIONAL_LENGTH] = INFORMATION_BYTES - 2
            s[INFORMATION_FLAGS] = VALID
            put_be64(s + INFORMATION, lba)
            n += INFORMATION_BYTES
    else:
        s[FIXED_RESPONSE_CODE] = CURRENT_FIXED
        s[FIXED_KEY] = key
        s[FIXED_ADDITIONAL_LENGTH] = FIXED_BYTES - FIXED_ADDITIONAL_LENGTH - 1
        put_be16(s + FIXED_ASC, asc_ascq)
        if has_lba and lba <= 0xffffffffu:
            s[FIXED_RESPONSE_CODE] = CURRENT_FIXED | VALID
            put_be32(s + FIXED_INFORMATION, <uint32_t>lba)
        n = FIXED_BYTES
    put_be16(t.sense, n)
    t.answer.sense_length = <uint8_t>n
    t.answer.status = STATUS_CHECK


cdef void answer_status(lnt_task *t, uint8_t status) noexcept nogil:
    # lnt_status to sense: the table in core/base/types.pxd.
    if status == ST_IO_READ or status == ST_CHECKSUM:
        answer_sense(t, KEY_MEDIUM, ASC_UNRECOVERED_READ, True, (t.offset + t.op.result) // t.lun.obj.block_bytes)
    elif status == ST_IO_WRITE:
        answer_sense(t, KEY_MEDIUM, ASC_WRITE_ERROR, t.kind == FAST_WRITE, (t.offset + t.op.result) // t.lun.obj.block_bytes)
    elif status == ST_NO_SPACE:
        answer_sense(t, KEY_PROTECT, ASC_SPACE_ALLOCATION, False, 0)
    elif status == ST_READ_ONLY or status == ST_PROTECTED:
        answer_sense(t, KEY_PROTECT, ASC_WRITE_PROTECTED, False, 0)
    elif status == ST_RANGE:
        answer_sense(t, KEY_ILLEGAL, ASC_LBA_OUT_OF_RANGE, True, t.offset // t.lun.obj.block_bytes)
    elif status == ST_GONE:
        answer_sense(t, KEY_ILLEGAL, ASC_LUN_NOT_SUPPORTED, False, 0)
    elif status == ST_BUSY or status == ST_MEMORY:
        t.answer.status = STATUS_BUSY
    else:
        answer_sense(t, KEY_ABORTED, ASC_INTERNAL_FAILURE, False, 0)


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
        memcpy(t.sense + SENSE_LENGTH_BYTES, m.sense, m.sense_length)
        t.answer.sense_length = <uint8_t>m.sense_length
