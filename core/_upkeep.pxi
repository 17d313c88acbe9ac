# Starting what is done for the pool as a whole: scrub, trim, checkpoint, growth. Included by _engine.pyx.
RUN_BYTES = L_RUN_BLOCKS * L_BLOCK_BYTES


cdef uint64_t clock_us(Pool pool) except? 77:
    """The time of a turn that is given none, and of the open."""
    return lnt_mono_us() if pool.clock is None else pool.clock()


def start_scrub(Pool pool, *, part="", object_id=0, previous_id=0, cursor=0, limit=64):
    cdef admin *a
    cdef uint64_t at
    cdef uint32_t most
    if part and part not in METADATA_PARTS or limit < 1:
        raise PoolError("invalid", f"no part of the metadata is called {part}")
    at, most = cursor, limit
    if part:
        a = admin_new(pool, A_SCRUB)
        a.b = METADATA_PARTS.index(part)
        a.a = at
    else:
        a = admin_on(pool, A_SCRUB, object_id)
        a.other = <vobj *>pool.open_handle(previous_id)
        a.b = SP_MAP
        a.a = at // L_BLOCK_BYTES
    a.n = most
    return submit(pool, a, ("scrub", None, None))


def start_checkpoint(Pool pool):
    return submit(pool, admin_new(pool, A_CHECKPOINT), ("plain", None, None))


def start_grow(Pool pool, *, size_bytes):
    cdef admin *a
    total = size_bytes // L_BLOCK_BYTES // 512 * 512
    if total * L_BLOCK_BYTES > pool.device.size_bytes or total > 1 << 38:
        raise PoolError("invalid", "the device is smaller than that")
    if total < pool.p.total_blocks:
        raise PoolError("invalid", "a pool cannot shrink")
    a = admin_new(pool, A_GROW)
    a.a = total
    return submit(pool, a, ("plain", None, None))


def start_trim(Pool pool, *, cursor=0, limit=256):
    """`limit`: runs of 2 MiB to look at."""
    cdef admin *a
    if cursor < 0 or cursor % RUN_BYTES or limit < 1:
        raise PoolError("invalid", "a pool is trimmed by runs of 2 MiB")
    if not pool.p.can_discard or pool.p.read_only:
        raise PoolError("invalid", "the pool's medium takes no space back")
    a = admin_new(pool, A_TRIM)
    a.a = cursor // RUN_BYTES
    a.n = min(limit, 1 << 30)
    return submit(pool, a, ("trim", None, None))
