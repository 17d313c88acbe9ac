"""The data plane's CDB decoder, and its PDU codec for the tests (RFC 7143 §11; SBC-4 §5). Owns nothing."""
from core.wire.operations cimport FAST_NONE, FAST_SYNC, FAST_TUR, lnt_operation, lnt_operations


cdef enum:                             # where the fields of a CDB lie, by its length (SPC-5 §4.2.2, SBC-4 §5)
    CDB_BITS = 1                       # FUA, protection, IMMED
    CDB6_LBA = 1                       # its low 21 bits
    CDB6_BLOCKS = 4
    CDB6_CONTROL = 5
    CDB10_LBA = 2
    CDB10_BLOCKS = 7
    CDB10_CONTROL = 9
    CDB12_LBA = 2
    CDB12_BLOCKS = 6
    CDB12_CONTROL = 11
    CDB16_LBA = 2
    CDB16_BLOCKS = 10
    CDB16_CONTROL = 15

cdef enum:
    CDB_FUA = 0x08
    CONTROL_NACA = 0x04
    CDB6_LBA_MASK = 0x1fffff
    CDB6_BLOCKS_OF_ZERO = 256          # what the field says with 0


cdef inline uint8_t cdb_range(const uint8_t *cdb, lnt_cdb *out) noexcept nogil:
    """Which blocks it names, by its group code (SPC-5 §4.2.5.1). Returns its CONTROL byte."""
    cdef uint8_t group = cdb[0] >> 5
    if group == 0:
        out.lba = get_be24(cdb + CDB6_LBA) & CDB6_LBA_MASK
        out.blocks = cdb[CDB6_BLOCKS]
        if out.blocks == 0:
            out.blocks = CDB6_BLOCKS_OF_ZERO
        return cdb[CDB6_CONTROL]
    if group == 4:
        out.lba = get_be64(cdb + CDB16_LBA)
        out.blocks = get_be32(cdb + CDB16_BLOCKS)
        return cdb[CDB16_CONTROL]
    if group == 5:
        out.lba = get_be32(cdb + CDB12_LBA)
        out.blocks = get_be32(cdb + CDB12_BLOCKS)
        return cdb[CDB12_CONTROL]
    out.lba = get_be32(cdb + CDB10_LBA)
    out.blocks = get_be16(cdb + CDB10_BLOCKS)
    return cdb[CDB10_CONTROL]


# Everything the fast path must not decide (protection fields, NACA, IMMED, unknown codes) decodes to FAST_NONE.
cdef void cdb_decode(const uint8_t *cdb, lnt_cdb *out) noexcept nogil:
    cdef const lnt_operation *operation = &lnt_operations[cdb[0]]
    out.kind = FAST_NONE
    out.fua = 0
    out.lba = 0
    out.blocks = 0
    if operation.fast == FAST_NONE or cdb[CDB_BITS] & operation.slow_bits:
        return
    if not cdb_range(cdb, out) & CONTROL_NACA:
        out.kind = operation.fast
    if out.kind == FAST_NONE or out.kind == FAST_TUR:
        out.lba = out.blocks = 0
    elif operation.fast != FAST_SYNC and cdb[0] >> 5:          # six bytes have no room for it
        out.fua = cdb[CDB_BITS] & CDB_FUA != 0


def decode_cdb(cdb: bytes) -> tuple[int, int, int, int]:
    """(kind, lba, blocks, fua) of a CDB of at least 16 bytes; kind 0 is not for the fast path."""
    cdef lnt_cdb out
    if len(cdb) < 16:
        raise ValueError("a CDB here has at least 16 bytes")
    cdb_decode(cdb, &out)
    return out.kind, out.lba, out.blocks, out.fua


def operation_rows() -> list[tuple[int, int, int]]:
    """What is known by operation code: (FAST_..., DIRECTION_..., bits of byte 1 that are Python's), for each of the 256."""
    return [(lnt_operations[i].fast, lnt_operations[i].direction, lnt_operations[i].slow_bits) for i in range(256)]


def build_data_in(itt: int, data_sn: int, offset_bytes: int, length_bytes: int, final: bool) -> bytes:
    """BHS of a Data-In without status."""
    cdef uint8_t h[BHS_BYTES]
    bhs_data_in(h, itt, data_sn, offset_bytes, length_bytes, final)
    return h[:BHS_BYTES]


def build_data_in_status(itt: int, data_sn: int, offset_bytes: int, length_bytes: int, residual_flags: int,
                         residual: int) -> bytes:
    """BHS of the last Data-In of a command that ends GOOD."""
    cdef uint8_t h[BHS_BYTES]
    bhs_data_in(h, itt, data_sn, offset_bytes, length_bytes, True)
    bhs_data_in_status(h, residual_flags, residual)
    return h[:BHS_BYTES]


def build_data_in_asking(lun: bytes, itt: int, ttt: int, data_sn: int, offset_bytes: int, length_bytes: int) -> bytes:
    """BHS of a Data-In at the end of a burst that asks for a DataACK (A bit)."""
    cdef uint8_t h[BHS_BYTES]
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    bhs_data_in(h, itt, data_sn, offset_bytes, length_bytes, True)
    bhs_ask_ack(h, lun, ttt)
    return h[:BHS_BYTES]


def build_scsi_response(itt: int, response: int, status: int, residual_flags: int, residual: int, exp_data_sn: int,
                        data_length: int) -> bytes:
    """BHS of a SCSI Response."""
    cdef uint8_t h[BHS_BYTES]
    bhs_scsi_response(h, itt, response, status, residual_flags, residual, exp_data_sn, data_length)
    return h[:BHS_BYTES]


def build_r2t(lun: bytes, itt: int, ttt: int, r2t_sn: int, offset_bytes: int, length_bytes: int) -> bytes:
    """BHS of an R2T; lun is the 8-byte field."""
    cdef uint8_t h[BHS_BYTES]
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    bhs_r2t(h, lun, itt, ttt, r2t_sn, offset_bytes, length_bytes)
    return h[:BHS_BYTES]


def build_nop_in(lun: bytes, itt: int, ttt: int, data_length: int) -> bytes:
    """BHS of a NOP-In."""
    cdef uint8_t h[BHS_BYTES]
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    bhs_nop_in(h, lun, itt, ttt, data_length)
    return h[:BHS_BYTES]


def build_reject(reason: int) -> bytes:
    """BHS of a Reject that carries the 48 bytes of the refused header."""
    cdef uint8_t h[BHS_BYTES]
    bhs_reject(h, reason)
    return h[:BHS_BYTES]


def with_numbers(bhs: bytes, stat_sn: int, exp_cmd_sn: int, max_cmd_sn: int) -> bytes:
    """The BHS with its three sequence numbers filled in."""
    cdef uint8_t h[BHS_BYTES]
    cdef Py_ssize_t i
    if len(bhs) != BHS_BYTES:
        raise ValueError("a BHS has 48 bytes")
    for i in range(BHS_BYTES):
        h[i] = bhs[i]
    bhs_numbers(h, stat_sn, exp_cmd_sn, max_cmd_sn)
    return h[:BHS_BYTES]


def decode_lun(lun: bytes) -> int:
    """The LUN number in an 8-byte field, -1 if it is not a single-level address."""
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    return lun_number(lun)


def serial_less(a: uint32_t, b: uint32_t) -> bool:
    """a before b in 32-bit serial number arithmetic."""
    return sn_lt(a, b)
