# Starting what is done for the pool as a whole: scrub, trim, checkpoint, growth. Included by _engine.pyx.
RUN_BYTES = L_RUN_BLOCKS * L_BLOCK_BYTES


cdef uint64_t clock_us(Pool pool) except? 77:
    """The time of a turn that is given none, and of the open."""
    return lnt_mono_us() if pool.clock is None else pool.clock()


def start_scrub(Pool pool, *, part="", object_id=0, previous_id=0, cursor=0, limit=64):
    cdef lnt_admin *a
    cdef uint64_t at
    cdef uint32_t most
    if part and part not in METADATA_PARTS or limit < 1:
        raise PoolError("invalid", f"no part of the metadata is called {part}")
    at, most = cursor, limit
    if part:
        a = admin_new(pool, A_SCRUB)
        a.scrub.phase = METADATA_PARTS.index(part)
        a.scrub.next = at
    else:
        a = admin_on(pool, A_SCRUB, object_id)
        a.other = <lnt_object *>pool.open_handle(previous_id)
        a.scrub.phase = SP_MAP
        a.scrub.next = at // L_BLOCK_BYTES
    a.scrub.most_pages = most
    return submit(pool, a, ("scrub", None, None))


def start_checkpoint(Pool pool):
    return submit(pool, admin_new(pool, A_CHECKPOINT), ("plain", None, None))


cdef int grow_room(Pool pool, uint64_t total) except -1:
    """Have the summaries of new zones allocated below. PoolError: no_space."""
    cdef uint64_t zone, first = (pool.p.total_blocks + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS
    try:
        for zone in range(first, (total + L_ZONE_BLOCKS - 1) // L_ZONE_BLOCKS):
            pool.device.allocate((zone * L_ZONE_BLOCKS + L_SUMMARY_START) * L_BLOCK_BYTES, L_SUMMARY_PAGES * L_BLOCK_BYTES)
    except OSError as error:
        raise PoolError("no_space", f"the file system has no room for the metadata of a larger pool ({error.strerror})") from None
    return 0


def start_grow(Pool pool, *, size_bytes):
    cdef lnt_admin *a
    total = size_bytes // RUN_BYTES * L_RUN_BLOCKS
    if total * L_BLOCK_BYTES > pool.device.size_bytes or total > 1 << 38:
        raise PoolError("invalid", "the device is smaller than that")
    if total < pool.p.total_blocks:
        raise PoolError("invalid", "a pool cannot shrink")
    if pool.p.medium.sparse:
        grow_room(pool, total)
    a = admin_new(pool, A_GROW)
    a.growth.total_blocks = total
    return submit(pool, a, ("plain", None, None))


def start_trim(Pool pool, *, cursor=0, limit=256):
    """`limit`: runs of 2 MiB to look at."""
    cdef lnt_admin *a
    if cursor < 0 or cursor % RUN_BYTES or limit < 1:
        raise PoolError("invalid", "a pool is trimmed by runs of 2 MiB")
    if not pool.p.can_discard or pool.p.read_only:
        raise PoolError("invalid", "the pool's medium takes no space back")
    a = admin_new(pool, A_TRIM)
    a.trim.next_run = cursor // RUN_BYTES
    a.trim.left_runs = min(limit, 1 << 30)
    return submit(pool, a, ("trim", None, None))
