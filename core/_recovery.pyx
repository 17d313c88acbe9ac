# cython: language_level=3
"""Making and opening pools: area, catalog, journal replay (docs/on-disk-format.md, "How it changes").

Runs before the pool is shared with anyone, on a device that finishes everything inline, so nothing here waits.
"""
import os

from core import layout
from core.errors import PoolError

from core._admin cimport delete_apply, derive_apply, object_find, object_link, pool_resize, revert_apply, slot_alloc
from core._alloc cimport count_add, count_touch, node_touch, reclaim_turn
from core._blkmap cimport map_insert, map_level, map_raise, map_share, map_unmap, object_dirty
from core._cache cimport (
    M_ACCEPT_SOFT, M_NO_DIRECTORY_CRC, M_NO_FRAME_CRC, M_NO_GEN, M_NO_IMAGE_CRC, M_NO_LEAP, M_NO_RECOVERY_SYNC, M_NO_REWRITE,
    M_NO_SPACE_SUM, M_NO_SUPER_REWRITE, M_NO_SYNCED_UPTO, cache_get, cache_pin, page_check, page_seal)
from core._checkpoint cimport slot_page, slot_write
from core._csum cimport csum_set
from core._ring cimport ring_push
from core._state cimport (
    E_NODE, E_REF, I_DATA, FF_PAD, FR_CRC, FR_FLAGS, FR_HARD_UPTO, FR_LENGTH, FR_MAGIC, FR_SEQ, FR_SYNCED_UPTO,
    FR_UUID, I_NODE, L_BLOCK_BYTES, L_DIRECTORY_ENTRIES, L_FORMAT_VERSION, L_FRAME_BLOCKS, L_FRAME_HEADER_BYTES,
    L_FRAME_MAGIC, L_NODE_ENTRIES, L_PAGE_HEADER_BYTES, L_PENDING_ITEMS, L_RUN_BLOCKS, L_SLOT_BYTES, L_SLOTS_PER_PAGE,
    L_SUMMARY_RUNS, L_SUMMARY_START, L_ZONE_BLOCKS, L_ZONE_META_BLOCKS, OB_BLOCK_BYTES, OB_FLAGS, OB_ID, OB_KIND,
    OB_LEVEL, OB_MAPPED_BLOCKS, OB_NAME_BYTES, OB_ORIGIN_BYTES, OB_PHYSICAL_EXPONENT, OB_PROPS_BYTES, OB_QUOTA_BYTES,
    OB_ROOT, OB_SIZE_BYTES, OF_TAIL, OK_SNAPSHOT, PG_CRC, PG_GEN, PG_KIND, PG_N, PK_CATALOG, PK_NODE, PK_PENDING,
    PK_SUMMARY, RC_FLAGS, RC_LENGTH, RC_TYPE, RT_DELETE, RT_DERIVE, RT_GROW, RT_KV, RT_MAP, RT_OBJECT, RT_RESIZE,
    RT_REVERT, RT_SHARE, RT_UNMAP, SB_AREA_IMAGES, SB_AREA_PENDING, SB_FLAGS, SB_FREE_BLOCKS, SB_JOURNAL_POS,
    SB_JOURNAL_SEQ, SB_PENDING_CRC, SF_CLEAN, SK_FREE, SK_KV, SK_OBJECT, frame, freed_page, item, lnt_get16,
    lnt_get32, lnt_get64, lnt_pool, lnt_put16, run_is_fixed, vobj)
from core._super cimport damaged, super_bytes
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    SPARE_BLOCKS = 64             # for the catalog's and the keys' pages of the checkpoint that ends recovery

cdef extern from "crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)


# -- summaries -----------------------------------------------------------------------------------------------------------

