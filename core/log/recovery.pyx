"""Opening pools: summaries, area; room for what replay makes (docs/on-disk-format.md, "How it changes").

Runs before the pool is shared with anyone, on a device that finishes everything inline, so nothing here waits.
"""
from core import layout
from core.errors import damaged
from core.flights import read_each, write_each

from core.base.crc32c cimport lnt_crc32c
from core.base.dropped cimport DROPPED_NODE, lnt_dropped
from core.base.layout cimport (
    DE_CRC, DE_HOME, L_BLOCK_BYTES, L_DIRECTORY_ENTRIES, L_DIRECTORY_ENTRY_BYTES, L_PAGE_HEADER_BYTES, L_PENDING_ITEMS,
    L_PENDING_ITEM_BYTES, L_RUN_BLOCKS, L_SUMMARY_RUNS, PG_CRC, PG_GEN, PG_KIND, PG_N, PI_BLOCK, PI_KIND, PI_LENGTH, PK_PENDING,
    PK_SUMMARY, SB_AREA_IMAGES, SB_AREA_PENDING, SB_FLAGS, SB_FREE_BLOCKS, SB_PENDING_CRC, SF_CLEAN,
)
from core.base.mutations cimport (
    M_FLAT_PENDING, M_NO_DIRECTORY_CRC, M_NO_GEN, M_NO_IMAGE_CRC, M_NO_RECOVERY_SYNC, M_NO_SPACE_SUM, M_NO_SUPER_REWRITE,
)
from core.base.native cimport lnt_get_le16, lnt_get_le32, lnt_get_le64
from core.base.object cimport lnt_object
from core.base.runs cimport run_begin, runs_open, summary_home, summary_pages, summary_pages_of
from core.base.types cimport ST_MEMORY
from core.catalog.slots cimport slot_page
from core.pages.format cimport page_check
from core.space.dropped cimport drop_load, home_give_up, reclaim_until
from core.space.marks cimport marks_widen
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    SPARE_BLOCKS = 64             # for the catalog's and the keys' pages of the checkpoint that ends recovery


# -- summaries -----------------------------------------------------------------------------------------------------------


cdef int summaries_load(lnt_pool *p, object device, bytes super_raw) except -1:
    """Used blocks of every run: two pages a zone."""
    cdef uint64_t s, run
    cdef uint32_t used
    cdef bytes raw
    cdef const uint8_t *b
    if not (marks_widen(p, summary_pages_of(p.total_blocks)) and runs_open(p)):     # marks are widened from the runs there are
        raise MemoryError
    homes = [summary_home(s) for s in range(summary_pages(p))]
    for s, raw in enumerate(read_each(device, [(home * L_BLOCK_BYTES, L_BLOCK_BYTES) for home in homes])):
        b = raw
        if not page_check(p, b, PK_SUMMARY, homes[s]):
            raise damaged(f"summary page at block {homes[s]} fails its checksum")
        for run in range(s * L_SUMMARY_RUNS, min((s + 1) * L_SUMMARY_RUNS, p.n_runs)):
            used = lnt_get_le16(b + L_PAGE_HEADER_BYTES + 2 * (run % L_SUMMARY_RUNS))
            if used > L_RUN_BLOCKS:
                raise damaged(f"summary page at block {homes[s]} counts more blocks than there are")
            run_begin(p, run, used)
    if p.free_blocks != lnt_get_le64(<const uint8_t *>super_raw + SB_FREE_BLOCKS) and not p.mutations & M_NO_SPACE_SUM:
        raise damaged("the summaries are not those that the superblock counted")
    return 0


# -- area --------------------------------------------------------------------------------------------------------------


cdef int area_apply(lnt_pool *p, object device, bytes raw) except -1:
    """Write the checkpoint's images home (again) unless the pool was closed cleanly, and load its pending list."""
    cdef const uint8_t *sb = raw
    cdef uint32_t n = lnt_get_le32(sb + SB_AREA_IMAGES)
    cdef uint32_t n_pending = lnt_get_le32(sb + SB_AREA_PENDING)
    cdef uint32_t n_directory = (n + L_DIRECTORY_ENTRIES - 1) // L_DIRECTORY_ENTRIES
    cdef uint64_t base = p.checkpoint.area_start + (p.checkpoint.generation & 1) * p.checkpoint.area_blocks
    cdef uint32_t i, k
    cdef const uint8_t *d
    cdef const uint8_t *g
    cdef bytes directory, chunk
    cdef lnt_dropped it
    if not lnt_get_le32(sb + SB_FLAGS) & SF_CLEAN and not p.mutations & M_NO_RECOVERY_SYNC:
        super_secure(p, device, raw)
    if not lnt_get_le32(sb + SB_FLAGS) & SF_CLEAN and n:
        directory = device.read(base * L_BLOCK_BYTES, n_directory * L_BLOCK_BYTES)
        d = directory
        if (lnt_get_le64(sb + SB_PENDING_CRC) != lnt_crc32c(0, d, n_directory * L_BLOCK_BYTES)
                and not p.mutations & M_NO_DIRECTORY_CRC):
            raise damaged("the checkpoint's directory fails its checksum")
        for i in range(0, n, 64):
            k = n - i if n - i < 64 else 64
            chunk = device.read((base + n_directory + i) * L_BLOCK_BYTES, k * L_BLOCK_BYTES)
            image_home(p, device, d, chunk, i, k)
        device.sync()
    for i in range(n_pending):
        chunk = device.read((base + n_directory + n + i) * L_BLOCK_BYTES, L_BLOCK_BYTES)
        g = chunk
        if (not page_check(p, g, PK_PENDING, i) or lnt_get_le16(g + PG_N) > L_PENDING_ITEMS
                or lnt_get_le64(g + PG_GEN) != p.checkpoint.generation and not p.mutations & M_NO_GEN):
            raise damaged("the checkpoint's pending list fails its checksum")
        for k in range(lnt_get_le16(g + PG_N)):
            it = pending_get(g + L_PAGE_HEADER_BYTES + k * L_PENDING_ITEM_BYTES, p.mutations & M_FLAT_PENDING != 0)
            if drop_load(p, &it):
                raise MemoryError
    return 0


