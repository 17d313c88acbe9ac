# The records of changes: what each says, and how long it is (docs/on-disk-format.md, "Records").
#
# Lives here and nowhere else: how a record's fields are written. core/log/replay.pyx reads them, the journal has the frames.
# Records of keys come ready from Python (core/pool/info.py, key_record).
from core.base.layout cimport (
    L_SLOT_BYTES, RB_DELETE, RB_GROW, RB_MAP, RB_RESIZE, RB_REVERT, RB_SHARE, RB_UNMAP, RC_FLAGS, RF_DELETE_OBJECT,
    RF_DERIVE_SLOT, RF_DERIVE_SOURCE, RF_GROW_TOTAL_BLOCKS, RF_MAP_COUNT, RF_MAP_LBA, RF_MAP_OBJECT, RF_MAP_PBA,
    RF_OBJECT_SLOT, RF_RESIZE_OBJECT, RF_RESIZE_SIZE_BYTES, RF_REVERT_OBJECT, RF_REVERT_SOURCE, RF_SHARE_COUNT, RF_SHARE_LBA,
    RF_SHARE_OBJECT, RF_SHARE_SOURCE, RF_SHARE_SOURCE_LBA, RF_UNMAP_COUNT, RF_UNMAP_LBA, RF_UNMAP_OBJECT, RL_MAP_SUMS, RT_DELETE,
    RT_DERIVE, RT_GROW, RT_MAP, RT_OBJECT, RT_RESIZE, RT_REVERT, RT_SHARE, RT_UNMAP,
)
from core.base.native cimport lnt_put_le32, lnt_put_le64
from core.base.object cimport lnt_object
from core.base.pool cimport lnt_pool
from core.catalog.slots cimport object_store
from core.log.journal cimport record_new
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

cdef inline uint32_t map_record_bytes(uint32_t blocks, bint with_sums) noexcept nogil:
    return (RB_MAP + (4 * blocks if with_sums else 0) + 7) & ~<uint32_t>7

cdef inline void record_map(lnt_pool *p, uint64_t object_id, uint64_t lba, uint64_t pba, uint32_t blocks,
                            const uint32_t *sums) noexcept nogil:
    """`sums`: checksums of the blocks, or NULL."""
    cdef uint8_t *r = record_new(p, RT_MAP, map_record_bytes(blocks, sums != NULL))
    lnt_put_le64(r + RF_MAP_OBJECT, object_id)
    lnt_put_le64(r + RF_MAP_LBA, lba)
    lnt_put_le64(r + RF_MAP_PBA, pba)
    lnt_put_le32(r + RF_MAP_COUNT, blocks)
    if sums != NULL:
        r[RC_FLAGS] = RL_MAP_SUMS
        memcpy(r + RB_MAP, sums, 4 * blocks)

cdef inline void record_unmap(lnt_pool *p, uint64_t object_id, uint64_t lba, uint64_t blocks) noexcept nogil:
    cdef uint8_t *r = record_new(p, RT_UNMAP, RB_UNMAP)
    lnt_put_le64(r + RF_UNMAP_OBJECT, object_id)
    lnt_put_le64(r + RF_UNMAP_LBA, lba)
    lnt_put_le64(r + RF_UNMAP_COUNT, blocks)

cdef inline void record_object(lnt_pool *p, lnt_object *o) noexcept nogil:
    """An object is new, or its properties have changed."""
    object_store(p, o, record_new(p, RT_OBJECT, RF_OBJECT_SLOT + L_SLOT_BYTES) + RF_OBJECT_SLOT)

cdef inline void record_derive(lnt_pool *p, uint64_t source_id, lnt_object *o) noexcept nogil:
    cdef uint8_t *r = record_new(p, RT_DERIVE, RF_DERIVE_SLOT + L_SLOT_BYTES)
    lnt_put_le64(r + RF_DERIVE_SOURCE, source_id)
    object_store(p, o, r + RF_DERIVE_SLOT)

cdef inline void record_delete(lnt_pool *p, uint64_t object_id) noexcept nogil:
    cdef uint8_t *r = record_new(p, RT_DELETE, RB_DELETE)
    lnt_put_le64(r + RF_DELETE_OBJECT, object_id)

cdef inline void record_revert(lnt_pool *p, uint64_t object_id, uint64_t source_id) noexcept nogil:
    cdef uint8_t *r = record_new(p, RT_REVERT, RB_REVERT)
    lnt_put_le64(r + RF_REVERT_OBJECT, object_id)
    lnt_put_le64(r + RF_REVERT_SOURCE, source_id)

cdef inline void record_resize(lnt_pool *p, uint64_t object_id, uint64_t size_bytes) noexcept nogil:
    cdef uint8_t *r = record_new(p, RT_RESIZE, RB_RESIZE)
    lnt_put_le64(r + RF_RESIZE_OBJECT, object_id)
    lnt_put_le64(r + RF_RESIZE_SIZE_BYTES, size_bytes)

cdef inline void record_share(lnt_pool *p, uint64_t object_id, uint64_t lba, uint64_t source_id, uint64_t source_lba,
                              uint64_t blocks) noexcept nogil:
    cdef uint8_t *r = record_new(p, RT_SHARE, RB_SHARE)
    lnt_put_le64(r + RF_SHARE_OBJECT, object_id)
    lnt_put_le64(r + RF_SHARE_LBA, lba)
    lnt_put_le64(r + RF_SHARE_SOURCE, source_id)
    lnt_put_le64(r + RF_SHARE_SOURCE_LBA, source_lba)
    lnt_put_le64(r + RF_SHARE_COUNT, blocks)

cdef inline void record_grow(lnt_pool *p, uint64_t total_blocks) noexcept nogil:
    lnt_put_le64(record_new(p, RT_GROW, RB_GROW) + RF_GROW_TOTAL_BLOCKS, total_blocks)
