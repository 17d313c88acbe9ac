"""What a pool tells of itself: its objects, pages that are bad, all its numbers."""
from core.pool.info import TraceEvent, bad_page, trace_event_text

from core.base.damage cimport lnt_bad_page
from core.base.layout cimport L_BLOCK_BYTES, L_SLOT_BYTES, OB_NAME, OK_SNAPSHOT
from core.base.native cimport pthread_mutex_lock, pthread_mutex_unlock
from core.base.object cimport lnt_object
from core.base.pool cimport TRACE_EVENTS, lnt_trace_entry
from core.catalog.slots cimport object_store
from core.log.journal cimport journal_room
from core.space.allocation cimport available_blocks
from core.space.dropped cimport pending_count
from core.space.holes cimport punch_runs
from libc.stdint cimport uint32_t


cdef enum:
    LOOK_BUCKETS = 256            # of the table of objects, under the lock at once


cdef int objects_walk(lnt_pool *p, list rows, uint8_t hidden, uint64_t *count, uint64_t *size_bytes) except -1:
    """The slot of every object into `rows`; or, where that is None, how many there are and the bytes of those that are no
    snapshots, but for names that begin with the byte `hidden`. A table that grows meanwhile is read anew.
    """
    cdef uint64_t at = 0, end, buckets = 0
    cdef lnt_object *o
    cdef uint8_t[512] slot
    while at < buckets or buckets == 0:
        pthread_mutex_lock(&p.lock)
        try:
            if buckets != p.objects_mask + 1:
                buckets = p.objects_mask + 1
                at = 0
                if rows is not None:
                    rows.clear()
                else:
                    count[0] = size_bytes[0] = 0
            end = at + LOOK_BUCKETS if buckets - at > LOOK_BUCKETS else buckets
            while at < end:
                o = p.objects_by_id[at]
                at += 1
                while o != NULL:
                    if rows is not None:
                        object_store(p, o, slot)
                        rows.append((<const char *>slot)[:L_SLOT_BYTES])
                    elif o.slot_image[OB_NAME] != hidden:
                        count[0] += 1
                        size_bytes[0] += 0 if o.kind == OK_SNAPSHOT else o.pub.size_bytes
                    o = o.hash_next
        finally:
            pthread_mutex_unlock(&p.lock)
    return 0


cdef list damage_rows(lnt_pool *p):
    """Every page that is known to be bad, by block."""
    cdef bytes raw                # nothing that could run other Python code is made under the lock
    cdef const lnt_bad_page *b
    cdef uint32_t i
    pthread_mutex_lock(&p.lock)
    try:
        raw = (<const char *>p.damage.pages)[:p.damage.count * sizeof(lnt_bad_page)] if p.damage.count else b""
    finally:
        pthread_mutex_unlock(&p.lock)
    b = <const lnt_bad_page *><const char *>raw
    return sorted(bad_page(b[i].block, b[i].kind, b[i].status, b[i].object, b[i].times)
                  for i in range(len(raw) // sizeof(lnt_bad_page)))


cdef list trace_rows(lnt_pool *p, uint64_t now_us):
    """What the engine has met, oldest first."""
    cdef bytes raw
    cdef list rows = []
    cdef const lnt_trace_entry *e
    cdef uint64_t i, n, first
    pthread_mutex_lock(&p.lock)
    try:
        n = p.traced
        raw = (<const char *>p.trace)[:sizeof(p.trace)]
    finally:
        pthread_mutex_unlock(&p.lock)
    first = n - TRACE_EVENTS if n > TRACE_EVENTS else 0
    for i in range(first, n):
        e = <const lnt_trace_entry *><const char *>raw + i % TRACE_EVENTS
        ago_s = (now_us - e.at_us) / 1e6 if now_us > e.at_us else 0.0
        rows.append(TraceEvent(ago_s, trace_event_text(e.event, e.a, e.b), e.times))
    return rows


cdef dict pool_figures(lnt_pool *p):
    """All of them. What lies in arrays, which are made anew when the pool grows, is read under the lock; the rest is words."""
    cdef uint64_t available, marked
    pthread_mutex_lock(&p.lock)
    available = available_blocks(p)
    marked = punch_runs(p)
    pthread_mutex_unlock(&p.lock)
    return {
        "size_bytes": p.total_blocks * L_BLOCK_BYTES, "free_bytes": p.free_blocks * L_BLOCK_BYTES,
        "available_bytes": available * L_BLOCK_BYTES,
        "reserve_bytes": p.reserve_blocks * L_BLOCK_BYTES, "reserved_unused_bytes": p.reserved_unused * L_BLOCK_BYTES,
        "pending_items": pending_count(p),
        "pending_bytes": p.stat_pending_blocks * L_BLOCK_BYTES, "reclaimed_bytes": p.stat_reclaimed * L_BLOCK_BYTES,
        "objects": p.n_objects, "failed": 1 if p.failed else 0, "cache_pages": p.cache.count, "cache_limit_pages": p.cache.limit,
        "dirty_pages": p.cache.n_dirty, "cache_hits": p.cache.hits, "cache_misses": p.cache.misses,
        "cache_evictions": p.cache.evictions, "journal_blocks": p.journal.blocks, "journal_room_blocks": journal_room(p),
        "journal_frames": p.journal.frames, "journal_bytes": p.journal.bytes, "journal_records": p.journal.appended,
        "syncs": p.journal.sync_done, "checkpoints": p.checkpoint.done_count, "merged_writes": p.stat_rmw,
        "moved_bytes": p.stat_moved * L_BLOCK_BYTES, "copied_bytes": p.stat_copied * L_BLOCK_BYTES,
        "orders": not p.ordering.off, "ordered_regions": p.ordering.regions, "unordered_regions": p.ordering.nowhere,
        "waiting_regions": p.ordering.count, "requests": p.budget.requests, "epoch": p.epoch,
        "medium_sparse": p.medium.sparse, "medium_short": p.medium.refused_us != 0,
        "node_room_bytes": p.nodes_free * L_BLOCK_BYTES,
        "free_runs": p.free_runs, "punched_bytes": p.holes.blocks * L_BLOCK_BYTES, "punch_runs": marked,
        "unswept_bytes": p.marks.blocks * L_BLOCK_BYTES, "unswept": p.holes.unswept,
        "punch_requests": p.holes.requests,
        "damaged_pages": p.damage.count, "damage_met": p.damage.met, "set_aside_bytes": p.damage.blocks * L_BLOCK_BYTES,
    }
