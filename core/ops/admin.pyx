"""Operations on objects and the catalog, atomic by one journal frame each (docs/durability.md, "Admin operations").

Changes of the catalog are applied one after the other (a FIFO), so that memory, journal and replay agree on their order;
each then waits on its own for durability. Everything an operation may have to wait for is touched before its first change.
"""
from core._blkmap cimport LEAF_LOOKS, TURN_LOOKS, map_level, map_raise, map_share, map_unmap
from core.base.checkpoint_wait cimport checkpoint_wait_next, checkpoint_wait_room
from core.base.entries cimport WAIT, entry_span
from core.base.layout cimport (
    KV_SLOT_KIND, L_BLOCK_BYTES, L_NAME_BYTES, L_PROPS_BYTES, L_RUN_BLOCKS, L_SLOT_BYTES, L_SUMMARY_RUNS, OB_NAME, OB_NAME_BYTES,
    OB_ORIGIN, OB_ORIGIN_BYTES, OB_PHYSICAL_EXPONENT, OB_PROPS, OB_PROPS_BYTES, OB_QUOTA_BYTES, OB_RESERVE_BYTES, OF_TAIL,
    RB_DELETE, RB_DERIVE, RB_REVERT, RB_SHARE, RB_UNMAP, SK_FREE,
)
from core.base.mutations cimport (
    M_ADMIN_SOFT, M_BLIND_PUBLISH, M_EARLY_REVERT, M_EARLY_SHARE, M_HASTY_COPY, M_NO_SETTLE, M_SPLIT_PUBLISH,
)
from core.base.native cimport lnt_get_le64
from core.base.object cimport lnt_object
from core.base.operation cimport (
    ADMIN_CHECKPOINT, ADMIN_CREATE, ADMIN_DELETE, ADMIN_DERIVE, ADMIN_DIFF, ADMIN_EXCLUSIVE, ADMIN_EXTENTS, ADMIN_GROW,
    ADMIN_KINDS, ADMIN_KV, ADMIN_PUBLISH, ADMIN_RESIZE, ADMIN_REVERT, ADMIN_SCRUB, ADMIN_SERIAL, ADMIN_SET, ADMIN_SHARE,
    ADMIN_TRIM, SET_NAME, SET_PHYSICAL, SET_PROPS, SET_QUOTA, SET_RESERVE, lnt_growth, lnt_key_change, lnt_publication,
    lnt_resize, lnt_sharing, lnt_waiter, waiter_of,
)
from core.base.pool cimport lnt_op_state
from core.base.schedule cimport op_again, op_finish, op_ready
from core.base.types cimport (
    ST_GONE, ST_INVALID, ST_IO_WRITE, ST_MEMORY, ST_NO_SPACE, ST_OK, ST_PROTECTED, ST_RANGE, ST_READ_ONLY, lnt_op,
)
from core.catalog.changes cimport delete_apply, derive_apply, revert_apply
from core.catalog.slots cimport slot_free, slot_page, slot_write
from core.log.growth cimport pool_resize
from core.log.journal cimport frame_close, journal_fit, journal_reserve, next_sync, records_put, wait_hard, wait_soft
from core.log.records cimport (
    record_delete, record_derive, record_grow, record_object, record_resize, record_revert, record_share, record_unmap,
)
from core.objects cimport object_dirty, object_find, object_link
from core.ops.epochs cimport memory_ready, wait_grace, wait_room
from core.ops.ranges cimport places_leave, places_wait
from core.ops.scrub cimport scrub_run
from core.ops.trim cimport trim_run
from core.ops.walk cimport walk_diff, walk_exclusive, walk_extents
from core.space.allocation cimport available_blocks
from core.space.counts cimport node_room, node_touch
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy

cdef enum:
    STEPS = 64                # leaves shared in one turn


cdef inline lnt_op_state *op_state(lnt_admin *a) noexcept nogil:
    return <lnt_op_state *>a.op.priv


