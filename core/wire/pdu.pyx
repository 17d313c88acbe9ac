"""The data plane's CDB decoder, and its PDU codec for the tests (RFC 7143 §11; SBC-4 §5). Owns nothing."""


# Everything the fast path must not decide (protection fields, NACA, IMMED, unknown codes) decodes to FAST_NONE.
cdef void cdb_decode(const uint8_t *cdb, lnt_cdb *out) noexcept nogil:
    cdef uint8_t op = cdb[0]
    out.kind = FAST_NONE
    out.fua = 0
    out.lba = 0
    out.blocks = 0
    if op == 0x28 or op == 0x2a:                       # READ (10), WRITE (10)
        if cdb[1] & 0xe0 or cdb[9] & 4:
            return
        out.lba = get_be32(cdb + 2)
        out.blocks = get_be16(cdb + 7)
    elif op == 0x88 or op == 0x8a:                     # READ (16), WRITE (16)
        if cdb[1] & 0xe0 or cdb[15] & 4:
            return
        out.lba = get_be64(cdb + 2)
        out.blocks = get_be32(cdb + 10)
    elif op == 0xa8 or op == 0xaa:                     # READ (12), WRITE (12)
        if cdb[1] & 0xe0 or cdb[11] & 4:
            return
        out.lba = get_be32(cdb + 2)
        out.blocks = get_be32(cdb + 6)
    elif op == 0x08 or op == 0x0a:                     # READ (6), WRITE (6): 21-bit LBA, 0 means 256 blocks
        if cdb[1] & 0xe0 or cdb[5] & 4:
            return
        out.lba = get_be24(cdb + 1) & 0x1fffff
        out.blocks = cdb[4] if cdb[4] else 256
        out.kind = FAST_READ if op == 0x08 else FAST_WRITE
        return
    elif op == 0x35:                                   # SYNCHRONIZE CACHE (10)
        if cdb[1] & 2 or cdb[9] & 4:
            return
        out.lba = get_be32(cdb + 2)
        out.blocks = get_be16(cdb + 7)
        out.kind = FAST_SYNC
        return
    elif op == 0x91:                                   # SYNCHRONIZE CACHE (16)
        if cdb[1] & 2 or cdb[15] & 4:
            return
        out.lba = get_be64(cdb + 2)
        out.blocks = get_be32(cdb + 10)
        out.kind = FAST_SYNC
        return
    elif op == 0x00:                                   # TEST UNIT READY
        if not (cdb[5] & 4):
            out.kind = FAST_TUR
        return
    else:
        return
    out.fua = cdb[1] >> 3 & 1
    out.kind = FAST_WRITE if op & 2 else FAST_READ


def decode_cdb(cdb: bytes) -> tuple[int, int, int, int]:
    """(kind, lba, blocks, fua) of a CDB of at least 16 bytes; kind 0 is not for the fast path."""
    cdef lnt_cdb out
    if len(cdb) < 16:
        raise ValueError("a CDB here has at least 16 bytes")
    cdb_decode(cdb, &out)
    return out.kind, out.lba, out.blocks, out.fua


def build_data_in(itt: int, data_sn: int, offset_bytes: int, length_bytes: int, final: bool) -> bytes:
    """BHS of a Data-In without status."""
    cdef uint8_t h[48]
    bhs_data_in(h, itt, data_sn, offset_bytes, length_bytes, final)
    return h[:48]


def build_data_in_status(itt: int, data_sn: int, offset_bytes: int, length_bytes: int, residual_flags: int,
                         residual: int) -> bytes:
    """BHS of the last Data-In of a command that ends GOOD."""
    cdef uint8_t h[48]
    bhs_data_in(h, itt, data_sn, offset_bytes, length_bytes, True)
    bhs_data_in_status(h, residual_flags, residual)
    return h[:48]


def build_data_in_asking(lun: bytes, itt: int, ttt: int, data_sn: int, offset_bytes: int, length_bytes: int) -> bytes:
    """BHS of a Data-In at the end of a burst that asks for a DataACK (A bit)."""
    cdef uint8_t h[48]
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    bhs_data_in(h, itt, data_sn, offset_bytes, length_bytes, True)
    bhs_ask_ack(h, lun, ttt)
    return h[:48]


def build_scsi_response(itt: int, response: int, status: int, residual_flags: int, residual: int, exp_data_sn: int,
                        data_length: int) -> bytes:
    """BHS of a SCSI Response."""
    cdef uint8_t h[48]
    bhs_scsi_response(h, itt, response, status, residual_flags, residual, exp_data_sn, data_length)
    return h[:48]


def build_r2t(lun: bytes, itt: int, ttt: int, r2t_sn: int, offset_bytes: int, length_bytes: int) -> bytes:
    """BHS of an R2T; lun is the 8-byte field."""
    cdef uint8_t h[48]
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    bhs_r2t(h, lun, itt, ttt, r2t_sn, offset_bytes, length_bytes)
    return h[:48]


def build_nop_in(lun: bytes, itt: int, ttt: int, data_length: int) -> bytes:
    """BHS of a NOP-In."""
    cdef uint8_t h[48]
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    bhs_nop_in(h, lun, itt, ttt, data_length)
    return h[:48]


def build_reject(reason: int) -> bytes:
    """BHS of a Reject that carries the 48 bytes of the refused header."""
    cdef uint8_t h[48]
    bhs_reject(h, reason)
    return h[:48]


def with_numbers(bhs: bytes, stat_sn: int, exp_cmd_sn: int, max_cmd_sn: int) -> bytes:
    """The BHS with its three sequence numbers filled in."""
    cdef uint8_t h[48]
    cdef Py_ssize_t i
    if len(bhs) != 48:
        raise ValueError("a BHS has 48 bytes")
    for i in range(48):
        h[i] = bhs[i]
    bhs_numbers(h, stat_sn, exp_cmd_sn, max_cmd_sn)
    return h[:48]


def decode_lun(lun: bytes) -> int:
    """The LUN number in an 8-byte field, -1 if it is not a single-level address."""
    if len(lun) != 8:
        raise ValueError("a LUN field has 8 bytes")
    return lun_number(lun)


def serial_less(a: uint32_t, b: uint32_t) -> bool:
    """a before b in 32-bit serial number arithmetic."""
    return sn_lt(a, b)
