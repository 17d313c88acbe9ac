"""Pages as the medium has them: header, checksum, payload to and from what memory holds (docs/on-disk-format.md).

Owns nothing.
"""
from core.base.entries cimport E_FOLLOW, E_SPARSE, group_bits
from core.base.layout cimport (
    L_BLOCK_BYTES, L_COUNT_START, L_NODE_ENTRIES, L_PAGE_HEADER_BYTES, L_PAGE_MAGIC, L_RUN_BLOCKS, L_ZONE_BLOCKS, PG_CRC,
    PG_GEN, PG_HOME, PG_KIND, PG_LEVEL, PG_MAGIC, PG_N, PG_TAG, PK_COUNT, PK_CSUM, PK_NODE,
)
from core.base.mutations cimport M_NO_GEN, M_NO_NODE_CRC, M_NO_SPACE_SUM
from core.base.native cimport (
    lnt_count_pack, lnt_count_unpack, lnt_get_le32, lnt_get_le64, lnt_node_pack, lnt_node_unpack, lnt_put_le16, lnt_put_le32,
    lnt_put_le64,
)
from core.base.pool cimport run_is_fixed
from core.base.sparse cimport SPARSE_PBA, is_sparse, place_in, sparse_count
from libc.string cimport memcpy, memset


cdef void page_seal(lnt_pool *p, uint8_t *page, uint8_t kind, uint8_t level, uint32_t n, uint64_t home,
                    uint64_t generation) noexcept nogil:
    """Write the header of a page whose payload is in place."""
    memset(page, 0, L_PAGE_HEADER_BYTES)
    lnt_put_le32(page + PG_MAGIC, L_PAGE_MAGIC)
    page[PG_KIND] = kind
    page[PG_LEVEL] = level
    lnt_put_le16(page + PG_N, n)
    lnt_put_le32(page + PG_TAG, p.tag)
    lnt_put_le64(page + PG_HOME, home)
    lnt_put_le64(page + PG_GEN, generation)
    lnt_put_le32(page + PG_CRC, page_crc(page))


cdef int page_check(lnt_pool *p, const uint8_t *page, uint8_t kind, uint64_t home) noexcept nogil:
    """1 when the page is what belongs at `home`."""
    if lnt_get_le32(page + PG_MAGIC) != L_PAGE_MAGIC or page[PG_KIND] != kind or lnt_get_le64(page + PG_HOME) != home:
        return 0
    if (lnt_get_le32(page + PG_TAG) != p.tag
            or lnt_get_le64(page + PG_GEN) > p.checkpoint.generation and not p.mutations & M_NO_GEN):
        return 0                  # another pool's, or of a checkpoint that the superblock does not know
    if p.mutations & M_NO_NODE_CRC:
        return 1
    return lnt_get_le32(page + PG_CRC) == page_crc(page)


cdef int counts_fit(lnt_pool *p, lnt_page *f) noexcept nogil:
    """1 when as many blocks are in use as the summary says: else this page or that is not the newest that was written."""
    cdef const uint32_t *c = <const uint32_t *>f.data
    cdef uint64_t run = (f.id // L_ZONE_BLOCKS * 1024 + f.id % L_ZONE_BLOCKS - L_COUNT_START) * 2
    cdef uint32_t i, k, used
    for k in range(2):
        used = 0
        for i in range(k * L_RUN_BLOCKS, (k + 1) * L_RUN_BLOCKS):
            used += c[i] != 0
        if run + k < p.n_runs and p.run_used[run + k] != used and (used or not run_is_fixed(p, run + k)):
            return 0
    return 1


cdef int sparse_fits(lnt_pool *p, const uint64_t *v) noexcept nogil:
    """1 when the entries of a sparse leaf are in order, with blocks of the pool, and nothing follows the last one."""
    cdef int i, n = sparse_count(v)
    for i in range(n):
        if (v[i] & SPARSE_PBA()) - 1 >= p.total_blocks - 1 or i and place_in(v[i]) <= place_in(v[i - 1]):
            return 0
    for i in range(n, L_NODE_ENTRIES):
        if v[i]:
            return 0
    return 1


cdef int groups_fit(const uint64_t *v) noexcept nogil:
    """1 when each entry that follows belongs to a group whose first entry says the same."""
    cdef int i, bits
    cdef uint64_t first
    for i in range(L_NODE_ENTRIES):
        if v[i] & (E_FOLLOW() | E_SPARSE()):
            bits = group_bits(v[i])
            first = v[i >> bits << bits]
            if bits == 0 or not first & E_SPARSE() or group_bits(first) != bits or (v[i] & E_SPARSE() and first != v[i]):
                return 0
    return 1


cdef int page_decode(lnt_pool *p, lnt_page *f, const uint8_t *raw) noexcept nogil:
    if not page_check(p, raw, f.kind, f.id) or raw[PG_LEVEL] != f.level:
        if f.kind != PK_CSUM:
            return 0
        memset(f.data, 0, L_BLOCK_BYTES)   # never written, or damaged: either way its blocks will not verify
        return 1
    if f.kind == PK_NODE:
        lnt_node_unpack(<uint64_t *>f.data, raw + L_PAGE_HEADER_BYTES, L_NODE_ENTRIES)
        if is_sparse(f):
            return sparse_fits(p, <uint64_t *>f.data)
        return f.level != 1 or groups_fit(<uint64_t *>f.data)
    elif f.kind == PK_COUNT:
        lnt_count_unpack(<uint32_t *>f.data, raw + L_PAGE_HEADER_BYTES, 1024)
        return p.mutations & M_NO_SPACE_SUM or counts_fit(p, f)
    else:
        memset(f.data, 0, L_BLOCK_BYTES)
        memcpy(f.data, raw + L_PAGE_HEADER_BYTES, L_BLOCK_BYTES - L_PAGE_HEADER_BYTES)
    return 1


cdef void page_serialise(lnt_pool *p, lnt_page *f) noexcept nogil:
    """Put the page's image into its slot of the running checkpoint."""
    cdef uint8_t *out = p.checkpoint.buf + <uint64_t>f.slot * L_BLOCK_BYTES
    f.in_checkpoint = 0
    memset(out + L_PAGE_HEADER_BYTES, 0, L_BLOCK_BYTES - L_PAGE_HEADER_BYTES)
    if f.kind == PK_NODE:
        lnt_node_pack(out + L_PAGE_HEADER_BYTES, <uint64_t *>f.data, L_NODE_ENTRIES)   # seven bytes each: no hints
    elif f.kind == PK_COUNT:
        lnt_count_pack(out + L_PAGE_HEADER_BYTES, <uint32_t *>f.data, 1024)
    else:
        memcpy(out + L_PAGE_HEADER_BYTES, f.data, L_BLOCK_BYTES - L_PAGE_HEADER_BYTES)
    page_seal(p, out, f.kind, f.level, 0, f.id, p.checkpoint.generation + 1)
