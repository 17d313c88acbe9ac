# How a command ends: status, sense data, residual.
from core.wire.nexus cimport lnt_connection, lnt_request, lnt_task
from core.wire.pdu cimport BHS_SNACK_TAG, bhs_scsi_response, put_be32
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    RESIDUAL_UNDER = 0x02
    RESIDUAL_OVER = 0x04

cdef enum:                         # SAM-5 §5.3.1
    STATUS_GOOD = 0x00
    STATUS_CHECK = 0x02
    STATUS_BUSY = 0x08
    STATUS_TASK_SET_FULL = 0x28

cdef enum:                         # ASC and ASCQ (SPC-5 annex F)
    ASC_WRITE_ERROR = 0x0c00
    ASC_INVALID_FIELD_IN_COMMAND_IU = 0x0e03
    ASC_UNRECOVERED_READ = 0x1100
    ASC_LBA_OUT_OF_RANGE = 0x2100
    ASC_LUN_NOT_SUPPORTED = 0x2500
    ASC_WRITE_PROTECTED = 0x2700
    ASC_SPACE_ALLOCATION = 0x2707  # SPACE ALLOCATION FAILED WRITE PROTECT
    ASC_INTERNAL_FAILURE = 0x4400

cdef enum:                         # sense keys
    KEY_MEDIUM = 3
    KEY_ILLEGAL = 5
    KEY_PROTECT = 7
    KEY_ABORTED = 0xb

cdef void answer_sense(lnt_task *t, uint8_t key, uint32_t asc_ascq, bint has_lba, uint64_t lba) noexcept nogil
cdef void answer_status(lnt_task *t, uint8_t status) noexcept nogil
cdef void answer_full(lnt_task *t) noexcept nogil
cdef void answer_clear(lnt_task *t) noexcept nogil
cdef void answer_given(lnt_task *t, lnt_request *m) noexcept nogil

cdef inline void answer_residual(lnt_task *t, uint32_t declared, uint64_t actual) noexcept nogil:
    # What the initiator declared against what the command moves (RFC 7143 §11.4.5).
    if actual > declared:
        t.answer.residual_flags = RESIDUAL_OVER
        t.answer.residual = <uint32_t>(actual - declared) if actual - declared < 0xffffffffu else 0xffffffffu
    elif actual < declared:
        t.answer.residual_flags = RESIDUAL_UNDER
        t.answer.residual = declared - <uint32_t>actual

cdef inline void response_pdu(lnt_connection *c, lnt_task *t, uint8_t *h, uint8_t **data, uint32_t *length) noexcept nogil:
    # The SCSI Response of the task, its sense data behind it.
    cdef uint32_t n = <uint32_t>t.answer.sense_length + 2 if t.answer.sense_length else 0
    bhs_scsi_response(h, t.itt, t.answer.response, t.answer.status, t.answer.residual_flags, t.answer.residual,
                      t.data_in.data_sn if t.data_in.data_sn else t.out.r2t_sn, n)
    if c.recovery:
        put_be32(h + BHS_SNACK_TAG, t.kept.snack_tag)
    data[0] = t.sense
    length[0] = n
