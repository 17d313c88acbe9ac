"""Making pools: geometry, summaries and superblocks of a pool that holds nothing (docs/on-disk-format.md).

Runs on a device that finishes everything inline.
"""
import errno
import os

from core import layout
from core.errors import PoolError
from core.flights import write_each

from core.base.layout cimport (
    L_BLOCK_BYTES, L_FIRST_VERSION, L_POOL_BLOCKS_MAX, L_RUN_BLOCKS, L_ZONE_META_BLOCKS, SF_AHEAD, SF_CLEAN,
)
from core.base.memory cimport mem_zeroed
from core.base.pool cimport lnt_pool
from core.base.runs cimport run_begin, runs_open, summary_home, summary_pages
from core.log.checkpoint cimport summary_image
from core.log.opening cimport super_load
from core.log.superblock cimport super_bytes
from core.space.medium cimport fixed_from
from libc.stdint cimport uint8_t
from libc.stdlib cimport free

cdef enum:
    # What a pool has of its own accord: a part of its blocks for the journal and each half of the area, in whole runs,
    # and no less and no more than these.
    PART = 128
    JOURNAL_LEAST = 512
    AREA_LEAST = 1024
    JOURNAL_MOST = 16384
    AREA_MOST = 32768             # a leaf of a sparse volume takes more writes in a checkpoint that may hold more of them
    DATA_LEAST = 1024             # blocks: two runs


cdef object room_below(object device, uint64_t blocks):
    """Have what every pool needs allocated below. PoolError: no_space."""
    cdef uint64_t first = fixed_from(device)
    try:
        device.allocate(first * L_BLOCK_BYTES, (blocks - first) * L_BLOCK_BYTES)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise PoolError("no_space", f"a pool of that size needs {blocks * L_BLOCK_BYTES >> 20} MiB for its journal and "
                                        "checkpoints at once, and the file system has no room for them") from None
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


cdef uint64_t part_of(uint64_t total_blocks, uint64_t least, uint64_t most) noexcept:
    return min(max(total_blocks // PART // L_RUN_BLOCKS * L_RUN_BLOCKS, least), most)


cdef uint64_t summaries_write(object device, bytes super_raw) except? 0:
    """Write the summaries of a pool of that geometry in which only what is fixed is used. Returns its free blocks."""
    cdef uint8_t[4096] page
    cdef uint64_t s, run
    cdef lnt_pool *p = <lnt_pool *>mem_zeroed(sizeof(lnt_pool))     # as much of one as summaries are made of
    if p == NULL:
        raise MemoryError
    try:
        super_load(p, super_raw)
        if not runs_open(p):
            raise MemoryError
        for run in range(p.n_runs):
            run_begin(p, run, 0)
        writes = []
        for s in range(summary_pages(p)):
            summary_image(p, s, page, 0)
            writes.append((summary_home(s) * L_BLOCK_BYTES, (<const char *>page)[:L_BLOCK_BYTES]))
        write_each(device, writes)
        return p.free_blocks
    finally:
        free(p.run_used)
        free(p.run_busy)
        free(p.summary_dirty)
        free(p)


cdef object pool_create(object device, str name, uint64_t size_bytes, uint64_t journal_blocks, uint64_t area_blocks):
    """Make an empty pool; sizes that are 0 follow from the device's. PoolError: invalid, no_space."""
    cdef uint64_t total = (size_bytes or device.size_bytes) // L_BLOCK_BYTES // L_RUN_BLOCKS * L_RUN_BLOCKS
    cdef bytes raw_name = name.encode()
    if not raw_name or len(raw_name) > 63:
        raise PoolError("invalid", "a pool's name has 1 to 63 bytes")
    journal_blocks = journal_blocks or part_of(total, JOURNAL_LEAST, JOURNAL_MOST)
    area_blocks = area_blocks or part_of(total, AREA_LEAST, AREA_MOST)
    fixed = L_ZONE_META_BLOCKS + journal_blocks + 2 * area_blocks
    if total < fixed + DATA_LEAST or total * L_BLOCK_BYTES > device.size_bytes:
        least = L_ZONE_META_BLOCKS + JOURNAL_LEAST + 2 * AREA_LEAST + DATA_LEAST
        raise PoolError("invalid", f"a pool needs at least {least * 4 // 1024} MiB")
    if total > L_POOL_BLOCKS_MAX:
        raise PoolError("invalid", "a pool has at most 1 PiB")
    if getattr(device, "sparse", False):
        room_below(device, fixed)
    uuid = os.urandom(16)
    values = {
        "version": L_FIRST_VERSION, "sb_gen": 1, "ckpt_gen": 0, "total_blocks": total, "journal_start": L_ZONE_META_BLOCKS,
        "journal_blocks": journal_blocks, "area_blocks": area_blocks, "area_start": L_ZONE_META_BLOCKS + journal_blocks,
        "journal_seq": 1, "flags": SF_CLEAN | (SF_AHEAD if getattr(device, "thin", False) else 0), "catalog_level": 1,
        "next_id": 1, "uuid": uuid, "identity": uuid, "name": raw_name}
    super_raw = super_bytes({**values, "free_blocks": summaries_write(device, super_bytes(values))})
    device.sync()                 # a pool exists only when everything it stands on does
    for slot in layout.SUPERBLOCK_SLOTS:
        device.write(slot * L_BLOCK_BYTES, super_raw)
        device.sync()
