# iSCSI PDU codec of the data plane, inline: byte order, header fields and the headers it builds (RFC 7143 §11).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

cdef enum:                         # where the fields of a BHS lie (RFC 7143 §11); one place has several names, by PDU
    BHS_OPCODE = 0
    BHS_FLAGS = 1
    BHS_RESPONSE = 2               # SCSI Response
    BHS_REASON = 2                 # Reject
    BHS_STATUS = 3
    BHS_AHS_WORDS = 4              # TotalAHSLength
    BHS_DATA_LENGTH = 5            # DataSegmentLength
    BHS_LUN = 8
    BHS_ITT = 16
    BHS_EDTL = 20                  # SCSI Command
    BHS_TTT = 20
    BHS_SNACK_TAG = 20             # SCSI Response, SNACK
    BHS_CMD_SN = 24                # from the initiator ...
    BHS_STAT_SN = 24               # ... to it
    BHS_EXP_STAT_SN = 28           # from the initiator ...
    BHS_EXP_CMD_SN = 28            # ... to it
    BHS_CDB = 32                   # SCSI Command
    BHS_MAX_CMD_SN = 32            # to the initiator
    BHS_DATA_SN = 36               # also R2TSN and ExpDataSN
    BHS_BUFFER_OFFSET = 40
    BHS_BEGIN_RUN = 40             # SNACK
    BHS_RESIDUAL = 44              # Data-In, SCSI Response
    BHS_DESIRED_LENGTH = 44        # R2T
    BHS_RUN_LENGTH = 44            # SNACK

cdef enum:
    BHS_BYTES = 48
    AHS_BYTES_MAX = 1020               # TotalAHSLength is a byte of 4-byte words
    TAG_NONE = 0xffffffff

cdef enum:                             # opcodes, RFC 7143 §11.2.1.2
    OP_NOP_OUT = 0x00
    OP_SCSI_COMMAND = 0x01
    OP_TMF_REQUEST = 0x02
    OP_LOGIN_REQUEST = 0x03
    OP_TEXT_REQUEST = 0x04
    OP_DATA_OUT = 0x05
    OP_LOGOUT_REQUEST = 0x06
    OP_SNACK = 0x10
    OP_NOP_IN = 0x20
    OP_SCSI_RESPONSE = 0x21
    OP_TMF_RESPONSE = 0x22
    OP_TEXT_RESPONSE = 0x24
    OP_DATA_IN = 0x25
    OP_LOGOUT_RESPONSE = 0x26
    OP_R2T = 0x31
    OP_ASYNC = 0x32
    OP_REJECT = 0x3f
    OPCODE_MASK = 0x3f
    OPCODE_IMMEDIATE = 0x40

cdef enum:                             # byte 1 of a SCSI Command, RFC 7143 §11.3.1
    CMD_FINAL = 0x80
    CMD_READ = 0x40
    CMD_WRITE = 0x20

cdef enum:                             # Reject reasons, RFC 7143 §11.17.1
    REJECT_DATA_DIGEST = 0x02
    REJECT_SNACK = 0x03
    REJECT_PROTOCOL = 0x04
    REJECT_NOT_SUPPORTED = 0x05
    REJECT_IMMEDIATE = 0x06
    REJECT_IN_PROGRESS = 0x07
    REJECT_INVALID_ACK = 0x08
    REJECT_INVALID_FIELD = 0x09


cdef inline uint16_t get_be16(const uint8_t *p) noexcept nogil:
    return <uint16_t>(p[0] << 8 | p[1])

cdef inline uint32_t get_be24(const uint8_t *p) noexcept nogil:
    return <uint32_t>p[0] << 16 | <uint32_t>p[1] << 8 | p[2]

cdef inline uint32_t get_be32(const uint8_t *p) noexcept nogil:
    return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]

cdef inline uint64_t get_be64(const uint8_t *p) noexcept nogil:
    return <uint64_t>get_be32(p) << 32 | get_be32(p + 4)

cdef inline void put_be16(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 8)
    p[1] = <uint8_t>v

cdef inline void put_be24(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 16)
    p[1] = <uint8_t>(v >> 8)
    p[2] = <uint8_t>v

