"""Replay of the journal: which frames count, and what their records do (docs/on-disk-format.md, "Which frames are replayed").

Runs before the pool is shared with anyone, on a device that finishes everything inline, so nothing here waits.
"""
from core.errors import damaged

from core._blkmap cimport map_insert, map_level, map_raise, map_share, map_unmap
from core.base.layout cimport (
    FF_PAD, FR_CRC, FR_FLAGS, FR_HARD_UPTO, FR_LENGTH, FR_MAGIC, FR_SEQ, FR_SYNCED_UPTO, FR_UUID, L_BLOCK_BYTES,
    L_FRAME_BLOCKS, L_FRAME_HEADER_BYTES, L_FRAME_MAGIC, L_RUN_BLOCKS, L_SLOT_BYTES, OB_ID, OB_QUOTA_BYTES, OF_TAIL, RC_FLAGS,
    RC_LENGTH, RC_TYPE, RT_DELETE, RT_DERIVE, RT_GROW, RT_KV, RT_MAP, RT_OBJECT, RT_RESIZE, RT_REVERT, RT_SHARE, RT_UNMAP,
    SB_FLAGS, SB_JOURNAL_POS, SB_JOURNAL_SEQ, SF_CLEAN, SK_OBJECT,
)
from core.base.mutations cimport M_ACCEPT_SOFT, M_FIRST_RECORD, M_NO_FRAME_CRC, M_NO_LEAP, M_NO_REWRITE, M_NO_SYNCED_UPTO
from core.base.native cimport lnt_get_le32, lnt_get_le64
from core.base.object cimport lnt_object
from core.catalog.changes cimport delete_apply, derive_apply, revert_apply
from core.catalog.loading cimport object_from
from core.catalog.slots cimport slot_alloc, slot_write
from core.log.growth cimport pool_resize
from core.log.recovery cimport drops_reclaim
from core.objects cimport object_dirty, object_find, object_link
from core.pages.checksums cimport csum_set
from core.space.counts cimport count_add, count_touch, node_touch
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy

cdef extern from "base/crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)


# -- frames --------------------------------------------------------------------------------------------------------------


cdef int frame_valid(lnt_pool *p, const uint8_t *b, uint64_t room_blocks) noexcept nogil:
    cdef uint32_t length = lnt_get_le32(b + FR_LENGTH)
    if lnt_get_le32(b + FR_MAGIC) != L_FRAME_MAGIC or memcmp(b + FR_UUID, p.uuid, 16) != 0:
        return 0
    if length < L_FRAME_HEADER_BYTES or length > L_FRAME_BLOCKS * L_BLOCK_BYTES:
        return 0
    if length > room_blocks * L_BLOCK_BYTES:
        return 0
    if p.mutations & M_NO_FRAME_CRC:
        return 1
    return lnt_get_le32(b + FR_CRC) == lnt_crc32c(0, b + 8, length - 8)


cdef bytes ring_read(lnt_pool *p, object device, const uint8_t *sb, uint32_t pos, uint64_t expect):
    """The whole journal; of a pool closed cleanly nothing, unless it goes on all the same: a newer superblock is lost."""
    cdef bytes head
    cdef const uint8_t *b
    if lnt_get_le32(sb + SB_FLAGS) & SF_CLEAN:
        head = device.read((p.journal.start + pos) * L_BLOCK_BYTES, L_BLOCK_BYTES)
        b = head
        if (lnt_get_le32(b + FR_MAGIC) != L_FRAME_MAGIC or memcmp(b + FR_UUID, p.uuid, 16) != 0
                or lnt_get_le64(b + FR_SEQ) < expect):
            return b""
    return b"".join(device.read((p.journal.start + at) * L_BLOCK_BYTES, min(4096, p.journal.blocks - at) * L_BLOCK_BYTES)
                    for at in range(0, p.journal.blocks, 4096))


