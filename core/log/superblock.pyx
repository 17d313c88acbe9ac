"""The superblock as it is written: what it says, and how it is sealed (docs/on-disk-format.md, "Superblock").

Lives here and nowhere else: lnt_pool.superblock.
"""
from core import layout

from core.base.layout cimport (
    L_BLOCK_BYTES, L_FIRST_VERSION, L_FORMAT_VERSION, SB_AREA_BLOCKS, SB_AREA_START, SB_CACHE_TOKEN, SB_CATALOG_LEVEL,
    SB_CATALOG_ROOT, SB_CATALOG_SLOTS, SB_CRC, SB_FLAGS, SB_FREE_BLOCKS, SB_IDENTITY, SB_JOURNAL_BLOCKS, SB_JOURNAL_START,
    SB_NAME, SB_NEXT_ID, SB_NODE_RUNS, SB_SB_GEN, SB_TOTAL_BLOCKS, SB_UUID, SB_VERSION, SF_DISTRUST,
)
from core.base.log cimport CHECKPOINT_APPLY, CHECKPOINT_SUPER, CHECKPOINT_SYNC3
from core.base.native cimport lnt_get_le32, lnt_put_le32, lnt_put_le64
from core.base.space cimport NODE_RUNS
from core.base.types cimport IO_WRITE, lnt_io
from libc.string cimport memcpy, memset


cdef bytes super_bytes(dict values):
    raw = bytearray(L_BLOCK_BYTES)
    raw[0:8] = layout.SUPERBLOCK_MAGIC
    for field in layout.SUPERBLOCK:
        value = values.get(field.name)
        if isinstance(value, int):
            raw[field.offset:field.offset + field.size] = value.to_bytes(field.size, "little")
        elif isinstance(value, bytes):
            raw[field.offset:field.offset + len(value)] = value
    body = bytes(raw)
    crc = super_crc(body)
    raw[SB_CRC:SB_CRC + 4] = crc.to_bytes(4, "little")
    return bytes(raw)


cdef void node_runs_store(lnt_pool *p, uint8_t *out) noexcept nogil:
    cdef uint32_t i
    for i in range(NODE_RUNS):
        lnt_put_le32(out + SB_NODE_RUNS + 4 * i, p.medium.runs[i] if i < p.medium.n_runs else 0)


cdef void super_build(lnt_pool *p, uint8_t *out, uint32_t flags) noexcept nogil:
    """Everything but generation numbers of the checkpoint under way, which the caller sets, and the seal."""
    memset(out, 0, L_BLOCK_BYTES)
    memcpy(out, b"LUNETTE\0", 8)
    lnt_put_le32(out + SB_VERSION, L_FORMAT_VERSION if p.has_sparse else L_FIRST_VERSION)
    memcpy(out + SB_UUID, p.uuid, 16)
    lnt_put_le64(out + SB_TOTAL_BLOCKS, p.total_blocks)
    lnt_put_le64(out + SB_JOURNAL_START, p.journal.start)
    lnt_put_le32(out + SB_JOURNAL_BLOCKS, p.journal.blocks)
    lnt_put_le32(out + SB_AREA_BLOCKS, p.checkpoint.area_blocks)
    lnt_put_le64(out + SB_AREA_START, p.checkpoint.area_start)
    lnt_put_le32(out + SB_FLAGS, flags)
    lnt_put_le64(out + SB_CATALOG_ROOT, p.catalog.root)
    lnt_put_le32(out + SB_CATALOG_LEVEL, p.catalog.level)
    lnt_put_le32(out + SB_CATALOG_SLOTS, p.catalog_slots)
    lnt_put_le64(out + SB_NEXT_ID, p.next_id)
    lnt_put_le64(out + SB_FREE_BLOCKS, p.free_blocks)
    memcpy(out + SB_CACHE_TOKEN, p.cache_token, 64)
    memcpy(out + SB_NAME, p.name, 64)
    memcpy(out + SB_IDENTITY, p.identity, 16)
    node_runs_store(p, out)


cdef void super_seal(uint8_t *out, uint64_t sb_gen) noexcept nogil:
    lnt_put_le64(out + SB_SB_GEN, sb_gen)
    lnt_put_le32(out + SB_CRC, super_crc(out))


cdef void super_next(lnt_pool *p, uint8_t *out) noexcept nogil:
    """Seal it as newer than what is on the medium."""
    p.superblock.generation += 1
    super_seal(out, p.superblock.generation)


cdef void distrust_written(lnt_io *io) noexcept nogil:
    pass                          # a failure changes nothing: the pool has failed already


cdef void super_distrust(lnt_pool *p) noexcept nogil:
    """A sync failed: tell a later opening under the same page cache that unsynced frames prove nothing."""
    cdef lnt_io *io
    if p.checkpoint.io_busy and (p.checkpoint.state == CHECKPOINT_SUPER or p.checkpoint.state == CHECKPOINT_APPLY):
        return                    # a superblock may be under way: which of the two comes last is not ours to say
    p.superblock.distrusted = 1
    lnt_put_le32(p.checkpoint.live_buf + SB_FLAGS, lnt_get_le32(p.checkpoint.live_buf + SB_FLAGS) | SF_DISTRUST)
    super_next(p, p.checkpoint.live_buf)
    io = &p.superblock.io
    io.kind = IO_WRITE
    # Only the copy that the medium can spare: while homes are written, copy 0 is the one known to be durable, otherwise copy 1.
    io.offset = L_BLOCK_BYTES if p.checkpoint.state == CHECKPOINT_APPLY or p.checkpoint.state == CHECKPOINT_SYNC3 else 0
    io.length = L_BLOCK_BYTES
    io.buf = p.checkpoint.live_buf
    io.owner = p
    io.done = distrust_written
    if p.current_device.submit(p.current_device, io):
        distrust_written(io)
