"""Replay of the journal: which frames count, and what their records do (docs/on-disk-format.md, "Which frames are replayed").

Runs before the pool is shared with anyone, on a device that finishes everything inline, so nothing here waits.
"""
from core.errors import damaged
from core.flights import copy_in_place

from core._blkmap cimport map_insert, map_level, map_raise, map_share, map_unmap
from core.base.layout cimport (
    FF_PAD, FR_CRC, FR_FLAGS, FR_HARD_UPTO, FR_LENGTH, FR_MAGIC, FR_SEQ, FR_SYNCED_UPTO, FR_UUID, L_BLOCK_BYTES, L_FRAME_BLOCKS,
    L_FRAME_HEADER_BYTES, L_FRAME_MAGIC, L_KV_GOES, L_NODE_ENTRIES, L_RUN_BLOCKS, L_SLOT_BYTES, OB_ID, OB_QUOTA_BYTES, OF_TAIL,
    RB_DELETE, RB_GROW, RB_KV, RB_MAP, RB_RESIZE, RB_REVERT, RB_SHARE, RB_UNMAP, RC_FLAGS, RC_LENGTH, RC_TYPE, RF_DERIVE_SLOT,
    RF_DERIVE_SOURCE, RF_GROW_TOTAL_BLOCKS, RF_KV_KEY_BYTES, RF_KV_VALUE_BYTES, RF_MAP_COUNT, RF_MAP_LBA, RF_MAP_OBJECT,
    RF_MAP_PBA, RF_OBJECT_SLOT, RF_RESIZE_SIZE_BYTES, RF_REVERT_SOURCE, RF_SHARE_COUNT, RF_SHARE_LBA, RF_SHARE_SOURCE,
    RF_SHARE_SOURCE_LBA, RF_UNMAP_COUNT, RF_UNMAP_LBA, RL_MAP_SUMS, RT_DELETE, RT_DERIVE, RT_GROW, RT_KV, RT_MAP, RT_OBJECT,
    RT_RESIZE, RT_REVERT, RT_SHARE, RT_UNMAP, SB_FLAGS, SB_JOURNAL_POS, SB_JOURNAL_SEQ, SF_CLEAN, SK_OBJECT,
)
from core.base.mutations cimport (
    M_ACCEPT_SOFT, M_FIRST_RECORD, M_KEEP_TAIL, M_LONG_RECORD, M_NO_FRAME_CRC, M_NO_LEAP, M_NO_REWRITE, M_NO_SYNCED_UPTO,
)
from core.base.native cimport lnt_get_le32, lnt_get_le64
from core.base.object cimport lnt_object
from core.base.types cimport ST_MEMORY
from core.catalog.changes cimport delete_apply, derive_apply, revert_apply
from core.catalog.loading cimport object_from
from core.catalog.slots cimport NO_SLOT, object_known, slot_alloc, slot_write
from core.log.growth cimport pool_resize
from core.log.journal cimport frame_crc, journal_continue, journal_number
from core.objects cimport object_dirty, object_find, object_link
from core.pages.checksums cimport csum_set
from core.space.counts cimport count_add, count_touch, counts_high_take, node_touch
from core.space.dropped cimport drops_ready, reclaim_until
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy

cdef enum:
    RECORD_TYPES = 16             # more than there are
    SHORT = -100                  # what may be wrong with a record, beside a status
    NOBODY = -101
    IMPOSSIBLE = -102

FAULTS = {SHORT: "it is too short", NOBODY: "its object is not there", IMPOSSIBLE: "it is impossible"}


# -- frames --------------------------------------------------------------------------------------------------------------


cdef int frame_valid(lnt_pool *p, const uint8_t *b, uint64_t room_bytes) noexcept nogil:
    cdef uint32_t length = lnt_get_le32(b + FR_LENGTH)
    if lnt_get_le32(b + FR_MAGIC) != L_FRAME_MAGIC or memcmp(b + FR_UUID, p.uuid, 16) != 0:
        return 0
    if length < L_FRAME_HEADER_BYTES or length > L_FRAME_BLOCKS * L_BLOCK_BYTES:
        return 0
    if length > room_bytes:
        return 0
    if p.mutations & M_NO_FRAME_CRC:
        return 1
    return lnt_get_le32(b + FR_CRC) == frame_crc(b, length)


cdef inline bint frame_is(lnt_pool *p, const uint8_t *b, uint64_t room_bytes, uint64_t seq) noexcept nogil:
    return (room_bytes >= L_FRAME_HEADER_BYTES and lnt_get_le64(b + FR_SEQ) == seq) and frame_valid(p, b, room_bytes)