cdef lnt_dropped pending_get(const uint8_t *item, bint flat) noexcept:
    """An item of the pending list; `flat` forgets the level of a node (a mutation)."""
    cdef lnt_dropped it
    cdef uint32_t length = lnt_get_le32(item + PI_LENGTH)
    it.ref = lnt_get_le64(item + PI_BLOCK)
    it.kind = <uint8_t>lnt_get_le32(item + PI_KIND)
    it.blocks = 1 if it.kind == DROPPED_NODE else length
    it.level = <uint8_t>length if it.kind == DROPPED_NODE and not flat else 0
    it.trim = 1
    it.seq = it.epoch = 0
    return it


cdef int super_secure(lnt_pool *p, object device, bytes raw) except -1:
    """Make the superblock that was chosen durable, before a page goes home or the area half of the one before it is used.

    A process that was killed may have left it in the page cache only. Were it lost after that, the checkpoint before it would be
    the one that counts, and find a page that is not its own. If it was killed when a sync had just failed, no sync will write
    it unless it is written again: the same bytes, so it cannot be torn where it is durable already.
    """
    device.sync()                 # the other copy may be in the page cache, too: never both at once
    for slot in layout.SUPERBLOCK_SLOTS:
        if device.read(slot * L_BLOCK_BYTES, L_BLOCK_BYTES) == raw:
            if not p.mutations & M_NO_SUPER_REWRITE:
                device.write(slot * L_BLOCK_BYTES, raw)
            device.sync()
    return 0


cdef int image_home(lnt_pool *p, object device, const uint8_t *d, bytes chunk, uint32_t first, uint32_t k) except -1:
    cdef const uint8_t *c = chunk
    cdef const uint8_t *at
    cdef uint32_t i
    cdef uint64_t home
    cdef list writes = []
    for i in range(k):
        at = d + ((first + i) // L_DIRECTORY_ENTRIES) * L_BLOCK_BYTES + L_PAGE_HEADER_BYTES
        at += (first + i) % L_DIRECTORY_ENTRIES * L_DIRECTORY_ENTRY_BYTES
        home = lnt_get_le64(at + DE_HOME)
        if lnt_get_le32(c + i * L_BLOCK_BYTES + PG_CRC) != lnt_get_le32(at + DE_CRC) or home >= p.total_blocks or not page_check(
                p, c + i * L_BLOCK_BYTES, c[i * L_BLOCK_BYTES + PG_KIND], home) and not p.mutations & M_NO_IMAGE_CRC:
            raise damaged(f"the checkpoint's image of block {home} fails its checksum")
        writes.append((home * L_BLOCK_BYTES, chunk[i * L_BLOCK_BYTES:(i + 1) * L_BLOCK_BYTES]))
    write_each(device, writes)
    return 0


# -- room for the nodes of replay -----------------------------------------------------------------------------------------


cdef int blocks_for_nodes(lnt_pool *p) except -1:
    """Make room in a pool that is nearly full for the nodes that replay has made: of what it has dropped, as much as is needed.

    It is free at once, though a crash may bring back the checkpoint that refers to it: until the new one is published nothing is
    written but its area, and nothing goes to the medium. Nodes of the old checkpoint are replaced like the rest.
    """
    cdef lnt_object *o = p.dirty_objects
    cdef int rc = 0
    while o != NULL:
        if not o.pub.gone and slot_page(p, NULL, o.slot, &rc) == NULL:
            raise damaged("a catalog page cannot be read")
        o = o.dirty_next
    while p.free_blocks < p.nodes_without_home + SPARE_BLOCKS:
        reclaim_until(p, p.nodes_without_home + SPARE_BLOCKS)
        if p.failed or p.free_blocks >= p.nodes_without_home + SPARE_BLOCKS:
            break
        rc = home_give_up(p)
        if rc == ST_MEMORY:
            raise MemoryError
        if rc == 0:
            break
    return 0
