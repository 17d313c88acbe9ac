"""Metadata pages read again from the medium, one at a time, and verified (docs/on-disk-format.md, page header).

Runs under live I/O. A page that a checkpoint is writing is fresh and passed over; one that fails while a checkpoint was under
way is read again after it, because its block may have been torn, or given to something else, in between.
"""
from core.base.checkpoint_wait cimport checkpoint_wait_running
from core.base.entries cimport E_NODE, E_REF, E_SPARSE, VID, WAIT, entry_of, entry_span, group_bits, node_index, span_left
from core.base.layout cimport (
    L_BLOCK_BYTES, L_COUNT_START, L_CSUM_BLOCKS, L_CSUM_START, L_DIRECTORY_ENTRIES, L_GROUP_BLOCKS, L_PAGE_MAGIC,
    L_RUN_BLOCKS, L_SLOTS_PER_PAGE, L_ZONE_BLOCKS, PG_CRC, PG_HOME, PG_KIND, PG_LEVEL, PG_MAGIC, PG_TAG,
    PK_CATALOG, PK_COUNT, PK_CSUM, PK_NODE, PK_SUMMARY, SB_AREA_IMAGES, SB_AREA_PENDING, SB_CRC, SB_UUID,
)
from core.base.log cimport CHECKPOINT_HOMES
from core.base.memory cimport mem_aligned
from core.base.mutations cimport M_SCRUB_ONCE
from core.base.native cimport lnt_get_le32, lnt_get_le64
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_scrub
from core.base.page cimport PAGE_VALID, lnt_page
from core.base.pool cimport run_is_fixed
from core.base.runs cimport summary_home, summary_pages
from core.base.schedule cimport op_again, op_ready
from core.base.sparse cimport child_level
from core.base.types cimport IO_READ, ST_CHECKSUM, ST_GONE, ST_IO_READ, ST_MEMORY, lnt_io, lnt_op
from core.log.superblock cimport super_crc
from core.ops.walk cimport row_add
from core.pages.cache cimport cache_find, cache_get
from core.pages.format cimport page_check, page_crc
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memset

cdef enum:
    STEPS = 256                   # without I/O, in one turn
    TRIES = 8                     # of a page that fails while checkpoints go on
    FRESH = -2                    # nothing to verify: the page is about to be written, or never was
    NOTHING_VERIFIED = 255        # lnt_scrub.verified_level at a new place
    MS_NONE = 0
    MS_READING = 1
    MS_ARRIVED = 2


cdef struct medium_page:
    # The page under scrutiny. Lies behind its 4096 bytes, in lnt_scrub.page.
    lnt_io io
    lnt_pool *pool
    lnt_op *op
    uint64_t block
    uint64_t checkpoints          # finished when it was asked for
    uint8_t state
    uint8_t tries


cdef inline medium_page *page_under(lnt_admin *a) noexcept nogil:
    return <medium_page *>(a.scrub.page + L_BLOCK_BYTES)


cdef void arrived(lnt_io *io) noexcept nogil:
    cdef medium_page *m = <medium_page *>io
    m.state = MS_ARRIVED
    op_ready(m.pool, m.op)


cdef int fetch(lnt_pool *p, lnt_admin *a, uint64_t block) noexcept nogil:
    """0 when the block's bytes are in scrub.page (or could not be read), else WAIT."""
    cdef medium_page *m = page_under(a)
    if m.state == MS_ARRIVED and m.block == block:
        return 0
    if m.block != block:
        m.tries = 0
    m.pool = p
    m.op = &a.op
    m.block = block
    m.checkpoints = p.checkpoint.done_count
    m.state = MS_READING
    m.io.kind = IO_READ
    m.io.offset = block * L_BLOCK_BYTES
    m.io.length = L_BLOCK_BYTES
    m.io.buf = a.scrub.page
    m.io.done = arrived
    if p.current_device.submit(p.current_device, &m.io):
        m.state = MS_ARRIVED
        return 0
    return WAIT


