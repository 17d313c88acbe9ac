"""The superblock that counts: chosen, read and checked when a pool is opened; changed in a pool that nobody has open.

Runs before the pool is shared with anyone (docs/on-disk-format.md, "Superblock").
"""
from core import layout
from core.errors import PoolError, damaged

from core.base.layout cimport (
    L_BLOCK_BYTES, L_FIRST_VERSION, L_FORMAT_VERSION, L_RUN_BLOCKS, L_ZONE_META_BLOCKS, SB_AREA_BLOCKS, SB_AREA_IMAGES,
    SB_AREA_PENDING, SB_AREA_START, SB_CATALOG_LEVEL, SB_CATALOG_ROOT, SB_CATALOG_SLOTS, SB_CKPT_GEN, SB_CRC, SB_IDENTITY,
    SB_JOURNAL_BLOCKS, SB_JOURNAL_POS, SB_JOURNAL_START, SB_NAME, SB_NEXT_ID, SB_SB_GEN, SB_TOTAL_BLOCKS, SB_UUID,
    SB_VERSION,
)
from core.base.memory cimport mem_zeroed
from core.base.mutations cimport M_NO_SUPER_CRC
from core.base.native cimport lnt_get_le32, lnt_get_le64
from core.log.journal cimport frames_share
from core.log.superblock cimport super_bytes, super_crc
from core.sparse cimport sparse_known
from libc.stdint cimport uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy


cdef int super_valid(lnt_pool *p, bytes raw):
    cdef const uint8_t *b = raw
    if len(raw) != L_BLOCK_BYTES or p.mutations & M_NO_SUPER_CRC:
        return len(raw) == L_BLOCK_BYTES
    return lnt_get_le32(b + SB_CRC) == super_crc(b)


cdef object super_read(lnt_pool *p, object device):
    """The newer valid copy of those that can be read. OSError when none readable is one; PoolError: foreign, newer, damaged."""
    copies = []
    failure = None
    if device.size_bytes < 2 * L_BLOCK_BYTES:
        raise PoolError("foreign", "not a Lunette pool")
    for slot in layout.SUPERBLOCK_SLOTS:
        try:
            copies.append(bytes(device.read(slot * L_BLOCK_BYTES, L_BLOCK_BYTES)))
        except OSError as error:
            copies.append(b"")
            failure = error
    if failure is not None and not any(raw[:8] == layout.SUPERBLOCK_MAGIC for raw in copies):
        raise failure
    return super_choose(p, copies[0], copies[1])


cdef object super_choose(lnt_pool *p, bytes first, bytes second):
    """The newer valid copy. PoolError: foreign, newer, damaged."""
    marked = [raw for raw in (first, second) if raw[:8] == layout.SUPERBLOCK_MAGIC]
    if not marked:
        raise PoolError("foreign", "not a Lunette pool")
    valid = [raw for raw in marked if super_valid(p, raw)]
    if not valid:
        if any(int.from_bytes(raw[SB_VERSION:SB_VERSION + 4], "little") > L_FORMAT_VERSION for raw in marked):
            raise PoolError("newer", "pool has a newer format than this version of Lunette reads")
        raise damaged("no valid superblock")
    newest = max(valid, key=lambda raw: int.from_bytes(raw[SB_SB_GEN:SB_SB_GEN + 8], "little"))
    version = int.from_bytes(newest[SB_VERSION:SB_VERSION + 4], "little")
    if version > L_FORMAT_VERSION:
        raise PoolError("newer", f"pool has format {version}, newer than this version of Lunette reads ({L_FORMAT_VERSION})")
    return newest


cdef int super_load(lnt_pool *p, bytes raw) except -1:
    """Take the geometry over, refusing what cannot be."""
    cdef const uint8_t *b = raw
    cdef uint64_t total = lnt_get_le64(b + SB_TOTAL_BLOCKS)
    memcpy(p.uuid, b + SB_UUID, 16)
    p.tag = lnt_get_le32(p.uuid)
    p.total_blocks = total
    p.journal.start = lnt_get_le64(b + SB_JOURNAL_START)
    p.journal.blocks = lnt_get_le32(b + SB_JOURNAL_BLOCKS)
    p.checkpoint.area_start = lnt_get_le64(b + SB_AREA_START)
    p.checkpoint.area_blocks = lnt_get_le32(b + SB_AREA_BLOCKS)
    p.checkpoint.generation = lnt_get_le64(b + SB_CKPT_GEN)
    p.superblock.generation = lnt_get_le64(b + SB_SB_GEN)
    if lnt_get_le32(b + SB_VERSION) > L_FIRST_VERSION:
        sparse_known(p)
    frames_share(p, lnt_get_le32(b + SB_VERSION))
    p.next_id = lnt_get_le64(b + SB_NEXT_ID)
    p.catalog.root = lnt_get_le64(b + SB_CATALOG_ROOT)
    p.catalog.level = <uint8_t>lnt_get_le32(b + SB_CATALOG_LEVEL)
    p.catalog_slots = lnt_get_le32(b + SB_CATALOG_SLOTS)
    memcpy(p.name, b + SB_NAME, 64)
    memcpy(p.identity, b + SB_IDENTITY, 16)
    if (total % L_RUN_BLOCKS or total == 0 or p.journal.start != L_ZONE_META_BLOCKS or p.journal.blocks < 64
            or p.checkpoint.area_start != p.journal.start + p.journal.blocks or p.checkpoint.area_blocks < 128
            or p.checkpoint.area_start + 2 * <uint64_t>p.checkpoint.area_blocks > total or total > <uint64_t>1 << 40
            or lnt_get_le32(b + SB_JOURNAL_POS) >= p.journal.blocks or p.catalog.level > 4 or p.catalog_slots > 1 << 26
            or lnt_get_le32(b + SB_AREA_IMAGES) > p.checkpoint.area_blocks
            or lnt_get_le32(b + SB_AREA_PENDING) > p.checkpoint.area_blocks):
        raise damaged("the superblock's geometry is impossible")
    return 0


cdef bytes super_current(object device):
    """The superblock of a pool that nobody has open. OSError; PoolError: foreign, newer, damaged."""
    cdef lnt_pool *p = <lnt_pool *>mem_zeroed(sizeof(lnt_pool))
    cdef bytes raw
    if p == NULL:
        raise MemoryError
    try:
        raw = super_read(p, device)
        super_load(p, raw)
        return raw
    finally:
        free(p)


cdef int super_change(object device, dict values) except -1:
    """Replace fields of the superblock of a pool that nobody has open.

    First in the copy that does not count, then in the one that does: at each instant one of them is whole and durable.
    """
    cdef bytes raw = super_current(device)
    known = {field.name: raw[field.offset:field.offset + field.size] for field in layout.SUPERBLOCK}
    sb_gen = int.from_bytes(known["sb_gen"], "little") + 1
    changed = super_bytes({**known, **values, "sb_gen": sb_gen})
    device.sync()                 # what was read may be in the page cache only
    slots = sorted(layout.SUPERBLOCK_SLOTS, key=lambda slot: device.read(slot * L_BLOCK_BYTES, L_BLOCK_BYTES) == raw)
    for slot in slots:
        device.write(slot * L_BLOCK_BYTES, changed)
        device.sync()
    return 0