# -- operations --------------------------------------------------------------------------------------------------------


cdef int slots_make(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """The catalog pages of the new objects, while the operation may still be refused for want of space."""
    cdef uint32_t i
    cdef int rc = 0
    for i in range(a.n_made):
        if slot_page(p, who, a.made[i].slot, &rc) == NULL:
            return rc
    return 0


cdef void slots_give_back(lnt_pool *p, lnt_admin *a) noexcept nogil:
    """The operation failed: its new objects never were."""
    cdef uint32_t i
    if a.kind == ADMIN_CREATE or a.kind == ADMIN_DERIVE or a.kind == ADMIN_REVERT or a.kind == ADMIN_PUBLISH:
        for i in range(a.n_made):
            if object_find(p, a.made[i].pub.id) != a.made[i]:
                slot_free(p, a.made[i].slot)
                free(a.made[i])


cdef bint promise_fits(lnt_pool *p, lnt_object *o, uint64_t before_bytes, uint64_t reserve_bytes) noexcept nogil:
    # Asked again when its turn has come: another may have been promised the same space since Python looked.
    cdef uint64_t had = before_bytes // L_BLOCK_BYTES
    cdef uint64_t want = reserve_bytes // L_BLOCK_BYTES
    had = had - o.mapped_blocks if had > o.mapped_blocks else 0
    want = want - o.mapped_blocks if want > o.mapped_blocks else 0
    return want <= had or want - had + p.reserved_unused <= available_blocks(p)


cdef int create_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef int rc
    if not promise_fits(p, a.obj, 0, lnt_get_le64(a.obj.slot_image + OB_RESERVE_BYTES)):
        return ST_NO_SPACE
    rc = slots_make(p, who, a)
    if rc:
        return rc
    a.obj.level = <uint8_t>map_level(a.obj.pub.size_bytes // L_BLOCK_BYTES)
    object_link(p, a.obj)
    object_dirty(p, a.obj)
    record_object(p, a.obj)
    return 0


cdef int keys_touch(lnt_pool *p, lnt_waiter *who, lnt_key_change *k) noexcept nogil:
    """The catalog pages of the slots that a change of keys writes. 0, WAIT or a status."""
    cdef uint32_t i
    cdef int rc = 0
    for i in range(k.count):
        if slot_page(p, who, k.slots[i], &rc) == NULL:
            return rc
    return 0


cdef void keys_apply(lnt_pool *p, lnt_waiter *who, lnt_key_change *k) noexcept nogil:
    """Write the slots, whose pages were touched, and the records, for which there is room in the frame."""
    cdef uint8_t *image = k.images
    cdef uint32_t i
    for i in range(k.count):
        slot_write(p, who, k.slots[i], image)
        if image[KV_SLOT_KIND] == SK_FREE:
            slot_free(p, k.slots[i])
        image += L_SLOT_BYTES
    if k.records_bytes:
        records_put(p, k.records, k.records_bytes, k.records_count)


cdef int kv_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef int rc = keys_touch(p, who, &a.keys)
    if rc:
        return rc
    if a.keys.records_bytes:
        journal_reserve(p, a.keys.records_bytes)
    keys_apply(p, who, &a.keys)
    return 0


cdef int derive_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef uint32_t i
    cdef int rc
    for i in range(a.n_made):
        if a.sources[i].pub.gone:
            return ST_GONE
        rc = node_touch(p, who, a.sources[i].root) if a.sources[i].root else 0
        if rc == 0 and a.sources[i].root:
            rc = node_room(p, a.sources[i].root, a.n_made)      # they may all be of one source
        if rc:
            return rc
    rc = slots_make(p, who, a)
    if rc == 0:
        rc = keys_touch(p, who, &a.keys)
    if rc:
        return rc
    journal_reserve(p, a.n_made * RB_DERIVE + a.keys.records_bytes)
    for i in range(a.n_made):
        rc = derive_apply(p, a.sources[i], a.made[i])
        if rc:
            return rc
        record_derive(p, a.sources[i].pub.id, a.made[i])
    keys_apply(p, who, &a.keys)
    op_state(a).target_epoch = p.epoch + 2 if not p.mutations & M_NO_SETTLE else 0
    return 0


cdef int delete_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef int rc
    if a.obj.pub.gone:
        return ST_GONE
    rc = slot_write(p, who, a.obj.slot, NULL)
    if rc:
        return rc
    journal_fit(p, RB_DELETE)
    delete_apply(p, a.obj)
    record_delete(p, a.obj.pub.id)
    return 0


cdef int revert_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef int rc = 0
    cdef lnt_object *vol = a.obj
    cdef lnt_object *snap = a.other
    if vol.pub.gone or snap.pub.gone:
        return ST_GONE
    if snap.root:
        rc = node_touch(p, who, snap.root)
    if rc == 0 and snap.root:
        rc = node_room(p, snap.root, 2)
    if rc == 0 and a.n_made and vol.root:
        rc = node_touch(p, who, vol.root)
        if rc == 0:
            rc = node_room(p, vol.root, 2)
    if rc == 0:
        rc = slots_make(p, who, a)
    if rc == 0:
        rc = keys_touch(p, who, &a.keys)
    if rc:
        return rc
    journal_reserve(p, RB_DERIVE + RB_REVERT + a.keys.records_bytes)
    if a.n_made:
        rc = derive_apply(p, vol, a.made[0])
        if rc:
            return rc
        record_derive(p, vol.pub.id, a.made[0])
    rc = revert_apply(p, vol, snap)
    if rc:
        return rc
    record_revert(p, vol.pub.id, snap.pub.id)
    keys_apply(p, who, &a.keys)
    op_state(a).target_epoch = p.epoch + 2 if not p.mutations & M_EARLY_REVERT else 0
    return 0


cdef int publication_touch(lnt_pool *p, lnt_waiter *who, lnt_publication *x) noexcept nogil:
    """What one volume's part may have to wait for, or be refused for."""
    cdef int rc = 0
    if x.staged.pub.gone or x.volume != NULL and x.volume.pub.gone:
        return ST_GONE
    if x.staged.root:
        rc = node_touch(p, who, x.staged.root)
        if rc == 0:
            rc = node_room(p, x.staged.root, 2)
    if rc == 0 and slot_page(p, who, x.staged.slot, &rc) == NULL:
        return rc
    return rc


cdef int publication_apply(lnt_pool *p, lnt_waiter *who, lnt_publication *x) noexcept nogil:
    """The staged object becomes a snapshot of the volume; the volume becomes what that is, unless somebody wrote to it since."""
    cdef uint64_t staged_id = x.staged.pub.id
    cdef int rc = 0
    if x.volume == NULL:
        rc = derive_apply(p, x.staged, x.made_volume)
        if rc:
            return rc
        record_derive(p, staged_id, x.made_volume)
    rc = derive_apply(p, x.staged, x.snapshot)
    if rc:
        return rc
    record_derive(p, staged_id, x.snapshot)
    if p.mutations & M_SPLIT_PUBLISH:
        frame_close(p, 1)
        journal_reserve(p, RB_REVERT + RB_DELETE)
    x.follows = x.volume == NULL or (x.base != NULL and not x.base.pub.gone and (
        x.volume.root == x.base.root and x.volume.pub.size_bytes == x.base.pub.size_bytes or p.mutations & M_BLIND_PUBLISH != 0))
    if x.volume != NULL and x.follows:
        rc = revert_apply(p, x.volume, x.snapshot)
        if rc:
            return rc
        record_revert(p, x.volume.pub.id, x.snapshot.pub.id)
    slot_write(p, who, x.staged.slot, NULL)
    delete_apply(p, x.staged)
    record_delete(p, staged_id)
    return 0


cdef int publish_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """Several volumes at one instant, with the keys that say so."""
    cdef uint32_t i
    cdef int rc = 0
    for i in range(a.n_publications):
        rc = publication_touch(p, who, &a.publications[i])
        if rc:
            return rc
    rc = slots_make(p, who, a)
    if rc == 0:
        rc = keys_touch(p, who, &a.keys)
    if rc:
        return rc
    journal_reserve(p, a.n_made * RB_DERIVE + a.n_publications * (RB_REVERT + RB_DELETE) + a.keys.records_bytes)
    for i in range(a.n_publications):
        rc = publication_apply(p, who, &a.publications[i])
        if rc:
            return rc
    keys_apply(p, who, &a.keys)
    op_state(a).target_epoch = p.epoch + 2 if not p.mutations & (M_NO_SETTLE | M_EARLY_REVERT) else 0
    return 0


cdef int clear_behind(lnt_pool *p, lnt_waiter *who, lnt_admin *a, uint64_t lba) noexcept nogil:
    """Unmap whatever lies behind a volume's end, in steps. 0 when nothing is left there."""
    cdef lnt_resize *r = &a.resize
    cdef uint64_t end = entry_span(a.obj.level + 1)
    cdef uint64_t next_lba = 0
    cdef uint32_t removed
    cdef int rc, looks = 0
    if r.cursor_block < lba:
        r.cursor_block = lba
    while r.cursor_block < end:
        journal_fit(p, RB_UNMAP)
        rc = map_unmap(p, who, a.obj, r.cursor_block, end, &next_lba, &removed)
        if rc:
            return rc
        if removed:
            record_unmap(p, a.obj.pub.id, r.cursor_block, next_lba - r.cursor_block)
        looks += LEAF_LOOKS if removed else 1
        r.cursor_block = next_lba
        if looks >= TURN_LOOKS:
            return op_again(p, &a.op)
    return 0


cdef int resize_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """Grow: clear what a shrink may have left behind the old end, then move the end. Shrink: move the end, then clear.

    To the size that it has: clear what a shrink that a crash interrupted left (OF_TAIL, in the slot since the end moved).
    """
    cdef lnt_resize *r = &a.resize
    cdef int rc
    cdef uint64_t was = a.obj.pub.size_bytes
    if a.obj.pub.gone:
        return ST_GONE
    if r.size_bytes > was and r.moved == 0:
        rc = clear_behind(p, who, a, was // L_BLOCK_BYTES)
        if rc == 0:
            rc = map_raise(p, a.obj, map_level(r.size_bytes // L_BLOCK_BYTES))
        if rc:
            return rc
    if r.moved == 0:
        r.moved = 1
        r.cursor_block = 0
        if r.size_bytes < was:
            a.obj.flags |= OF_TAIL
        elif r.size_bytes > was:
            a.obj.flags &= ~OF_TAIL
        r.clears = a.obj.flags & OF_TAIL
        a.obj.pub.size_bytes = r.size_bytes
        object_dirty(p, a.obj)
        record_resize(p, a.obj.pub.id, r.size_bytes)
    rc = clear_behind(p, who, a, r.size_bytes // L_BLOCK_BYTES) if r.clears else 0
    if r.clears and rc == 0:
        a.obj.flags &= ~OF_TAIL
        object_dirty(p, a.obj)
    return rc


cdef inline void slot_copy(lnt_admin *a, int offset, int size) noexcept nogil:
    memcpy(a.obj.slot_image + offset, a.change.slot + offset, size)


cdef int set_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef uint32_t fields = a.change.fields
    if a.obj.pub.gone:
        return ST_GONE
    if fields & SET_RESERVE and not promise_fits(p, a.obj, lnt_get_le64(a.obj.slot_image + OB_RESERVE_BYTES),
                                                 lnt_get_le64(a.change.slot + OB_RESERVE_BYTES)):
        return ST_NO_SPACE
    if fields & SET_NAME:
        slot_copy(a, OB_NAME_BYTES, 1)
        slot_copy(a, OB_NAME, L_NAME_BYTES)
        slot_copy(a, OB_ORIGIN_BYTES, 1)
        slot_copy(a, OB_ORIGIN, L_NAME_BYTES)     # where a long name goes on
    if fields & SET_PROPS:
        slot_copy(a, OB_PROPS_BYTES, 1)
        slot_copy(a, OB_PROPS, L_PROPS_BYTES)
    if fields & SET_QUOTA:
        slot_copy(a, OB_QUOTA_BYTES, 8)
    if fields & SET_RESERVE:
        slot_copy(a, OB_RESERVE_BYTES, 8)
    if fields & SET_PHYSICAL:
        slot_copy(a, OB_PHYSICAL_EXPONENT, 1)
    object_dirty(p, a.obj)
    record_object(p, a.obj)
    return 0


cdef int summaries_dirty(lnt_pool *p) noexcept nogil:
    """1 when more summary pages wait for a checkpoint than one step of growth makes."""
    cdef uint64_t i, n = 0, pages = (p.n_runs + L_SUMMARY_RUNS - 1) // L_SUMMARY_RUNS
    for i in range(pages):
        n += p.summary_dirty[i]
    return n >= p.checkpoint.area_blocks // 64


cdef int grow_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """In steps, each with as many new summary pages as a checkpoint surely has room for, and checkpoints between them."""
    cdef lnt_growth *g = &a.growth
    cdef uint32_t most = p.checkpoint.area_blocks // 64
    cdef uint64_t total, step = <uint64_t>most * L_SUMMARY_RUNS * L_RUN_BLOCKS
    if g.total_blocks < p.total_blocks:
        return ST_INVALID
    while p.total_blocks < g.total_blocks:
        if g.more and summaries_dirty(p):
            checkpoint_wait_room(p, &a.op)
            return WAIT
        total = g.total_blocks if g.total_blocks - p.total_blocks < step else p.total_blocks + step
        g.more = total < g.total_blocks
        if pool_resize(p, total):
            return ST_MEMORY
        record_grow(p, total)
    return 0


cdef int share_run(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    cdef lnt_sharing *s = &a.sharing
    cdef uint64_t done = 0
    cdef int rc, steps = 0
    if a.obj.pub.gone or a.other.pub.gone:
        return ST_GONE
    if a.obj.pub.read_only:
        return ST_PROTECTED
    if p.failed:
        return ST_READ_ONLY
    if ((s.block + s.left_blocks) * L_BLOCK_BYTES > a.obj.pub.size_bytes
            or (s.source_block + s.left_blocks) * L_BLOCK_BYTES > a.other.pub.size_bytes):
        return ST_RANGE           # one of them was shrunk or reverted meanwhile
    while s.left_blocks:
        if not memory_ready(p):
            return ST_MEMORY
        journal_fit(p, RB_SHARE)
        rc = map_share(p, who, a.obj, s.block, a.other, s.source_block, s.left_blocks, &done)
        if rc:
            return rc
        a.other.settle_epoch = a.obj.settle_epoch = p.epoch + 2 if not p.mutations & M_NO_SETTLE else 0
        record_share(p, a.obj.pub.id, s.block, a.other.pub.id, s.source_block, done)
        s.block += done
        s.source_block += done
        s.left_blocks -= done
        steps += 1
        if steps >= STEPS and s.left_blocks:
            return op_again(p, &a.op)
    op_state(a).target_epoch = p.epoch + 2
    return 0


# What runs an operation, by kind. 0: done or applied; WAIT: it runs again; else the status that it fails with.
cdef int (*RUN[ADMIN_KINDS])(lnt_pool *, lnt_waiter *, lnt_admin *) noexcept nogil
RUN[<int>ADMIN_CREATE] = create_run
RUN[<int>ADMIN_DERIVE] = derive_run
RUN[<int>ADMIN_DELETE] = delete_run
RUN[<int>ADMIN_REVERT] = revert_run
RUN[<int>ADMIN_RESIZE] = resize_run
RUN[<int>ADMIN_SET] = set_run
RUN[<int>ADMIN_KV] = kv_run
RUN[<int>ADMIN_GROW] = grow_run
RUN[<int>ADMIN_PUBLISH] = publish_run
RUN[<int>ADMIN_SHARE] = share_run
RUN[<int>ADMIN_EXTENTS] = walk_extents
RUN[<int>ADMIN_DIFF] = walk_diff
RUN[<int>ADMIN_EXCLUSIVE] = walk_exclusive
RUN[<int>ADMIN_SCRUB] = scrub_run
RUN[<int>ADMIN_TRIM] = trim_run


cdef void serial_next(lnt_pool *p) noexcept nogil:
    cdef lnt_op *op = p.admin_head
    if op == NULL:
        p.admin_runs = 0
        return
    p.admin_head = op.next
    if op.next == NULL:
        p.admin_tail = NULL
    p.admin_runs = 1
    op_ready(p, op)


cdef void admin_submit(lnt_pool *p, lnt_admin *a) noexcept nogil:
    op_state(a).pool = p
    if a.kind > ADMIN_SERIAL:
        op_ready(p, &a.op)
        return
    a.op.next = NULL
    if p.admin_tail != NULL:
        p.admin_tail.next = &a.op
    else:
        p.admin_head = &a.op
    p.admin_tail = &a.op
    if not p.admin_runs:
        serial_next(p)


cdef void admin_settle(lnt_pool *p, lnt_admin *a, uint8_t hard) noexcept nogil:
    """Applied: wait until no I/O planned before can still change what is now shared, then for durability."""
    cdef lnt_op_state *x = op_state(a)
    if p.epoch < x.target_epoch and not p.mutations & (M_EARLY_SHARE if hard else M_HASTY_COPY):
        wait_grace(p, &a.op, x.target_epoch)
    elif hard and not p.mutations & M_ADMIN_SOFT:
        x.need_sync = next_sync(p)
        wait_hard(p, &a.op)
    else:
        wait_soft(p, &a.op)


cdef void serial_run(lnt_pool *p, lnt_admin *a) noexcept nogil:
    cdef lnt_waiter who = waiter_of(&a.op)
    cdef int rc
    if a.applied:
        admin_settle(p, a, 1)
        return
    if p.failed or p.read_only:
        rc = ST_READ_ONLY
    else:
        if places_wait(p, a) or wait_room(p, &a.op):
            return
        rc = RUN[a.kind](p, &who, a) if memory_ready(p) else ST_MEMORY
        if rc == WAIT:
            return
    a.applied = 1
    places_leave(p, a)
    serial_next(p)
    if rc:
        slots_give_back(p, a)
        op_finish(p, &a.op, <uint8_t>rc)
        return
    op_state(a).need_seq = p.journal.record_seq
    admin_settle(p, a, 1)


cdef void admin_run(lnt_pool *p, lnt_admin *a) noexcept nogil:
    """Run an admin op from where it is."""
    cdef lnt_waiter who = waiter_of(&a.op)
    cdef int rc = 0
    if a.kind <= ADMIN_SERIAL:
        serial_run(p, a)
        return
    if a.kind == ADMIN_CHECKPOINT:
        if p.failed or a.applied:
            op_finish(p, &a.op, ST_IO_WRITE if p.failed else ST_OK)
            return
        a.applied = 1
        checkpoint_wait_next(p, &a.op)
        return
    if a.applied:
        admin_settle(p, a, 0)
        return
    if a.kind == ADMIN_SHARE and (places_wait(p, a) or wait_room(p, &a.op)):
        return
    rc = RUN[a.kind](p, &who, a)
    if rc == WAIT:
        return
    places_leave(p, a)
    if a.kind == ADMIN_SHARE and rc == 0:
        op_state(a).need_seq = p.journal.record_seq
        a.applied = 1
        admin_settle(p, a, 0)
        return
    op_finish(p, &a.op, <uint8_t>rc)
