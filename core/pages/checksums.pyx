"""CRC32C of data blocks, kept by block in the zone's checksum pages (docs/on-disk-format.md, csum)."""
from core.base.crc32c cimport lnt_crc32c
from core.base.entries cimport WAIT
from core.base.layout cimport L_BLOCK_BYTES, L_CSUM_BLOCKS, L_CSUM_START, L_ZONE_BLOCKS, PK_CSUM
from core.base.mutations cimport M_FIRST_BAD, M_NO_DATA_CRC, M_ZONELESS_SUMS
from core.base.native cimport lnt_get_le32, lnt_put_le32
from core.base.page cimport lnt_page
from core.base.types cimport ST_CHECKSUM
from core.pages.cache cimport cache_get, page_dirty


cdef inline lnt_page *page_of(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t *index, int *rc) noexcept nogil:
    cdef uint64_t zone = pba // L_ZONE_BLOCKS
    cdef uint64_t at = pba % L_ZONE_BLOCKS
    index[0] = <uint32_t>(at % L_CSUM_BLOCKS)
    return cache_get(p, who, zone * L_ZONE_BLOCKS + L_CSUM_START + at // L_CSUM_BLOCKS, PK_CSUM, 0, rc)


cdef int csum_touch(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n) noexcept nogil:
    """0 when the checksums of all the blocks are in memory, else WAIT or a status."""
    cdef uint32_t i, index
    cdef int rc, worst = 0
    for i in range(n):
        if i == 0 or ((pba + i) % L_ZONE_BLOCKS if not p.mutations & M_ZONELESS_SUMS else pba + i) % L_CSUM_BLOCKS == 0:
            rc = 0
            if page_of(p, who, pba + i, &index, &rc) == NULL and (rc == WAIT or worst == 0):
                worst = rc
    return worst


cdef void csum_put(lnt_pool *p, uint64_t pba, uint32_t n, const uint8_t *data, uint32_t *sums) noexcept nogil:
    """Note the checksums of touched blocks, and give them to the caller for the journal."""
    cdef uint32_t i
    for i in range(n):
        sums[i] = lnt_crc32c(0, data + <uint64_t>i * L_BLOCK_BYTES, L_BLOCK_BYTES)
    csum_set(p, pba, n, <const uint8_t *>sums)


cdef int csum_set(lnt_pool *p, uint64_t pba, uint32_t n, const uint8_t *sums) noexcept nogil:
    cdef uint32_t i, index
    cdef int rc = 0
    cdef lnt_page *f
    for i in range(n):
        f = page_of(p, NULL, pba + i, &index, &rc)
        if f == NULL:
            return rc
        page_dirty(p, f)
        lnt_put_le32(f.data + 4 * index, lnt_get_le32(sums + 4 * i))
    return 0


cdef int csum_verify(lnt_pool *p, lnt_waiter *who, uint64_t pba, uint32_t n, const uint8_t *data, uint32_t *bad) noexcept nogil:
    """0, WAIT, or ST_CHECKSUM when a block is not what was written: `bad` is the first."""
    cdef uint32_t i, index
    cdef int rc = csum_touch(p, who, pba, n)
    cdef lnt_page *f
    if rc:
        return rc
    for i in range(n):
        f = page_of(p, who, pba + i, &index, &rc)
        if lnt_get_le32(f.data + 4 * index) != lnt_crc32c(
                0, data + <uint64_t>i * L_BLOCK_BYTES, L_BLOCK_BYTES) and not p.mutations & M_NO_DATA_CRC:
            bad[0] = i if not p.mutations & M_FIRST_BAD else 0
            return ST_CHECKSUM
    return 0
