"""Starting what is done for the pool as a whole: scrub, trim, checkpoint, growth."""
from typing import NamedTuple

from core.errors import PoolError
from core.pool.info import METADATA_PARTS

from core.base.layout cimport L_BLOCK_BYTES, L_POOL_BLOCKS_MAX, L_RUN_BLOCKS, L_SUMMARY_PAGES, L_ZONE_BLOCKS
from core.base.object cimport lnt_object
from core.base.operation cimport ADMIN_CHECKPOINT, ADMIN_GROW, ADMIN_SCRUB, ADMIN_TRIM, lnt_admin
from core.base.runs cimport summary_home
from core.ops.scrub cimport SP_MAP
from core.pool.state cimport PoolState
from core.pool.submission cimport Outcome, admin_new, admin_on, submit
from libc.stdint cimport uint32_t, uint64_t


RUN_BYTES = L_RUN_BLOCKS * L_BLOCK_BYTES


class TrimStep(NamedTuple):
    cursor: object            # where to go on; None: all of the pool was looked at
    found_bytes: int          # free, and the medium may still keep it: it goes back in the background


class ScrubStep(NamedTuple):
    cursor: object            # where to go on; None: this part is over
    pages: int                # read from the medium
    damaged: list             # (offset and length in bytes of what the page speaks of, block of the page)


cdef class Trimmed(Outcome):
    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        return TrimStep(None if a.trim.over else a.trim.next_run * RUN_BYTES, a.trim.found_blocks * L_BLOCK_BYTES)


cdef class Scrubbed(Outcome):
    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        cdef uint64_t unit = L_BLOCK_BYTES if a.scrub.phase == SP_MAP else 1
        return ScrubStep(None if a.scrub.over else a.scrub.next * unit, a.scrub.pages,
                         [(a.rows[i].start * unit, a.rows[i].length * unit, a.rows[i].value) for i in range(a.n_rows)])


def start_scrub(PoolState pool, *, part="", object_id=0, previous_id=0, cursor=0, limit=64):
    cdef lnt_admin *a
    cdef uint64_t at
    cdef uint32_t most
    if part and part not in METADATA_PARTS or limit < 1:
        raise PoolError("invalid", f"no part of the metadata is called {part}")
    at, most = cursor, limit
    if part:
        a = admin_new(pool, ADMIN_SCRUB)
        a.scrub.phase = METADATA_PARTS.index(part)
        a.scrub.next = at
    else:
        a = admin_on(pool, ADMIN_SCRUB, object_id)
        a.other = <lnt_object *>pool.open_handle(previous_id)
        a.scrub.phase = SP_MAP
        a.scrub.next = at // L_BLOCK_BYTES
    a.scrub.most_pages = most
    return submit(pool, a, Scrubbed())


def start_checkpoint(PoolState pool):
    return submit(pool, admin_new(pool, ADMIN_CHECKPOINT), Outcome())


cdef int grow_room(PoolState pool, uint64_t total) except -1:
    """Have the summaries of new zones allocated below. PoolError: no_space."""
    cdef uint64_t zone, first = (pool.p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS
    try:
        for zone in range(first, (total + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS):
            pool.device.allocate(summary_home(zone * L_SUMMARY_PAGES) * L_BLOCK_BYTES, L_SUMMARY_PAGES * L_BLOCK_BYTES)
    except OSError as error:
        raise PoolError("no_space", f"the file system has no room for the metadata of a larger pool ({error.strerror})") from None
    return 0


def start_grow(PoolState pool, *, size_bytes):
    cdef lnt_admin *a
    total = size_bytes // RUN_BYTES * L_RUN_BLOCKS
    if total * L_BLOCK_BYTES > pool.device.size_bytes or total > L_POOL_BLOCKS_MAX:
        raise PoolError("invalid", "the device is smaller than that")
    if total < pool.p.total_blocks:
        raise PoolError("invalid", "a pool cannot shrink")
    if pool.p.medium.sparse:
        grow_room(pool, total)
    a = admin_new(pool, ADMIN_GROW)
    a.growth.total_blocks = total
    return submit(pool, a, Outcome())


def start_trim(PoolState pool, *, cursor=0, limit=256):
    """`limit`: runs of 2 MiB to look at."""
    cdef lnt_admin *a
    if cursor < 0 or cursor % RUN_BYTES or limit < 1:
        raise PoolError("invalid", "a pool is trimmed by runs of 2 MiB")
    if not pool.p.can_discard or pool.p.read_only:
        raise PoolError("invalid", "the pool's medium takes no space back")
    a = admin_new(pool, ADMIN_TRIM)
    a.trim.next_run = cursor // RUN_BYTES
    a.trim.left_runs = min(limit, 1 << 30)
    return submit(pool, a, Trimmed())