cdef int page_judge(lnt_pool *p, lnt_admin *a, int ok) noexcept nogil:
    """0: sound. WAIT: to be read again after the checkpoint. Else the status that says what is wrong."""
    cdef medium_page *m = page_under(a)
    m.state = MS_NONE
    if (ok and m.io.result == 0) or p.failed:
        a.scrub.pages += 1
        return 0
    m.tries += 1
    if m.tries < TRIES:
        if p.checkpoint.state > CHECKPOINT_HOMES:
            checkpoint_wait_running(p, &a.op)
            return WAIT
        if m.checkpoints != p.checkpoint.done_count and not p.mutations & M_SCRUB_ONCE:
            return op_again(p, &a.op)
    a.scrub.pages += 1
    return ST_IO_READ if m.io.result else ST_CHECKSUM


# -- maps --------------------------------------------------------------------------------------------------------------


cdef int node_page(lnt_pool *p, lnt_admin *a, uint64_t home, uint8_t kind, uint8_t level) noexcept nogil:
    """Verify a node's or catalog page's home. A page only dirty in memory still has its last checkpoint's image there."""
    cdef lnt_page *f
    cdef int rc
    if home & VID():
        return 0
    if home >= p.total_blocks:
        return ST_CHECKSUM
    f = cache_find(p, home)
    if f != NULL and (f.writing or f.home):       # or no checkpoint was there
        return 0
    rc = fetch(p, a, home)
    if rc:
        return rc
    return page_judge(p, a, page_check(p, a.scrub.page, kind, home) and a.scrub.page[PG_LEVEL] == level)


cdef int path_step(lnt_pool *p, lnt_waiter *who, uint64_t *e, int *level, uint64_t lba) noexcept nogil:
    """Go from a reference to a node of `level` - 1 to its entry for lba."""
    cdef int rc = 0
    cdef lnt_page *f = cache_get(p, who, e[0] & E_REF(), PK_NODE, <uint8_t>(level[0] - 1), &rc)
    if f == NULL:
        return rc
    level[0] -= 1
    e[0] = entry_of(<uint64_t *>f.data, node_index(lba, level[0]))
    return 0


cdef inline bint begins_group(uint64_t e, uint64_t lba) noexcept nogil:
    """The entry of a sparse leaf is seen for each region of its group: the page is looked at with the first."""
    return node_index(lba, 1) & ((1 << group_bits(e)) - 1) == 0


cdef int verify_at(lnt_pool *p, lnt_waiter *who, lnt_admin *a, lnt_object *o, lnt_object *other, uint64_t *n) noexcept nogil:
    """Verify the nodes that begin at scrub.next, but for those that `other` has in the same place; n: how far to go on."""
    cdef uint64_t lba = a.scrub.next
    cdef uint64_t x = o.root | E_NODE() if o.root else 0
    cdef uint64_t y = 0
    cdef int xl = o.level + 1, yl = 0, rc
    cdef uint8_t catalog = o == &p.catalog
    if other != NULL and not other.pub.gone and other.root and lba < entry_span(other.level + 1):
        y = other.root | E_NODE()
        yl = other.level + 1
    n[0] = span_left(xl, lba)
    while x & E_NODE():
        while y & E_NODE() and yl > xl:
            rc = path_step(p, who, &y, &yl, lba)
            if rc == WAIT:
                return WAIT
            if rc:
                y = 0
        n[0] = span_left(xl, lba)
        if y & E_NODE() and yl == xl and (x ^ y) & E_REF() == 0:
            return 0
        if lba & (entry_span(xl) - 1) == 0 and xl < a.scrub.verified_level:
            rc = 0
            if not x & E_SPARSE() or begins_group(x, lba):
                rc = node_page(p, a, x & E_REF(), PK_NODE if xl else PK_CATALOG, child_level(x, xl) if xl else 0)
            if rc == WAIT:
                return WAIT
            if rc:
                rc = row_add(a, lba, entry_span(xl), x & E_REF())      # the page's block is what says where the damage is
            if rc:
                return rc
            a.scrub.verified_level = <uint8_t>xl
        if xl == 0 or (xl == 1 and not catalog):
            return 0                  # below are catalog slots, or data
        rc = path_step(p, who, &x, &xl, lba)
        if rc == WAIT:
            return WAIT
        if rc:
            return 0                  # unreadable, and noted
        n[0] = span_left(xl, lba)
    return 0