cdef bytes ring_read(lnt_pool *p, object device, const uint8_t *sb, uint32_t position, uint64_t expect):
    """The whole journal; of a pool closed cleanly nothing, unless it goes on all the same: a newer superblock is lost."""
    cdef bytes head
    cdef const uint8_t *b
    if lnt_get_le32(sb + SB_FLAGS) & SF_CLEAN:
        head = device.read((p.journal.start + position) * L_BLOCK_BYTES, L_BLOCK_BYTES)
        b = head
        if (lnt_get_le32(b + FR_MAGIC) != L_FRAME_MAGIC or memcmp(b + FR_UUID, p.uuid, 16) != 0
                or lnt_get_le64(b + FR_SEQ) < expect):
            return b""
    return b"".join(device.read((p.journal.start + at) * L_BLOCK_BYTES, min(4096, p.journal.blocks - at) * L_BLOCK_BYTES)
                    for at in range(0, p.journal.blocks, 4096))


cdef list frames_find(lnt_pool *p, const uint8_t *r, uint32_t *position, uint64_t *expect, uint64_t *hard):
    """Offsets in bytes of the frames from block `position` and number `expect` on, both left after the last.

    `hard`: synced up to. A frame begins where the one before it ends, or at the block behind that.
    """
    cdef const uint8_t *b
    cdef list frames = []
    cdef uint64_t size = <uint64_t>p.journal.blocks * L_BLOCK_BYTES, at = <uint64_t>position[0] * L_BLOCK_BYTES
    cdef uint32_t i
    cdef int wrapped = 0
    while True:
        b = r + at
        if at == size or not frame_is(p, b, size - at, expect[0]):
            if at % L_BLOCK_BYTES == 0 and at != size:
                break
            at = (at + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES * L_BLOCK_BYTES % size
            continue
        if lnt_get_le32(b + FR_FLAGS) & FF_PAD:
            if wrapped:
                break
            wrapped = 1
            at = 0
            continue
        if lnt_get_le64(b + FR_HARD_UPTO) > hard[0]:
            hard[0] = lnt_get_le64(b + FR_HARD_UPTO)
        frames.append(at)
        at += lnt_get_le32(b + FR_LENGTH)
        expect[0] += 1
    position[0] = <uint32_t>(at // L_BLOCK_BYTES)
    for i in range(p.journal.blocks):
        b = r + <uint64_t>i * L_BLOCK_BYTES
        if (frame_valid(p, b, size - <uint64_t>i * L_BLOCK_BYTES) and lnt_get_le64(b + FR_SEQ) > expect[0]
                and lnt_get_le64(b + FR_SEQ) <= expect[0] + size // L_FRAME_HEADER_BYTES
                and lnt_get_le64(b + FR_SYNCED_UPTO) >= expect[0] and not p.mutations & M_NO_SYNCED_UPTO):
            raise damaged(f"journal frame {expect[0]} is gone, though it was durable")
    return frames


cdef int journal_replay(lnt_pool *p, object device, bytes raw, int trusted, list changes) except -1:
    """Replay the frames that count (trusted: all of them); leaves the ring position after the last."""
    cdef const uint8_t *sb = raw
    cdef uint64_t expect = lnt_get_le64(sb + SB_JOURNAL_SEQ)
    cdef uint32_t position = lnt_get_le32(sb + SB_JOURNAL_POS)
    cdef uint64_t hard = 0, last
    cdef const uint8_t *b
    cdef bytes ring = ring_read(p, device, sb, position, expect)
    cdef const uint8_t *r = ring
    cdef list frames = frames_find(p, r, &position, &expect, &hard) if ring else []
    last = expect - 1 if trusted or p.mutations & M_ACCEPT_SOFT else hard
    if trusted and last > hard and not soft_rewrite(p, device, r, [at for at in frames if lnt_get_le64(
            r + <uint64_t>at + FR_SEQ) > hard]):
        last = hard
    journal_number(p, lnt_get_le64(sb + SB_JOURNAL_SEQ))
    for at in frames:
        b = r + <uint64_t>at
        if lnt_get_le64(b + FR_SEQ) > last:
            break
        journal_number(p, lnt_get_le64(b + FR_SEQ))
        frame_replay(p, b, lnt_get_le32(b + FR_LENGTH), changes)
        if p.total_blocks * L_BLOCK_BYTES > device.size_bytes:
            raise damaged("its file or device is shorter than the pool")
    # Frames that were not replayed may still lie in the ring: numbers far ahead keep them from ever continuing a chain
    # (the checkpoint that follows publishes the new number). A pool closed cleanly has none.
    journal_continue(p, position, expect if lnt_get_le32(sb + SB_FLAGS) & SF_CLEAN or p.mutations & M_NO_LEAP
                     else expect + (1 << 20))
    return len(frames)


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
    for position in frames:
        b = ring + <uint64_t>position
        at, length = L_FRAME_HEADER_BYTES, lnt_get_le32(b + FR_LENGTH)
        while at + RB_MAP <= length and 8 <= lnt_get_le32(b + at + RC_LENGTH) <= length - at:
            if b[at + RC_TYPE] == RT_MAP:
                extents[lnt_get_le64(b + at + RF_MAP_PBA), lnt_get_le32(b + at + RF_MAP_COUNT)] = True
            at += lnt_get_le32(b + at + RC_LENGTH)
            if p.mutations & M_FIRST_RECORD:
                break
    try:
        for pba, n in extents:
            if (pba + n) * L_BLOCK_BYTES > device.size_bytes:
                return 0
        copy_in_place(device, [(pba * L_BLOCK_BYTES, n * L_BLOCK_BYTES) for pba, n in extents])
    except OSError:
        return 0
    return 1


# -- records -------------------------------------------------------------------------------------------------------------


cdef int frame_replay(lnt_pool *p, const uint8_t *b, uint32_t length, list changes) except -1:
    cdef uint32_t at = L_FRAME_HEADER_BYTES, n
    cdef int rc
    while at + 8 <= length:
        n = lnt_get_le32(b + at + RC_LENGTH)
        if n < 8 or n % 8 or n > length - at:
            raise damaged("a journal record has an impossible length")
        if b[at + RC_TYPE] == RT_KV:
            changes.append(kv_parse(b + at, n))
        elif b[at + RC_TYPE] == RT_OBJECT or b[at + RC_TYPE] == RT_DERIVE:
            rc = object_replay(p, b + at, n)
        else:
            with nogil:
                rc = record_replay(p, b + at, n)
            if rc == ST_MEMORY:
                raise MemoryError
            if rc:
                raise damaged(f"journal record of type {b[at]} cannot be replayed ({FAULTS.get(rc) or f'status {rc}'})")
        at += n
    if counts_high_take(p):       # what was off the counts when this was written must not push one over its limit now
        reclaim_until(p, ~<uint64_t>0)
    return 0


cdef tuple kv_parse(const uint8_t *r, uint32_t n):
    cdef uint32_t k, v
    if n < RB_KV:
        raise damaged("a journal record of a key is too short")
    k, v = lnt_get_le32(r + RF_KV_KEY_BYTES), lnt_get_le32(r + RF_KV_VALUE_BYTES)
    if k > n - RB_KV or (v != L_KV_GOES and v > n - RB_KV - k):
        raise damaged("a journal record of a key is impossible")
    return (<const char *>r)[RB_KV:RB_KV + k], None if v == L_KV_GOES else (<const char *>r)[RB_KV + k:RB_KV + k + v]


cdef int object_replay(lnt_pool *p, const uint8_t *r, uint32_t n) except -1:
    cdef lnt_object *o
    cdef lnt_object *src
    cdef const uint8_t *slot = r + (RF_DERIVE_SLOT if r[RC_TYPE] == RT_DERIVE else RF_OBJECT_SLOT)
    if n < (slot - r) + L_SLOT_BYTES:
        raise damaged("a journal record of an object is too short")
    o = object_find(p, lnt_get_le64(slot + OB_ID))
    if o != NULL:                 # its properties have changed
        memcpy(o.slot_image + OB_QUOTA_BYTES, slot + OB_QUOTA_BYTES, L_SLOT_BYTES - OB_QUOTA_BYTES)
        object_dirty(p, o)
        return 0
    o = object_from(slot)
    object_known(p, o.pub.id)
    o.root = 0
    o.mapped_blocks = 0
    o.slot = slot_alloc(p, SK_OBJECT)
    if o.slot == NO_SLOT:
        raise MemoryError
    if r[RC_TYPE] == RT_OBJECT:
        object_link(p, o)
        object_dirty(p, o)
        return 0
    src = object_find(p, lnt_get_le64(r + RF_DERIVE_SOURCE))
    if src == NULL or (src.root and node_touch(p, NULL, src.root)) or derive_apply(p, src, o):
        raise damaged("a journal record derives from an object that is not there")
    return 0


cdef int map_replay(lnt_pool *p, lnt_object *o, const uint8_t *r, uint32_t n) noexcept nogil:
    cdef uint64_t lba = lnt_get_le64(r + RF_MAP_LBA)
    cdef uint64_t pba = lnt_get_le64(r + RF_MAP_PBA)
    cdef uint32_t count = lnt_get_le32(r + RF_MAP_COUNT)
    cdef int rc
    if (count == 0 or count > L_RUN_BLOCKS or pba >= p.total_blocks or count > p.total_blocks - pba
            or lba % L_NODE_ENTRIES + count > L_NODE_ENTRIES and not p.mutations & M_LONG_RECORD):
        return IMPOSSIBLE
    rc = count_touch(p, NULL, pba, count)
    if rc == 0:
        rc = count_add(p, pba, count, 1)
    if rc == 0 and r[RC_FLAGS] & RL_MAP_SUMS:
        if n < RB_MAP + 4 * count:
            return SHORT
        rc = csum_set(p, pba, count, r + RB_MAP)
    return rc if rc else map_insert(p, NULL, o, lba, pba, count, 0)


cdef int unmap_replay(lnt_pool *p, lnt_object *o, const uint8_t *r, uint32_t n) noexcept nogil:
    cdef uint64_t lba = lnt_get_le64(r + RF_UNMAP_LBA)
    cdef uint64_t end = lba + lnt_get_le64(r + RF_UNMAP_COUNT)
    cdef uint64_t next_lba = 0
    cdef uint32_t removed
    cdef int rc
    while lba < end:
        if not drops_ready(p, 0):
            return ST_MEMORY
        rc = map_unmap(p, NULL, o, lba, end, &next_lba, &removed)
        if rc:
            return rc
        lba = next_lba
    return 0


cdef int delete_replay(lnt_pool *p, lnt_object *o, const uint8_t *r, uint32_t n) noexcept nogil:
    cdef int rc = slot_write(p, NULL, o.slot, NULL)
    return rc if rc else delete_apply(p, o)


cdef int revert_replay(lnt_pool *p, lnt_object *o, const uint8_t *r, uint32_t n) noexcept nogil:
    cdef lnt_object *snapshot = object_find(p, lnt_get_le64(r + RF_REVERT_SOURCE))
    cdef int rc
    if snapshot == NULL:
        return NOBODY
    rc = node_touch(p, NULL, snapshot.root) if snapshot.root else 0
    return rc if rc else revert_apply(p, o, snapshot)


cdef int resize_replay(lnt_pool *p, lnt_object *o, const uint8_t *r, uint32_t n) noexcept nogil:
    cdef uint64_t size_bytes = lnt_get_le64(r + RF_RESIZE_SIZE_BYTES)
    cdef int rc = map_raise(p, o, map_level(size_bytes // L_BLOCK_BYTES))
    if size_bytes < o.pub.size_bytes:
        o.flags |= OF_TAIL            # what behind the end was not yet taken away goes when the pool is open
    elif size_bytes > o.pub.size_bytes and not p.mutations & M_KEEP_TAIL:
        o.flags &= ~OF_TAIL
    o.pub.size_bytes = size_bytes
    object_dirty(p, o)
    return rc


cdef int share_replay(lnt_pool *p, lnt_object *o, const uint8_t *r, uint32_t n) noexcept nogil:
    cdef lnt_object *source = object_find(p, lnt_get_le64(r + RF_SHARE_SOURCE))
    cdef uint64_t lba = lnt_get_le64(r + RF_SHARE_LBA)
    cdef uint64_t source_lba = lnt_get_le64(r + RF_SHARE_SOURCE_LBA)
    cdef uint64_t left = lnt_get_le64(r + RF_SHARE_COUNT), done = 0
    cdef int rc
    if source == NULL:
        return NOBODY
    while left:
        if not drops_ready(p, 0):
            return ST_MEMORY
        rc = map_share(p, NULL, o, lba, source, source_lba, left, &done)
        if rc:
            return rc
        lba += done
        source_lba += done
        left -= done
    return 0


cdef struct record_kind:
    uint32_t least_bytes
    int (*replay)(lnt_pool *, lnt_object *, const uint8_t *, uint32_t) noexcept nogil


# Records that change one object, named in their first field.
cdef record_kind[RECORD_TYPES] KINDS
KINDS[RT_MAP] = record_kind(RB_MAP, map_replay)
KINDS[RT_UNMAP] = record_kind(RB_UNMAP, unmap_replay)
KINDS[RT_DELETE] = record_kind(RB_DELETE, delete_replay)
KINDS[RT_REVERT] = record_kind(RB_REVERT, revert_replay)
KINDS[RT_RESIZE] = record_kind(RB_RESIZE, resize_replay)
KINDS[RT_SHARE] = record_kind(RB_SHARE, share_replay)


cdef int record_replay(lnt_pool *p, const uint8_t *r, uint32_t n) noexcept nogil:
    """Apply one record. 0, a status, or what is wrong with it."""
    cdef uint8_t t = r[RC_TYPE]
    cdef lnt_object *o
    cdef uint64_t total
    if not drops_ready(p, 0):
        return ST_MEMORY
    if t == RT_GROW and n >= RB_GROW:
        total = lnt_get_le64(r + RF_GROW_TOTAL_BLOCKS)
        return pool_resize(p, total) if total > p.total_blocks else 0
    if t >= RECORD_TYPES or KINDS[t].replay == NULL:
        return IMPOSSIBLE
    if n < KINDS[t].least_bytes:
        return SHORT
    o = object_find(p, lnt_get_le64(r + RF_MAP_OBJECT))
    return KINDS[t].replay(p, o, r, n) if o != NULL else NOBODY
