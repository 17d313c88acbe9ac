# Frames of a stream: header and table to bytes and back, checked; the order in which they may come (docs/stream-format.md).
from core.stream.packing cimport lnt_packer
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

cdef extern from "stream/_stream.h" nogil:
    enum:
        S_MAGIC, S_VERSION, S_HEADER_BYTES, S_SPAN_BYTES, S_EXTENT_BYTES, S_MAX_EXTENTS, S_MAX_BODY_BYTES, S_END_BYTES
        S_MARK_BYTES, S_MARK_US
        SH_MAGIC, SH_VERSION, SH_TYPE, SH_FLAGS, SH_STREAM, SH_SEQUENCE, SH_OFFSET, SH_SPAN, SH_EXTENTS, SH_RAW_BYTES
        SH_STORED_BYTES, SH_BODY_CRC, SH_RESERVED, SH_HEADER_CRC, SX_DELTA, SX_BLOCKS, SX_KIND
        SN_FRAMES, SN_DATA_BYTES, SN_HOLE_BYTES, SN_ZERO_BYTES, SN_SHA256
        ST_BEGIN "STREAM_ST_BEGIN", ST_EXTENTS "STREAM_ST_EXTENTS", ST_HOLE "STREAM_ST_HOLE", ST_MARK "STREAM_ST_MARK"
        ST_KEEPALIVE "STREAM_ST_KEEPALIVE", ST_ERROR "STREAM_ST_ERROR", ST_END "STREAM_ST_END"
        FLAG_CRITICAL "STREAM_SF_CRITICAL", FLAG_ZSTD "STREAM_SF_ZSTD", FLAG_MORE "STREAM_SF_MORE"
        KIND_DATA "STREAM_SK_DATA", KIND_HOLE "STREAM_SK_HOLE", KIND_ZERO "STREAM_SK_ZERO"
        SS_IDLE "STREAM_SS_IDLE", SS_OPEN "STREAM_SS_OPEN", SS_OVER "STREAM_SS_OVER"
        SE_OK "STREAM_SE_OK", SE_FOREIGN "STREAM_SE_FOREIGN", SE_NEWER "STREAM_SE_NEWER", SE_HEADER "STREAM_SE_HEADER"
        SE_BODY "STREAM_SE_BODY", SE_MALFORMED "STREAM_SE_MALFORMED", SE_UNKNOWN "STREAM_SE_UNKNOWN"
        SE_ORDER "STREAM_SE_ORDER", SE_STREAM "STREAM_SE_STREAM", SE_PACKED "STREAM_SE_PACKED"
        SE_TRUNCATED "STREAM_SE_TRUNCATED", SE_ZSTD "STREAM_SE_ZSTD", SE_MEMORY "STREAM_SE_MEMORY"

cdef struct lnt_stream_header:
    uint16_t version
    uint8_t type
    uint8_t flags
    uint64_t stream
    uint64_t sequence
    uint64_t offset
    uint64_t span
    uint32_t extents
    uint32_t raw_bytes
    uint32_t stored_bytes
    uint32_t body_crc
    uint32_t header_crc

cdef struct lnt_stream_order:      # of one stream, by what has come so far; zeroed before its first frame
    uint64_t stream
    uint64_t sequence              # of the next frame
    uint64_t offset                # what is before it has been spoken of
    uint64_t size                  # of the volume
    uint64_t data_bytes
    uint64_t hole_bytes
    uint64_t zero_bytes
    uint8_t state

cdef int header_read(const uint8_t *raw, lnt_stream_header *h) noexcept nogil
cdef void header_write(uint8_t *raw, lnt_stream_header *h) noexcept nogil
cdef bint header_known(const lnt_stream_header *h) noexcept nogil
cdef int order_take(lnt_stream_order *o, const lnt_stream_header *h) noexcept nogil
cdef int end_check(const lnt_stream_order *o, const uint8_t *body) noexcept nogil
cdef int body_check(const lnt_stream_header *h, const uint8_t *stored) noexcept nogil
cdef int body_unpack(lnt_packer *z, const lnt_stream_header *h, const uint8_t *stored, uint8_t *raw) noexcept nogil
cdef int table_check(lnt_stream_order *o, const lnt_stream_header *h, const uint8_t *raw) noexcept nogil
cdef uint32_t body_write(lnt_packer *z, lnt_stream_header *h, uint8_t *to, const uint8_t *raw, bint pack) noexcept nogil
cdef bint all_zeros(const uint8_t *block) noexcept nogil