cdef int verify_map(lnt_pool *p, lnt_waiter *who, lnt_admin *a, lnt_object *o, lnt_object *other, uint64_t end,
                    int *steps) noexcept nogil:
    cdef lnt_scrub *s = &a.scrub
    cdef uint64_t n = 0
    cdef int rc
    while s.next < end and s.pages < s.most_pages:
        rc = verify_at(p, who, a, o, other, &n)
        if rc:
            return rc
        s.next += n
        s.verified_level = NOTHING_VERIFIED
        steps[0] += 1
        if steps[0] >= STEPS:
            return op_again(p, &a.op)
    return 0


# -- pages in fixed places ---------------------------------------------------------------------------------------------


cdef int run_in_use(lnt_pool *p, uint64_t run) noexcept nogil:
    """Whether blocks of the run are counted."""
    return run < p.n_runs and p.run_used[run] != 0 and not run_is_fixed(p, run)


cdef int changing(lnt_pool *p, uint64_t home) noexcept nogil:
    cdef lnt_page *f = cache_find(p, home)
    return f != NULL and (f.dirty or f.writing)


cdef int super_page(lnt_pool *p, lnt_admin *a, uint64_t number) noexcept nogil:
    cdef uint8_t *page = a.scrub.page
    cdef int rc
    if number >= 2:
        return FRESH
    rc = fetch(p, a, number)
    if rc:
        return rc
    return page_judge(p, a, memcmp(page, b"LUNETTE\0", 8) == 0 and memcmp(page + SB_UUID, p.uuid, 16) == 0
                      and lnt_get_le32(page + SB_CRC) == super_crc(page))


cdef uint64_t area_pages(lnt_pool *p) noexcept nogil:
    """Pages of the half that the published superblock names: directory, images, pending list."""
    cdef uint64_t images = lnt_get_le32(p.checkpoint.live_buf + SB_AREA_IMAGES)
    return ((images + L_DIRECTORY_ENTRIES - 1) // L_DIRECTORY_ENTRIES + images
            + lnt_get_le32(p.checkpoint.live_buf + SB_AREA_PENDING))


cdef int area_page(lnt_pool *p, lnt_admin *a, uint64_t number) noexcept nogil:
    cdef uint64_t half = p.checkpoint.area_start + (p.checkpoint.generation & 1) * p.checkpoint.area_blocks
    cdef uint8_t *page = a.scrub.page
    cdef int rc = fetch(p, a, half + number)
    if rc:
        return rc
    return page_judge(p, a, lnt_get_le32(page + PG_MAGIC) == L_PAGE_MAGIC and lnt_get_le32(page + PG_TAG) == p.tag
                      and lnt_get_le32(page + PG_CRC) == page_crc(page))


cdef int summary_page(lnt_pool *p, lnt_admin *a, uint64_t number) noexcept nogil:
    cdef uint64_t home = summary_home(number)
    cdef int rc
    if p.summary_dirty[number]:
        return FRESH
    rc = fetch(p, a, home)
    return rc if rc else page_judge(p, a, p.summary_dirty[number] or page_check(p, a.scrub.page, PK_SUMMARY, home))


cdef int count_page(lnt_pool *p, lnt_admin *a, uint64_t number) noexcept nogil:
    cdef uint64_t block = number * L_GROUP_BLOCKS
    cdef uint64_t home = block // L_ZONE_BLOCKS * L_ZONE_BLOCKS + L_COUNT_START + number % (L_ZONE_BLOCKS // L_GROUP_BLOCKS)
    cdef int rc
    if not run_in_use(p, 2 * number) and not run_in_use(p, 2 * number + 1) or changing(p, home):
        return FRESH
    rc = fetch(p, a, home)
    return rc if rc else page_judge(p, a, changing(p, home) or page_check(p, a.scrub.page, PK_COUNT, home))


cdef int csum_sound(lnt_pool *p, const uint8_t *page, uint64_t home) noexcept nogil:
    """A page that was never written may hold anything, but not most of what a checksum page's header says."""
    cdef int named = (page[PG_KIND] == PK_CSUM) + (lnt_get_le32(page + PG_TAG) == p.tag) + (lnt_get_le64(page + PG_HOME) == home)
    cdef lnt_page *f
    cdef uint32_t i
    if page_check(p, page, PK_CSUM, home):
        return 1
    if lnt_get_le32(page + PG_MAGIC) != L_PAGE_MAGIC:
        f = cache_find(p, home)
        if f != NULL and f.state == PAGE_VALID:
            for i in range(L_CSUM_BLOCKS):
                if (<uint32_t *>f.data)[i]:
                    return 0
        return named < 3
    return named < 2 or lnt_get_le32(page + PG_CRC) == page_crc(page)


