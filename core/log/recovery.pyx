"""Making and opening pools: summaries, area, catalog; room for what replay makes (docs/on-disk-format.md, "How it changes").

Runs before the pool is shared with anyone, on a device that finishes everything inline, so nothing here waits.
"""
import errno
import os

from core import layout
from core.errors import PoolError, damaged
from core.flights import allocate_each, read_each, write_each

from core.base.crc32c cimport lnt_crc32c
from core.base.dropped cimport DROPPED_DATA, DROPPED_NODE, lnt_dropped, ring_count, ring_oldest, ring_push, ring_ready
from core.base.layout cimport (
    DE_CRC, DE_HOME, L_BLOCK_BYTES, L_DIRECTORY_ENTRIES, L_DIRECTORY_ENTRY_BYTES, L_FORMAT_VERSION, L_PAGE_HEADER_BYTES,
    L_PENDING_ITEMS, L_PENDING_ITEM_BYTES, L_RUN_BLOCKS, L_SUMMARY_RUNS, L_SUMMARY_START, L_ZONE_BLOCKS, L_ZONE_META_BLOCKS,
    PG_CRC, PG_GEN, PG_KIND, PG_N, PI_BLOCK, PI_KIND, PI_LENGTH, PK_PENDING, PK_SUMMARY, SB_AREA_IMAGES, SB_AREA_PENDING,
    SB_FLAGS, SB_FREE_BLOCKS, SB_NODE_RUNS, SB_PENDING_CRC, SF_CLEAN,
)
from core.base.memory cimport mem_zeroed
from core.base.mutations cimport (
    M_FLAT_PENDING, M_NO_DIRECTORY_CRC, M_NO_GEN, M_NO_IMAGE_CRC, M_NO_RECOVERY_SYNC, M_NO_SPACE_SUM, M_NO_SUPER_REWRITE,
)
from core.base.native cimport lnt_get_le16, lnt_get_le32, lnt_get_le64, lnt_put_le16
from core.base.object cimport lnt_object
from core.base.pool cimport run_is_fixed
from core.base.space cimport NODE_RUNS, lnt_freed_page
from core.catalog.slots cimport slot_page
from core.log.superblock cimport super_bytes
from core.pages.format cimport page_check, page_seal
from core.space.dropped cimport reclaim_turn
from core.space.medium cimport medium_short, node_run_join
from libc.stdint cimport uint16_t, uint32_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef enum:
    SPARE_BLOCKS = 64             # for the catalog's and the keys' pages of the checkpoint that ends recovery


# -- summaries -----------------------------------------------------------------------------------------------------------