cdef int summaries_load(lnt_pool *p, object device, bytes super_raw) except -1:
    """Used blocks of every run: two pages a zone."""
    cdef uint64_t pages, s, i, r
    cdef bytes raw
    cdef const uint8_t *b
    p.n_runs = p.total_blocks // L_RUN_BLOCKS
    pages = (p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS
    p.run_used = <uint16_t *>calloc((pages + 1) * L_SUMMARY_RUNS, sizeof(uint16_t))
    p.run_busy = <uint8_t *>calloc((pages + 1) * L_SUMMARY_RUNS, 1)
    p.summary_dirty = <uint8_t *>calloc(pages + 2, 1)
    p.punch.pages = <freed_page **>calloc(pages + 1, sizeof(freed_page *))
    if p.run_used == NULL or p.run_busy == NULL or p.summary_dirty == NULL or p.punch.pages == NULL:
        raise MemoryError
    p.free_blocks = p.free_runs = 0
    for s in range(pages):
        home = (s // 2) * L_ZONE_BLOCKS + L_SUMMARY_START + s % 2
        raw = device.read(home * L_BLOCK_BYTES, L_BLOCK_BYTES)
        b = raw
        if not page_check(p, b, PK_SUMMARY, home):
            raise damaged(f"summary page at block {home} fails its checksum")
        for i in range(L_SUMMARY_RUNS):
            r = s * L_SUMMARY_RUNS + i
            if r >= p.n_runs:
                break
            p.run_busy[r] = run_is_fixed(p, r)
            p.run_used[r] = L_RUN_BLOCKS if p.run_busy[r] else lnt_get16(b + L_PAGE_HEADER_BYTES + 2 * i)
            if p.run_used[r] > L_RUN_BLOCKS:
                raise damaged(f"summary page at block {home} counts more blocks than there are")
            p.free_blocks += L_RUN_BLOCKS - p.run_used[r]
            p.free_runs += p.run_used[r] == 0
    if p.free_blocks != lnt_get64(<const uint8_t *>super_raw + SB_FREE_BLOCKS) and not p.mutations & M_NO_SPACE_SUM:
        raise damaged("the summaries are not those that the superblock counted")
    return 0


# -- area --------------------------------------------------------------------------------------------------------------

cdef int area_apply(lnt_pool *p, object device, bytes raw) except -1:
    """Write the checkpoint's images home (again) unless the pool was closed cleanly, and load its pending list."""
    cdef const uint8_t *sb = raw
    cdef uint32_t n = lnt_get32(sb + SB_AREA_IMAGES)
    cdef uint32_t n_pending = lnt_get32(sb + SB_AREA_PENDING)
    cdef uint32_t n_dir = (n + L_DIRECTORY_ENTRIES - 1) // L_DIRECTORY_ENTRIES
    cdef uint64_t base = p.ck.area_start + (p.ck.gen & 1) * p.ck.area_blocks
    cdef uint32_t i, k
    cdef const uint8_t *d
    cdef const uint8_t *g
    cdef bytes directory, chunk
    cdef item it
    if not lnt_get32(sb + SB_FLAGS) & SF_CLEAN and not p.mutations & M_NO_RECOVERY_SYNC:
        super_secure(p, device, raw)
    if not lnt_get32(sb + SB_FLAGS) & SF_CLEAN and n:
        directory = device.read(base * L_BLOCK_BYTES, n_dir * L_BLOCK_BYTES)
        d = directory
        if lnt_get64(sb + SB_PENDING_CRC) != lnt_crc32c(0, d, n_dir * L_BLOCK_BYTES) and not p.mutations & M_NO_DIRECTORY_CRC:
            raise damaged("the checkpoint's directory fails its checksum")
        for i in range(0, n, 64):
            k = n - i if n - i < 64 else 64
            chunk = device.read((base + n_dir + i) * L_BLOCK_BYTES, k * L_BLOCK_BYTES)
            image_home(p, device, d, chunk, i, k)
        device.sync()
    for i in range(n_pending):
        chunk = device.read((base + n_dir + n + i) * L_BLOCK_BYTES, L_BLOCK_BYTES)
        g = chunk
        if (not page_check(p, g, PK_PENDING, i) or lnt_get16(g + PG_N) > L_PENDING_ITEMS
                or lnt_get64(g + PG_GEN) != p.ck.gen and not p.mutations & M_NO_GEN):
            raise damaged("the checkpoint's pending list fails its checksum")
        for k in range(lnt_get16(g + PG_N)):
            it.ref = lnt_get64(g + L_PAGE_HEADER_BYTES + 16 * k)
            it.n = lnt_get32(g + L_PAGE_HEADER_BYTES + 16 * k + 8)
            it.kind = <uint8_t>lnt_get32(g + L_PAGE_HEADER_BYTES + 16 * k + 12)
            it.trim = 1
            it.seq = it.epoch = 0
            if it.kind == I_NODE:
                it.n = 1 | it.n << 8
            ring_push(&p.work, &it)
    return 0


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
    for i in range(k):
        at = d + ((first + i) // L_DIRECTORY_ENTRIES) * L_BLOCK_BYTES + L_PAGE_HEADER_BYTES
        at += (first + i) % L_DIRECTORY_ENTRIES * 16
        home = lnt_get64(at)
        if lnt_get32(c + i * L_BLOCK_BYTES + PG_CRC) != lnt_get32(at + 8) or home >= p.total_blocks or not page_check(
                p, c + i * L_BLOCK_BYTES, c[i * L_BLOCK_BYTES + PG_KIND], home) and not p.mutations & M_NO_IMAGE_CRC:
            raise damaged(f"the checkpoint's image of block {home} fails its checksum")
        device.write(home * L_BLOCK_BYTES, chunk[i * L_BLOCK_BYTES:(i + 1) * L_BLOCK_BYTES])
    return 0


# -- catalog -----------------------------------------------------------------------------------------------------------

cdef vobj *object_from(lnt_pool *p, const uint8_t *slot) except NULL:
    """A new object from its slot bytes; PoolError when they cannot be."""
    cdef vobj *o
    if (slot[OB_NAME_BYTES] == 0 or slot[OB_NAME_BYTES] > 128 or slot[OB_ORIGIN_BYTES] > 128 or slot[OB_PROPS_BYTES] > 160
            or slot[OB_KIND] < 1 or slot[OB_KIND] > 3 or slot[OB_LEVEL] > 4 or slot[OB_LEVEL] < 1
            or lnt_get64(slot + OB_SIZE_BYTES) % L_BLOCK_BYTES or lnt_get32(slot + OB_BLOCK_BYTES) not in (512, 4096)
            or slot[OB_PHYSICAL_EXPONENT] > 3):
        raise damaged("a catalog entry is impossible")
    o = <vobj *>calloc(1, sizeof(vobj))
    if o == NULL:
        raise MemoryError
    memcpy(o.desc, slot, L_SLOT_BYTES)
    o.pub.id = lnt_get64(slot + OB_ID)
    o.pub.size_bytes = lnt_get64(slot + OB_SIZE_BYTES)
    o.pub.block_bytes = lnt_get32(slot + OB_BLOCK_BYTES)
    o.pub.read_only = slot[OB_KIND] == OK_SNAPSHOT
    o.kind = slot[OB_KIND]
    o.flags = slot[OB_FLAGS]
    o.level = slot[OB_LEVEL]
    o.root = lnt_get64(slot + OB_ROOT)
    o.mapped_blocks = lnt_get64(slot + OB_MAPPED_BLOCKS)
    if o.pub.id >= p.next_id:
        p.next_id = o.pub.id + 1
    return o


cdef int slots_reserve(lnt_pool *p) except -1:
    p.slot_cap = p.cat_slots + 1024
    p.slot_kind = <uint8_t *>calloc(p.slot_cap, 1)
    p.odirty_marks = <uint32_t *>calloc(p.slot_cap, sizeof(uint32_t))
    p.odirty_round = 1
    if p.slot_kind == NULL or p.odirty_marks == NULL:
        raise MemoryError
    return 0


cdef int page_load(lnt_pool *p, frame *f, uint64_t page, list keys) except -1:
    cdef uint32_t i, slot
    cdef const uint8_t *s
    cdef vobj *o
    for i in range(L_SLOTS_PER_PAGE):
        slot = <uint32_t>(page * L_SLOTS_PER_PAGE + i)
        s = f.data + i * L_SLOT_BYTES
        if slot >= p.cat_slots or s[0] == SK_FREE:
            continue
        p.slot_kind[slot] = s[0]
        if s[0] == SK_KV:
            keys.append((slot, (<const char *>s)[:L_SLOT_BYTES]))
        elif s[0] == SK_OBJECT:
            o = object_from(p, s)
            o.slot = slot
            if object_find(p, o.pub.id) != NULL:
                raise damaged("two catalog entries have one id")
            object_link(p, o)
            object_dirty_reserve(p, o)
        else:
            raise damaged("a catalog slot is of no known kind")
    return 0


cdef void object_dirty_reserve(lnt_pool *p, vobj *o) noexcept:
    if lnt_get64(o.desc + 64):
        object_dirty(p, o)        # counts what its reservation holds back


cdef int catalog_walk(lnt_pool *p, uint64_t id, int level, uint64_t first, list keys) except -1:
    cdef int rc = 0, i
    cdef frame *f = cache_get(p, id, PK_NODE, <uint8_t>level, &rc)
    cdef frame *g
    cdef uint64_t[512] v
    if f == NULL:
        raise damaged(f"catalog node at block {id} cannot be read")
    cache_pin(p, f)
    memcpy(v, f.data, sizeof(v))
    for i in range(L_NODE_ENTRIES):
        if not v[i] & E_NODE():
            continue
        if level:
            catalog_walk(p, v[i] & E_REF(), level - 1, first + (<uint64_t>i << 9 * level), keys)
            continue
        g = cache_get(p, v[i] & E_REF(), PK_CATALOG, 0, &rc)
        if g == NULL:
            raise damaged(f"catalog page at block {v[i] & E_REF()} cannot be read")
        cache_pin(p, g)
        page_load(p, g, first + i, keys)
    return 0


cdef int catalog_load(lnt_pool *p, list keys) except -1:
    """Read every slot: objects into memory, slots of keys as (slot, bytes) into the list."""
    slots_reserve(p)
    if p.cat.root:
        catalog_walk(p, p.cat.root, p.cat.level, 0, keys)
    return 0


# -- journal -----------------------------------------------------------------------------------------------------------

cdef int frame_valid(lnt_pool *p, const uint8_t *b, uint64_t room_blocks) noexcept nogil:
    cdef uint32_t length = lnt_get32(b + FR_LENGTH)
    if lnt_get32(b + FR_MAGIC) != L_FRAME_MAGIC or memcmp(b + FR_UUID, p.uuid, 16) != 0:
        return 0
    if length < L_FRAME_HEADER_BYTES or length > L_FRAME_BLOCKS * L_BLOCK_BYTES:
        return 0
    if length > room_blocks * L_BLOCK_BYTES:
        return 0
    if p.mutations & M_NO_FRAME_CRC:
        return 1
    return lnt_get32(b + FR_CRC) == lnt_crc32c(0, b + 8, length - 8)


cdef bytes ring_read(lnt_pool *p, object device, const uint8_t *sb, uint32_t pos, uint64_t expect):
    """The whole journal; of a pool closed cleanly nothing, unless it goes on all the same: a newer superblock is lost."""
    cdef bytes head
    cdef const uint8_t *b
    if lnt_get32(sb + SB_FLAGS) & SF_CLEAN:
        head = device.read((p.j.start + pos) * L_BLOCK_BYTES, L_BLOCK_BYTES)
        b = head
        if (lnt_get32(b + FR_MAGIC) != L_FRAME_MAGIC or memcmp(b + FR_UUID, p.uuid, 16) != 0
                or lnt_get64(b + FR_SEQ) < expect):
            return b""
    return b"".join(device.read((p.j.start + at) * L_BLOCK_BYTES, min(4096, p.j.blocks - at) * L_BLOCK_BYTES)
                    for at in range(0, p.j.blocks, 4096))


cdef list frames_find(lnt_pool *p, const uint8_t *r, uint32_t *pos, uint64_t *expect, uint64_t *hard):
    """Places of the frames from `pos` and number `expect` on, both left after the last; `hard`: synced up to."""
    cdef const uint8_t *b
    cdef list frames = []
    cdef uint32_t blocks = p.j.blocks, i
    cdef int wrapped = 0
    while True:
        b = r + <uint64_t>pos[0] * L_BLOCK_BYTES
        if not frame_valid(p, b, blocks - pos[0]) or lnt_get64(b + FR_SEQ) != expect[0]:
            break
        if lnt_get32(b + FR_FLAGS) & FF_PAD:
            if wrapped:
                break
            wrapped = 1
            pos[0] = 0
            continue
        if lnt_get64(b + FR_HARD_UPTO) > hard[0]:
            hard[0] = lnt_get64(b + FR_HARD_UPTO)
        frames.append(pos[0])
        pos[0] += (lnt_get32(b + FR_LENGTH) + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES
        if pos[0] == blocks:
            pos[0] = 0
        expect[0] += 1
    for i in range(blocks):
        b = r + <uint64_t>i * L_BLOCK_BYTES
        if (frame_valid(p, b, blocks - i) and lnt_get64(b + FR_SEQ) > expect[0]
                and lnt_get64(b + FR_SEQ) <= expect[0] + blocks
                and lnt_get64(b + FR_SYNCED_UPTO) >= expect[0] and not p.mutations & M_NO_SYNCED_UPTO):
            raise damaged(f"journal frame {expect[0]} is gone, though it was durable")
    return frames


cdef int journal_replay(lnt_pool *p, object device, bytes raw, int trusted, list changes) except -1:
    """Replay the frames that count (trusted: all of them); leaves the ring position after the last."""
    cdef const uint8_t *sb = raw
    cdef uint64_t expect = lnt_get64(sb + SB_JOURNAL_SEQ)
    cdef uint32_t pos = lnt_get32(sb + SB_JOURNAL_POS)
    cdef uint64_t hard = 0, last
    cdef const uint8_t *b
    cdef bytes ring = ring_read(p, device, sb, pos, expect)
    cdef const uint8_t *r = ring
    cdef list frames = frames_find(p, r, &pos, &expect, &hard) if ring else []
    last = expect - 1 if trusted or p.mutations & M_ACCEPT_SOFT else hard
    if trusted and last > hard and not soft_rewrite(p, device, r, [at for at in frames if lnt_get64(
            r + <uint64_t>at * L_BLOCK_BYTES + FR_SEQ) > hard]):
        last = hard
    p.j.next_seq = lnt_get64(sb + SB_JOURNAL_SEQ)
    for at in frames:
        b = r + <uint64_t>at * L_BLOCK_BYTES
        if lnt_get64(b + FR_SEQ) > last:
            break
        p.j.next_seq = lnt_get64(b + FR_SEQ)
        frame_replay(p, b, lnt_get32(b + FR_LENGTH), changes)
        if p.total_blocks * L_BLOCK_BYTES > device.size_bytes:
            raise damaged("its file or device is shorter than the pool")
    p.j.head = pos
    p.j.tail = pos
    # Frames that were not replayed may still lie in the ring: numbers far ahead keep them from ever continuing a chain
    # (the checkpoint that follows publishes the new number). A pool closed cleanly has none.
    p.j.next_seq = expect if lnt_get32(sb + SB_FLAGS) & SF_CLEAN or p.mutations & M_NO_LEAP else expect + (1 << 20)
    p.j.closed_seq = p.j.written_seq = p.j.seal_seq = p.j.next_seq - 1
    p.j.hard_seq = p.j.synced_seq = p.j.marker_seq = p.j.data_synced_seq = 0
    return len(frames)


cdef int blocks_for_nodes(lnt_pool *p) except -1:
    """Make room in a pool that is nearly full for the nodes that replay has made: of what it has dropped, as much as is needed.

    It is free at once, though a crash may bring back the checkpoint that refers to it: until the new one is published nothing is
    written but its area, and nothing goes to the medium. Nodes of the old checkpoint are replaced like the rest.
    """
    cdef uint64_t hard = p.j.hard_seq
    cdef uint8_t discards = p.can_discard
    cdef vobj *o = p.odirty
    cdef int rc = 0
    while o != NULL:
        if not o.pub.gone and slot_page(p, o.slot, &rc) == NULL:
            raise damaged("a catalog page cannot be read")
        o = o.dnext
    p.can_discard = 0
    p.j.hard_seq = ~<uint64_t>0
    while p.free_blocks < p.unhomed + SPARE_BLOCKS:
        p.epoch += 2
        if reclaim_turn(p, 32) == 1:
            continue
        if p.failed:
            break
        if p.homes.head != p.homes.tail:
            p.homes.v[p.homes.head & (p.homes.cap - 1)].kind = I_DATA
            ring_push(&p.work, &p.homes.v[p.homes.head & (p.homes.cap - 1)])
            p.homes.head += 1
        else:
            break
    p.j.hard_seq = hard
    p.can_discard = discards
    return 0


cdef int soft_rewrite(lnt_pool *p, object device, const uint8_t *ring, list frames) except -1:
    """Write the data of frames that are not hard once more; 0 when it cannot be read or written, so that it is not to be trusted.

    The process that wrote it may have been killed between a sync that failed and its noting that: then the page cache still
    shows the data, but no sync will ever write it, unless it is written again.
    """
    cdef const uint8_t *b
    cdef uint32_t at, length
    extents = {}
    if p.mutations & M_NO_REWRITE:
        return 1
    for pos in frames:
        b = ring + <uint64_t>pos * L_BLOCK_BYTES
        at, length = L_FRAME_HEADER_BYTES, lnt_get32(b + FR_LENGTH)
        while at + 40 <= length and 8 <= lnt_get32(b + at + RC_LENGTH) <= length - at:
            if b[at + RC_TYPE] == RT_MAP:
                extents[lnt_get64(b + at + 24), lnt_get32(b + at + 32)] = True
            at += lnt_get32(b + at + RC_LENGTH)
    try:
        for pba, n in extents:
            if (pba + n) * L_BLOCK_BYTES > device.size_bytes:
                return 0
            device.write(pba * L_BLOCK_BYTES, device.read(pba * L_BLOCK_BYTES, n * L_BLOCK_BYTES))
    except OSError:
        return 0
    return 1


cdef int frame_replay(lnt_pool *p, const uint8_t *b, uint32_t length, list changes) except -1:
    cdef uint32_t at = L_FRAME_HEADER_BYTES, n
    cdef int rc
    while at + 8 <= length:
        n = lnt_get32(b + at + RC_LENGTH)
        if n < 8 or n % 8 or n > length - at:
            raise damaged("a journal record has an impossible length")
        if b[at + RC_TYPE] == RT_KV:
            changes.append(kv_parse(b + at, n))
        elif b[at + RC_TYPE] == RT_OBJECT or b[at + RC_TYPE] == RT_DERIVE:
            rc = object_replay(p, b + at, n)
        else:
            with nogil:
                rc = record_replay(p, b + at, n)
            if rc:
                raise damaged(f"journal record of type {b[at]} cannot be replayed (status {rc})")
        at += n
    return 0


cdef tuple kv_parse(const uint8_t *r, uint32_t n):
    cdef uint32_t k = lnt_get32(r + 8), v = lnt_get32(r + 12)
    if k > n - 16 or (v != 0xFFFFFFFF and v > n - 16 - k):
        raise damaged("a journal record of a key is impossible")
    return (<const char *>r)[16:16 + k], None if v == 0xFFFFFFFF else (<const char *>r)[16 + k:16 + k + v]


cdef int object_replay(lnt_pool *p, const uint8_t *r, uint32_t n) except -1:
    cdef vobj *o
    cdef vobj *src
    cdef const uint8_t *slot = r + (16 if r[RC_TYPE] == RT_DERIVE else 8)
    if n < (slot - r) + L_SLOT_BYTES:
        raise damaged("a journal record of an object is too short")
    o = object_find(p, lnt_get64(slot + OB_ID))
    if o != NULL:                 # its properties have changed
        memcpy(o.desc + OB_QUOTA_BYTES, slot + OB_QUOTA_BYTES, L_SLOT_BYTES - OB_QUOTA_BYTES)
        object_dirty(p, o)
        return 0
    o = object_from(p, slot)
    o.root = 0
    o.mapped_blocks = 0
    o.slot = slot_alloc(p, SK_OBJECT)
    if r[RC_TYPE] == RT_OBJECT:
        object_link(p, o)
        object_dirty(p, o)
        return 0
    src = object_find(p, lnt_get64(r + 8))
    if src == NULL or (src.root and node_touch(p, src.root)) or derive_apply(p, src, o):
        raise damaged("a journal record derives from an object that is not there")
    return 0


cdef int record_replay(lnt_pool *p, const uint8_t *r, uint32_t n) noexcept nogil:
    """Apply one record. 0 or a status."""
    cdef uint8_t t = r[RC_TYPE]
    cdef vobj *o = NULL
    cdef vobj *other
    cdef uint64_t a, b, c, d, done, next_lba = 0
    cdef uint32_t count, removed
    cdef int rc = 0
    if n < 16:
        return -100
    if t == RT_GROW:
        return pool_resize(p, lnt_get64(r + 8)) if lnt_get64(r + 8) > p.total_blocks else 0
    o = object_find(p, lnt_get64(r + 8))
    if o == NULL:
        return -101
    if t == RT_DELETE:
        rc = slot_write(p, o.slot, NULL)
        return rc if rc else delete_apply(p, o)
    if n < 24:
        return -102
    a = lnt_get64(r + 16)
    if t == RT_REVERT:
        other = object_find(p, a)
        if other == NULL:
            return -103
        rc = node_touch(p, other.root) if other.root else 0
        return rc if rc else revert_apply(p, o, other)
    if t == RT_RESIZE:
        rc = map_raise(p, o, map_level(a // L_BLOCK_BYTES))
        if a < o.pub.size_bytes:
            o.flags |= OF_TAIL    # what behind the end was not yet taken away goes when the pool is open
        elif a > o.pub.size_bytes:
            o.flags &= ~OF_TAIL
        o.pub.size_bytes = a
        object_dirty(p, o)
        return rc
    if n < 32:
        return -104
    b = lnt_get64(r + 24)
    if t == RT_UNMAP:
        b += a
        while a < b:
            rc = map_unmap(p, o, a, b, &next_lba, &removed)
            if rc:
                return rc
            a = next_lba
        return 0
    if n < 40:
        return -105
    if t == RT_MAP:
        count = lnt_get32(r + 32)
        if count == 0 or count > L_RUN_BLOCKS or (a & 511) + count > L_RUN_BLOCKS or b >= p.total_blocks or (
                count > p.total_blocks - b):
            return -106
        rc = count_touch(p, b, count)
        if rc == 0:
            rc = count_add(p, b, count, 1)
        if rc == 0 and r[RC_FLAGS] & 1:
            if n < 40 + 4 * count:
                return -107
            rc = csum_set(p, b, count, r + 40)
        return rc if rc else map_insert(p, o, a, b, count, 0)
    if t != RT_SHARE or n < 48:
        return -108
    other = object_find(p, b)
    if other == NULL:
        return -109
    c = lnt_get64(r + 32)
    d = lnt_get64(r + 40)
    while d:
        rc = map_share(p, o, a, other, c, d, &done)
        if rc:
            return rc
        a += done
        c += done
        d -= done
    return 0


# -- mkfs --------------------------------------------------------------------------------------------------------------

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
    p = <lnt_pool *>calloc(1, sizeof(lnt_pool))
    if p == NULL:
        raise MemoryError
    try:
        uuid = os.urandom(16)
        memcpy(p.uuid, <const uint8_t *>uuid, 16)
        p.tag = lnt_get32(p.uuid)
        p.total_blocks = total
        p.n_runs = total // L_RUN_BLOCKS
        p.ck.area_start = L_ZONE_META_BLOCKS + journal_blocks
        p.ck.area_blocks = <uint32_t>area_blocks
        pages = (p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS
        free_blocks = 0
        for s in range(pages):
            memset(page, 0, L_BLOCK_BYTES)
            for i in range(L_SUMMARY_RUNS):
                r = s * L_SUMMARY_RUNS + i
                if run_is_fixed(p, r):
                    lnt_put16(page + L_PAGE_HEADER_BYTES + 2 * i, L_RUN_BLOCKS)
                else:
                    free_blocks += L_RUN_BLOCKS
            home = (s // 2) * L_ZONE_BLOCKS + L_SUMMARY_START + s % 2
            page_seal(p, page, PK_SUMMARY, 0, 0, home, 0)
            device.write(home * L_BLOCK_BYTES, (<const char *>page)[:L_BLOCK_BYTES])
    finally:
        free(p)
    super_raw = super_bytes({
        "version": L_FORMAT_VERSION, "sb_gen": 1, "ckpt_gen": 0, "total_blocks": total, "journal_start": L_ZONE_META_BLOCKS,
        "journal_blocks": journal_blocks, "area_blocks": area_blocks, "area_start": L_ZONE_META_BLOCKS + journal_blocks,
        "journal_seq": 1, "flags": SF_CLEAN, "catalog_level": 1, "next_id": 1, "free_blocks": free_blocks,
        "uuid": uuid, "name": raw_name})
    device.sync()                 # a pool exists only when everything it stands on does
    for slot in layout.SUPERBLOCK_SLOTS:
        device.write(slot * L_BLOCK_BYTES, super_raw)
        device.sync()