cdef int csum_page(lnt_pool *p, lnt_admin *a, uint64_t number) noexcept nogil:
    cdef uint64_t pages = (L_ZONE_BLOCKS + L_CSUM_BLOCKS - 1) // L_CSUM_BLOCKS
    cdef uint64_t zone = number // pages
    cdef uint64_t home = zone * L_ZONE_BLOCKS + L_CSUM_START + number % pages
    cdef uint64_t block = zone * L_ZONE_BLOCKS + number % pages * L_CSUM_BLOCKS
    cdef uint64_t run = block // L_RUN_BLOCKS
    cdef int rc, used = 0
    while run * L_RUN_BLOCKS < block + L_CSUM_BLOCKS and not used:
        used = run_in_use(p, run)
        run += 1
    if not used or changing(p, home):
        return FRESH
    rc = fetch(p, a, home)
    return rc if rc else page_judge(p, a, changing(p, home) or csum_sound(p, a.scrub.page, home))


cdef uint64_t phase_end(lnt_pool *p, uint64_t phase) noexcept nogil:
    if phase == SP_SUPER:
        return 2
    if phase == SP_AREA:
        return area_pages(p)
    if phase == SP_SUMMARY:
        return summary_pages(p)
    if phase == SP_COUNT:
        return (p.total_blocks + L_GROUP_BLOCKS - 1) // L_GROUP_BLOCKS
    if phase == SP_CSUM:
        return (p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS * (
            (L_ZONE_BLOCKS + L_CSUM_BLOCKS - 1) // L_CSUM_BLOCKS)
    return (p.catalog_slots + L_SLOTS_PER_PAGE - 1) // L_SLOTS_PER_PAGE


cdef int fixed_page(lnt_pool *p, lnt_admin *a) noexcept nogil:
    cdef uint8_t phase = a.scrub.phase
    cdef uint64_t number = a.scrub.next
    if phase == SP_SUPER:
        return super_page(p, a, number)
    if phase == SP_AREA:
        return area_page(p, a, number)
    if phase == SP_SUMMARY:
        return summary_page(p, a, number)
    return count_page(p, a, number) if phase == SP_COUNT else csum_page(p, a, number)


cdef int scrub_fixed(lnt_pool *p, lnt_waiter *who, lnt_admin *a, int *steps) noexcept nogil:
    cdef lnt_scrub *s = &a.scrub
    cdef int rc
    while s.next < phase_end(p, s.phase) and s.pages < s.most_pages:
        rc = fixed_page(p, a)
        if rc == WAIT:
            return WAIT
        if rc > 0:
            rc = row_add(a, s.next, 0, page_under(a).block)
            if rc:
                return rc
        s.next += 1
        steps[0] += 1
        if steps[0] >= STEPS:
            return op_again(p, &a.op)
    return 0


cdef int scrub_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """Ends when the phase is over or as many pages were read as were asked for."""
    cdef lnt_scrub *s = &a.scrub
    cdef int rc, steps = 0
    if s.page == NULL:
        s.page = <uint8_t *>mem_aligned(2 * L_BLOCK_BYTES)
        if s.page == NULL:
            return ST_MEMORY
        memset(s.page, 0, 2 * L_BLOCK_BYTES)
        s.verified_level = NOTHING_VERIFIED
    if s.phase == SP_MAP and a.obj.pub.gone:
        return ST_GONE
    if s.phase == SP_MAP:
        rc = verify_map(p, who, a, a.obj, a.other, a.obj.pub.size_bytes // L_BLOCK_BYTES, &steps)
        if rc == 0:
            s.over = s.next >= a.obj.pub.size_bytes // L_BLOCK_BYTES
    elif s.phase == SP_CATALOG:
        rc = verify_map(p, who, a, &p.catalog, NULL, phase_end(p, SP_CATALOG), &steps)
        if rc == 0:
            s.over = s.next >= phase_end(p, SP_CATALOG)
    else:
        rc = scrub_fixed(p, who, a, &steps)
        if rc == 0:
            s.over = s.next >= phase_end(p, s.phase)
    return rc