cdef int summaries_load(lnt_pool *p, object device, bytes super_raw) except -1:
    """Used blocks of every run: two pages a zone."""
    cdef uint64_t pages, s, i, r
    cdef bytes raw
    cdef const uint8_t *b
    p.n_runs = p.total_blocks // L_RUN_BLOCKS
    pages = (p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS
    p.run_used = <uint16_t *>mem_zeroed(((pages + 1) * L_SUMMARY_RUNS) * sizeof(uint16_t))
    p.run_busy = <uint8_t *>mem_zeroed((pages + 1) * L_SUMMARY_RUNS)
    p.summary_dirty = <uint8_t *>mem_zeroed(pages + 2)
    p.marks.pages = <lnt_freed_page **>mem_zeroed((pages + 1) * sizeof(lnt_freed_page *))
    if p.run_used == NULL or p.run_busy == NULL or p.summary_dirty == NULL or p.marks.pages == NULL:
        raise MemoryError
    p.free_blocks = p.free_runs = 0
    homes = [(s // 2) * L_ZONE_BLOCKS + L_SUMMARY_START + s % 2 for s in range(pages)]
    for s, raw in enumerate(read_each(device, [(home * L_BLOCK_BYTES, L_BLOCK_BYTES) for home in homes])):
        home = homes[s]
        b = raw
        if not page_check(p, b, PK_SUMMARY, home):
            raise damaged(f"summary page at block {home} fails its checksum")
        for i in range(L_SUMMARY_RUNS):
            r = s * L_SUMMARY_RUNS + i
            if r >= p.n_runs:
                break
            p.run_busy[r] = run_is_fixed(p, r)
            p.run_used[r] = L_RUN_BLOCKS if p.run_busy[r] else lnt_get_le16(b + L_PAGE_HEADER_BYTES + 2 * i)
            if p.run_used[r] > L_RUN_BLOCKS:
                raise damaged(f"summary page at block {home} counts more blocks than there are")
            p.free_blocks += L_RUN_BLOCKS - p.run_used[r]
            p.free_runs += p.run_used[r] == 0
    if p.free_blocks != lnt_get_le64(<const uint8_t *>super_raw + SB_FREE_BLOCKS) and not p.mutations & M_NO_SPACE_SUM:
        raise damaged("the summaries are not those that the superblock counted")
    return 0


# -- room below --------------------------------------------------------------------------------------------------------


cdef int allocate(lnt_pool *p, object device, uint64_t block, uint64_t blocks) except -1:
    """1 when the blocks are allocated below, 0: there is no room."""
    return allocated(p, allocate_each(device, [(block * L_BLOCK_BYTES, blocks * L_BLOCK_BYTES)])[0])


cdef int allocated(lnt_pool *p, object error) except -1:
    """What an error, or none, says of room. A medium that cannot tell is not asked again."""
    if error is None:
        return 1
    if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        p.medium.sparse = 0
        return 1
    medium_short(p, -error.errno)
    return 0


cdef int medium_open(lnt_pool *p, object device) except -1:
    """Have what every pool needs allocated: superblocks, the first zone's fixed pages, journal, both area halves."""
    cdef uint64_t zones = (p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS
    p.medium.zones = <uint8_t *>mem_zeroed(zones + 1)
    if p.medium.zones == NULL:
        raise MemoryError
    p.medium.sparse = 1 if getattr(device, "sparse", False) else 0
    if p.medium.sparse:
        p.medium.zones[0] = allocate(p, device, 0, p.checkpoint.area_start + 2 * <uint64_t>p.checkpoint.area_blocks)
    if not p.medium.sparse:
        memset(p.medium.zones, 1, zones + 1)
    return 0


cdef int medium_load(lnt_pool *p, object device, bytes super_raw) except -1:
    """The same for the fixed pages of zones in use, and for the runs that nodes are put in."""
    cdef const uint8_t *sb = super_raw
    cdef uint64_t zone, run, runs = L_ZONE_BLOCKS // L_RUN_BLOCKS
    cdef uint32_t i
    if not p.medium.sparse:
        return 0
    cdef list used = []
    for zone in range(1, (p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS):
        for run in range(zone * runs, min((zone + 1) * runs, p.n_runs)):
            if p.run_used[run] and not p.run_busy[run]:
                used.append(zone)
                break
    places = [(zone * L_ZONE_BLOCKS * L_BLOCK_BYTES, L_ZONE_META_BLOCKS * L_BLOCK_BYTES) for zone in used]
    for zone, error in zip(used, allocate_each(device, places), strict=True):
        p.medium.zones[zone] = allocated(p, error)
    for i in range(NODE_RUNS):
        run = lnt_get_le32(sb + SB_NODE_RUNS + 4 * i)
        if (0 < run < p.n_runs and not p.run_busy[run] and p.run_used[run] < L_RUN_BLOCKS
                and p.medium.zones[run // runs] and allocate(p, device, run * L_RUN_BLOCKS, L_RUN_BLOCKS)):
            node_run_join(p, run)
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
            if not ring_ready(&p.dropped_ready, 1):
                raise MemoryError
            ring_push(&p.dropped_ready, &it)
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
        drops_reclaim(p, p.nodes_without_home + SPARE_BLOCKS)
        if p.failed or p.free_blocks >= p.nodes_without_home + SPARE_BLOCKS or ring_count(&p.dropped_homes) == 0:
            break
        if not ring_ready(&p.dropped_ready, 1):
            raise MemoryError
        ring_oldest(&p.dropped_homes).kind = DROPPED_DATA
        ring_push(&p.dropped_ready, ring_oldest(&p.dropped_homes))
        p.dropped_homes.head += 1
    return 0


cdef void drops_reclaim(lnt_pool *p, uint64_t want) noexcept nogil:
    """Take what replay has dropped off the counts, until so many blocks are free or nothing is left."""
    cdef uint64_t hard = p.journal.hard_seq
    cdef uint8_t discards = p.can_discard
    p.can_discard = 0
    p.journal.hard_seq = ~<uint64_t>0
    while p.free_blocks < want:
        p.epoch += 2
        if reclaim_turn(p, NULL, 64) != 1:
            break
    p.journal.hard_seq = hard
    p.can_discard = discards


# -- mkfs --------------------------------------------------------------------------------------------------------------


cdef object format_room(object device, uint64_t blocks):
    """Have what every pool needs allocated below. PoolError: no_space."""
    try:
        device.allocate(0, blocks * L_BLOCK_BYTES)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise PoolError("no_space", f"a pool of that size needs {blocks * L_BLOCK_BYTES >> 20} MiB for its journal and "
                                        "checkpoints at once, and the file system has no room for them") from None
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


cdef object pool_format(object device, str name, uint64_t size_bytes, uint64_t journal_blocks, uint64_t area_blocks):
    """Write summaries and superblocks of an empty pool. PoolError: invalid."""
    cdef lnt_pool *p
    cdef uint64_t total = (size_bytes or device.size_bytes) // L_BLOCK_BYTES // L_RUN_BLOCKS * L_RUN_BLOCKS
    cdef uint64_t s, i, r, pages
    cdef uint8_t[4096] page
    cdef bytes raw_name = name.encode()
    if not raw_name or len(raw_name) > 63:
        raise PoolError("invalid", "a pool's name has 1 to 63 bytes")
    journal_blocks = journal_blocks or min(max(total // 128 // 512 * 512, 512), 16384)
    area_blocks = area_blocks or min(max(total // 128 // 512 * 512, 1024), 16384)
    least = L_ZONE_META_BLOCKS + journal_blocks + 2 * area_blocks + 2 * L_RUN_BLOCKS
    if total < least or total * L_BLOCK_BYTES > device.size_bytes:
        raise PoolError("invalid", f"a pool needs at least {(L_ZONE_META_BLOCKS + 512 + 2048 + 1024) * 4 // 1024} MiB")
    if total > 1 << 38:
        raise PoolError("invalid", "a pool has at most 1 PiB")
    if getattr(device, "sparse", False):
        format_room(device, L_ZONE_META_BLOCKS + journal_blocks + 2 * area_blocks)
    p = <lnt_pool *>mem_zeroed(sizeof(lnt_pool))
    if p == NULL:
        raise MemoryError
    try:
        uuid = os.urandom(16)
        memcpy(p.uuid, <const uint8_t *>uuid, 16)
        p.tag = lnt_get_le32(p.uuid)
        p.total_blocks = total
        p.n_runs = total // L_RUN_BLOCKS
        p.checkpoint.area_start = L_ZONE_META_BLOCKS + journal_blocks
        p.checkpoint.area_blocks = <uint32_t>area_blocks
        pages = (p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS
        free_blocks = 0
        writes = []
        for s in range(pages):
            memset(page, 0, L_BLOCK_BYTES)
            for i in range(L_SUMMARY_RUNS):
                r = s * L_SUMMARY_RUNS + i
                if run_is_fixed(p, r):
                    lnt_put_le16(page + L_PAGE_HEADER_BYTES + 2 * i, L_RUN_BLOCKS)
                else:
                    free_blocks += L_RUN_BLOCKS
            home = (s // 2) * L_ZONE_BLOCKS + L_SUMMARY_START + s % 2
            page_seal(p, page, PK_SUMMARY, 0, 0, home, 0)
            writes.append((home * L_BLOCK_BYTES, (<const char *>page)[:L_BLOCK_BYTES]))
        write_each(device, writes)
    finally:
        free(p)
    super_raw = super_bytes({
        "version": L_FORMAT_VERSION, "sb_gen": 1, "ckpt_gen": 0, "total_blocks": total, "journal_start": L_ZONE_META_BLOCKS,
        "journal_blocks": journal_blocks, "area_blocks": area_blocks, "area_start": L_ZONE_META_BLOCKS + journal_blocks,
        "journal_seq": 1, "flags": SF_CLEAN, "catalog_level": 1, "next_id": 1, "free_blocks": free_blocks,
        "uuid": uuid, "identity": uuid, "name": raw_name})
    device.sync()                 # a pool exists only when everything it stands on does
    for slot in layout.SUPERBLOCK_SLOTS:
        device.write(slot * L_BLOCK_BYTES, super_raw)
        device.sync()