cdef inline void put_be32(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v

cdef inline void put_be64(uint8_t *p, uint64_t v) noexcept nogil:
    put_be32(p, <uint32_t>(v >> 32))
    put_be32(p + 4, <uint32_t>v)

# Serial number arithmetic, RFC 1982 as RFC 7143 §4.2.2.1 uses it.
cdef inline bint sn_lt(uint32_t a, uint32_t b) noexcept nogil:
    return <uint32_t>(b - a - 1) < 0x7fffffffu

cdef inline bint sn_le(uint32_t a, uint32_t b) noexcept nogil:
    return a == b or sn_lt(a, b)

cdef inline uint32_t pad4(uint32_t n) noexcept nogil:
    return (4 - (n & 3)) & 3

# LUN number of an 8-byte LUN field: single-level, flat addressing or the number as it is (target/scsi/lun.py says who writes
# numbers above 255 so); -1 for anything else. SAM-5 §4.7.
cdef inline int lun_number(const uint8_t *p) noexcept nogil:
    if (p[2] | p[3] | p[4] | p[5] | p[6] | p[7]) != 0:
        return -1
    if p[0] & 0x80:
        return -1
    return (p[0] & 0x3f) << 8 | p[1]

cdef inline void bhs_data_in(uint8_t *h, uint32_t itt, uint32_t data_sn, uint32_t offset, uint32_t length,
                             bint final) noexcept nogil:
    memset(h, 0, BHS_BYTES)
    h[BHS_OPCODE] = OP_DATA_IN
    h[BHS_FLAGS] = 0x80 if final else 0
    put_be24(h + BHS_DATA_LENGTH, length)
    put_be32(h + BHS_ITT, itt)
    put_be32(h + BHS_TTT, <uint32_t>TAG_NONE)
    put_be32(h + BHS_DATA_SN, data_sn)
    put_be32(h + BHS_BUFFER_OFFSET, offset)

# Turns a Data-In into one that asks for a DataACK (A bit), RFC 7143 §11.7.2, §11.7.4.
cdef inline void bhs_ask_ack(uint8_t *h, const uint8_t *lun, uint32_t ttt) noexcept nogil:
    h[BHS_FLAGS] |= 0x40
    put_be32(h + BHS_LUN, get_be32(lun))
    put_be32(h + BHS_LUN + 4, get_be32(lun + 4))
    put_be32(h + BHS_TTT, ttt)

# Turns the last Data-In into one that carries GOOD status (S bit) and the residual, RFC 7143 §11.7.3.
cdef inline void bhs_data_in_status(uint8_t *h, uint8_t residual_flags, uint32_t residual) noexcept nogil:
    h[BHS_FLAGS] |= 0x81 | residual_flags
    put_be32(h + BHS_RESIDUAL, residual)

cdef inline void bhs_scsi_response(uint8_t *h, uint32_t itt, uint8_t response, uint8_t status, uint8_t residual_flags,
                                   uint32_t residual, uint32_t exp_data_sn, uint32_t data_length) noexcept nogil:
    memset(h, 0, BHS_BYTES)
    h[BHS_OPCODE] = OP_SCSI_RESPONSE
    h[BHS_FLAGS] = 0x80 | residual_flags
    h[BHS_RESPONSE] = response
    h[BHS_STATUS] = status
    put_be24(h + BHS_DATA_LENGTH, data_length)
    put_be32(h + BHS_ITT, itt)
    put_be32(h + BHS_DATA_SN, exp_data_sn)
    put_be32(h + BHS_RESIDUAL, residual)

cdef inline void bhs_r2t(uint8_t *h, const uint8_t *lun, uint32_t itt, uint32_t ttt, uint32_t r2t_sn,
                         uint32_t offset, uint32_t length) noexcept nogil:
    memset(h, 0, BHS_BYTES)
    h[BHS_OPCODE] = OP_R2T
    h[BHS_FLAGS] = 0x80
    put_be32(h + BHS_LUN, get_be32(lun))
    put_be32(h + BHS_LUN + 4, get_be32(lun + 4))
    put_be32(h + BHS_ITT, itt)
    put_be32(h + BHS_TTT, ttt)
    put_be32(h + BHS_DATA_SN, r2t_sn)
    put_be32(h + BHS_BUFFER_OFFSET, offset)
    put_be32(h + BHS_DESIRED_LENGTH, length)

cdef inline void bhs_nop_in(uint8_t *h, const uint8_t *lun, uint32_t itt, uint32_t ttt,
                            uint32_t data_length) noexcept nogil:
    memset(h, 0, BHS_BYTES)
    h[BHS_OPCODE] = OP_NOP_IN
    h[BHS_FLAGS] = 0x80
    put_be24(h + BHS_DATA_LENGTH, data_length)
    put_be32(h + BHS_LUN, get_be32(lun))
    put_be32(h + BHS_LUN + 4, get_be32(lun + 4))
    put_be32(h + BHS_ITT, itt)
    put_be32(h + BHS_TTT, ttt)

cdef inline void bhs_reject(uint8_t *h, uint8_t reason) noexcept nogil:
    memset(h, 0, BHS_BYTES)
    h[BHS_OPCODE] = OP_REJECT
    h[BHS_FLAGS] = 0x80
    h[BHS_REASON] = reason
    put_be24(h + BHS_DATA_LENGTH, BHS_BYTES)
    put_be32(h + BHS_ITT, <uint32_t>TAG_NONE)

cdef inline void bhs_numbers(uint8_t *h, uint32_t stat_sn, uint32_t exp_cmd_sn, uint32_t max_cmd_sn) noexcept nogil:
    put_be32(h + BHS_STAT_SN, stat_sn)
    put_be32(h + BHS_EXP_CMD_SN, exp_cmd_sn)
    put_be32(h + BHS_MAX_CMD_SN, max_cmd_sn)

# What a SCSI command asks for that the data plane decides itself (SBC-4 §5, SPC-5 §6).
cdef struct lnt_cdb:
    uint8_t kind              # FAST_... (core/wire/operations.h)
    uint8_t fua
    uint64_t lba
    uint32_t blocks

cdef void cdb_decode(const uint8_t *cdb, lnt_cdb *out) noexcept nogil
