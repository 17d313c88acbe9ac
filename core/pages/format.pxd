# Pages as the medium has them: header, checksum, payload to and from what memory holds (docs/on-disk-format.md).
from core.base.crc32c cimport lnt_crc32c
from core.base.layout cimport L_BLOCK_BYTES, PG_CRC
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef void page_seal(lnt_pool *p, uint8_t *page, uint8_t kind, uint8_t level, uint32_t n, uint64_t home,
                    uint64_t generation) noexcept nogil
cdef int page_check(lnt_pool *p, const uint8_t *page, uint8_t kind, uint64_t home) noexcept nogil
cdef int page_decode(lnt_pool *p, lnt_page *f, const uint8_t *raw) noexcept nogil
cdef void page_serialise(lnt_pool *p, lnt_page *f) noexcept nogil

cdef inline uint32_t page_crc(const uint8_t *page) noexcept nogil:
    """What its checksum field shall say: of all behind that."""
    return lnt_crc32c(0, page + PG_CRC + 4, L_BLOCK_BYTES - PG_CRC - 4)
