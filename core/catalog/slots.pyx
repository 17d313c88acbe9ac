"""Slots of the catalog: where they are, who has them, and an object's bytes in one (docs/on-disk-format.md).

Lives here and nowhere else: `slot_kind`, and the pages of the catalog's tree.
"""
from core._blkmap cimport node_new, path_own
from core.base.entries cimport E_NODE, E_REF
from core.base.layout cimport (
    L_SLOTS_PER_PAGE, L_SLOT_BYTES, OB_FLAGS, OB_LEVEL, OB_MAPPED_BLOCKS, OB_ROOT, OB_SIZE_BYTES, PK_CATALOG, SK_FREE,
)
from core.base.memory cimport mem_widen
from core.base.native cimport lnt_put_le64
from core.base.types cimport ST_NO_SPACE
from core.pages.cache cimport cache_get, cache_pin, frame_dirty
from core.space.allocation cimport space_for_nodes
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

cdef lnt_frame *slot_page(lnt_pool *p, lnt_waiter *who, uint32_t slot, int *rc) noexcept nogil:
    """The catalog page of a slot, owned and about to change; made when it is not there."""
    cdef uint64_t page = slot // L_SLOTS_PER_PAGE
    cdef lnt_frame *leaf
    cdef lnt_frame *up
    cdef lnt_frame *f
    cdef uint64_t e
    rc[0] = path_own(p, who, &p.cat, page, 0, &leaf, &up)
    if rc[0]:
        return NULL
    cache_pin(p, leaf)
    if up != NULL:
        cache_pin(p, up)
    e = (<uint64_t *>leaf.data)[page & 511]
    if e == 0:
        if space_for_nodes(p) <= p.reserve_blocks // 2 and not p.replaying:
            rc[0] = ST_NO_SPACE       # the rest of the reserve is for UNMAP and for keys and objects that exist
            return NULL
        f = node_new(p, PK_CATALOG, 0, rc)
        if f == NULL:
            return NULL
        frame_dirty(p, leaf)
        leaf.vids = 1
        cache_pin(p, f)
        (<uint64_t *>leaf.data)[page & 511] = f.id | E_NODE()
        return f
    f = cache_get(p, who, e & E_REF(), PK_CATALOG, 0, rc)
    if f != NULL:
        frame_dirty(p, f)
    return f


cdef int slot_write(lnt_pool *p, lnt_waiter *who, uint32_t slot, const uint8_t *bytes) noexcept nogil:
    """Write (NULL: clear) one catalog slot. 0, WAIT or a status."""
    cdef int rc = 0
    cdef lnt_frame *f = slot_page(p, who, slot, &rc)
    if f == NULL:
        return rc
    if bytes != NULL:
        memcpy(f.data + slot % L_SLOTS_PER_PAGE * L_SLOT_BYTES, bytes, L_SLOT_BYTES)
    else:
        memset(f.data + slot % L_SLOTS_PER_PAGE * L_SLOT_BYTES, 0, L_SLOT_BYTES)
    return 0


cdef void object_store(lnt_pool *p, lnt_object *o, uint8_t *slot) noexcept nogil:
    """Bring the object's slot bytes up to date and copy them out."""
    o.desc[OB_LEVEL] = o.level
    o.desc[OB_FLAGS] = o.flags
    lnt_put_le64(o.desc + OB_ROOT, o.root)
    lnt_put_le64(o.desc + OB_SIZE_BYTES, o.pub.size_bytes)
    lnt_put_le64(o.desc + OB_MAPPED_BLOCKS, o.mapped_blocks)
    memcpy(slot, o.desc, L_SLOT_BYTES)


cdef uint32_t slot_alloc(lnt_pool *p, uint8_t kind) noexcept nogil:
    """A free slot of the catalog; the catalog grows when there is none. NO_SLOT: there is no memory for that."""
    cdef uint32_t s = p.slot_hint
    while s < p.cat_slots and p.slot_kind[s] != SK_FREE:
        s += 1
    if s == p.slot_cap:
        if not (mem_widen(<void **>&p.slot_kind, p.slot_cap * 2)
                and mem_widen(<void **>&p.odirty_marks, p.slot_cap * 2 * sizeof(uint32_t))):
            return NO_SLOT
        p.slot_cap *= 2
        memset(p.odirty_marks, 0, p.slot_cap * sizeof(uint32_t))    # a page counted twice does no harm
    if s == p.cat_slots:
        p.cat_slots += 1
    p.slot_kind[s] = kind
    p.slot_hint = s + 1
    return s


cdef void slot_free(lnt_pool *p, uint32_t slot) noexcept nogil:
    p.slot_kind[slot] = SK_FREE
    if slot < p.slot_hint:
        p.slot_hint = slot