cdef list frames_find(lnt_pool *p, const uint8_t *r, uint32_t *pos, uint64_t *expect, uint64_t *hard):
    """Places of the frames from `pos` and number `expect` on, both left after the last; `hard`: synced up to."""
    cdef const uint8_t *b
    cdef list frames = []
    cdef uint32_t blocks = p.journal.blocks, i
    cdef int wrapped = 0
    while True:
        b = r + <uint64_t>pos[0] * L_BLOCK_BYTES
        if not frame_valid(p, b, blocks - pos[0]) or lnt_get_le64(b + FR_SEQ) != expect[0]:
            break
        if lnt_get_le32(b + FR_FLAGS) & FF_PAD:
            if wrapped:
                break
            wrapped = 1
            pos[0] = 0
            continue
        if lnt_get_le64(b + FR_HARD_UPTO) > hard[0]:
            hard[0] = lnt_get_le64(b + FR_HARD_UPTO)
        frames.append(pos[0])
        pos[0] += (lnt_get_le32(b + FR_LENGTH) + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES
        if pos[0] == blocks:
            pos[0] = 0
        expect[0] += 1
    for i in range(blocks):
        b = r + <uint64_t>i * L_BLOCK_BYTES
        if (frame_valid(p, b, blocks - i) and lnt_get_le64(b + FR_SEQ) > expect[0]
                and lnt_get_le64(b + FR_SEQ) <= expect[0] + blocks
                and lnt_get_le64(b + FR_SYNCED_UPTO) >= expect[0] and not p.mutations & M_NO_SYNCED_UPTO):
            raise damaged(f"journal frame {expect[0]} is gone, though it was durable")
    return frames


cdef int journal_replay(lnt_pool *p, object device, bytes raw, int trusted, list changes) except -1:
    """Replay the frames that count (trusted: all of them); leaves the ring position after the last."""
    cdef const uint8_t *sb = raw
    cdef uint64_t expect = lnt_get_le64(sb + SB_JOURNAL_SEQ)
    cdef uint32_t pos = lnt_get_le32(sb + SB_JOURNAL_POS)
    cdef uint64_t hard = 0, last
    cdef const uint8_t *b
    cdef bytes ring = ring_read(p, device, sb, pos, expect)
    cdef const uint8_t *r = ring
    cdef list frames = frames_find(p, r, &pos, &expect, &hard) if ring else []
    last = expect - 1 if trusted or p.mutations & M_ACCEPT_SOFT else hard
    if trusted and last > hard and not soft_rewrite(p, device, r, [at for at in frames if lnt_get_le64(
            r + <uint64_t>at * L_BLOCK_BYTES + FR_SEQ) > hard]):
        last = hard
    p.journal.next_seq = lnt_get_le64(sb + SB_JOURNAL_SEQ)
    for at in frames:
        b = r + <uint64_t>at * L_BLOCK_BYTES
        if lnt_get_le64(b + FR_SEQ) > last:
            break
        p.journal.next_seq = lnt_get_le64(b + FR_SEQ)
        frame_replay(p, b, lnt_get_le32(b + FR_LENGTH), changes)
        if p.total_blocks * L_BLOCK_BYTES > device.size_bytes:
            raise damaged("its file or device is shorter than the pool")
    p.journal.head = pos
    p.journal.tail = pos
    # Frames that were not replayed may still lie in the ring: numbers far ahead keep them from ever continuing a chain
    # (the checkpoint that follows publishes the new number). A pool closed cleanly has none.
    p.journal.next_seq = expect if lnt_get_le32(sb + SB_FLAGS) & SF_CLEAN or p.mutations & M_NO_LEAP else expect + (1 << 20)
    p.journal.closed_seq = p.journal.written_seq = p.journal.seal_seq = p.journal.next_seq - 1
    p.journal.hard_seq = p.journal.synced_seq = p.journal.marker_seq = p.journal.data_synced_seq = 0
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
    for pos in frames:
        b = ring + <uint64_t>pos * L_BLOCK_BYTES
        at, length = L_FRAME_HEADER_BYTES, lnt_get_le32(b + FR_LENGTH)
        while at + 40 <= length and 8 <= lnt_get_le32(b + at + RC_LENGTH) <= length - at:
            if b[at + RC_TYPE] == RT_MAP:
                extents[lnt_get_le64(b + at + 24), lnt_get_le32(b + at + 32)] = True
            at += lnt_get_le32(b + at + RC_LENGTH)
            if p.mutations & M_FIRST_RECORD:
                break
    try:
        for pba, n in extents:
            if (pba + n) * L_BLOCK_BYTES > device.size_bytes:
                return 0
            device.write(pba * L_BLOCK_BYTES, device.read(pba * L_BLOCK_BYTES, n * L_BLOCK_BYTES))
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
            if rc:
                raise damaged(f"journal record of type {b[at]} cannot be replayed (status {rc})")
        at += n
    if p.counts_high:             # what was off the counts when this was written must not push one over its limit now
        p.counts_high = 0
        drops_reclaim(p, ~<uint64_t>0)
    return 0


cdef tuple kv_parse(const uint8_t *r, uint32_t n):
    cdef uint32_t k, v
    if n < 16:
        raise damaged("a journal record of a key is too short")
    k, v = lnt_get_le32(r + 8), lnt_get_le32(r + 12)
    if k > n - 16 or (v != 0xFFFFFFFF and v > n - 16 - k):
        raise damaged("a journal record of a key is impossible")
    return (<const char *>r)[16:16 + k], None if v == 0xFFFFFFFF else (<const char *>r)[16 + k:16 + k + v]


cdef int object_replay(lnt_pool *p, const uint8_t *r, uint32_t n) except -1:
    cdef lnt_object *o
    cdef lnt_object *src
    cdef const uint8_t *slot = r + (16 if r[RC_TYPE] == RT_DERIVE else 8)
    if n < (slot - r) + L_SLOT_BYTES:
        raise damaged("a journal record of an object is too short")
    o = object_find(p, lnt_get_le64(slot + OB_ID))
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
    src = object_find(p, lnt_get_le64(r + 8))
    if src == NULL or (src.root and node_touch(p, NULL, src.root)) or derive_apply(p, src, o):
        raise damaged("a journal record derives from an object that is not there")
    return 0


cdef int record_replay(lnt_pool *p, const uint8_t *r, uint32_t n) noexcept nogil:
    """Apply one record. 0 or a status."""
    cdef uint8_t t = r[RC_TYPE]
    cdef lnt_object *o = NULL
    cdef lnt_object *other
    cdef uint64_t a, b, c, d, done, next_lba = 0
    cdef uint32_t count, removed
    cdef int rc = 0
    if n < 16:
        return -100
    if t == RT_GROW:
        return pool_resize(p, lnt_get_le64(r + 8)) if lnt_get_le64(r + 8) > p.total_blocks else 0
    o = object_find(p, lnt_get_le64(r + 8))
    if o == NULL:
        return -101
    if t == RT_DELETE:
        rc = slot_write(p, NULL, o.slot, NULL)
        return rc if rc else delete_apply(p, o)
    if n < 24:
        return -102
    a = lnt_get_le64(r + 16)
    if t == RT_REVERT:
        other = object_find(p, a)
        if other == NULL:
            return -103
        rc = node_touch(p, NULL, other.root) if other.root else 0
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
    b = lnt_get_le64(r + 24)
    if t == RT_UNMAP:
        b += a
        while a < b:
            rc = map_unmap(p, NULL, o, a, b, &next_lba, &removed)
            if rc:
                return rc
            a = next_lba
        return 0
    if n < 40:
        return -105
    if t == RT_MAP:
        count = lnt_get_le32(r + 32)
        if count == 0 or count > L_RUN_BLOCKS or (a & 511) + count > L_RUN_BLOCKS or b >= p.total_blocks or (
                count > p.total_blocks - b):
            return -106
        rc = count_touch(p, NULL, b, count)
        if rc == 0:
            rc = count_add(p, b, count, 1)
        if rc == 0 and r[RC_FLAGS] & 1:
            if n < 40 + 4 * count:
                return -107
            rc = csum_set(p, b, count, r + 40)
        return rc if rc else map_insert(p, NULL, o, a, b, count, 0)
    if t != RT_SHARE or n < 48:
        return -108
    other = object_find(p, b)
    if other == NULL:
        return -109
    c = lnt_get_le64(r + 32)
    d = lnt_get_le64(r + 40)
    while d:
        rc = map_share(p, NULL, o, a, other, c, d, &done)
        if rc:
            return rc
        a += done
        c += done
        d -= done
    return 0
