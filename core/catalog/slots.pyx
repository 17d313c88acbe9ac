"""Slots of the catalog: where they are, who has them, and an object's bytes in one (docs/on-disk-format.md).

Lives here and nowhere else: `slot_kind`, and the pages of the catalog's tree.
"""
from core._blkmap cimport path_own
from core.base.entries cimport E_NODE, E_REF, node_index
from core.base.layout cimport (
    L_SLOTS_PER_PAGE, L_SLOT_BYTES, OB_FLAGS, OB_LEVEL, OB_MAPPED_BLOCKS, OB_ROOT, OB_SIZE_BYTES, PK_CATALOG, SK_FREE,
)
from core.base.memory cimport mem_widen
from core.base.native cimport lnt_put_le64
from core.base.types cimport ST_NO_SPACE
from core.nodes cimport node_new
from core.objects cimport dirty_room
from core.pages.cache cimport cache_get, cache_pin, page_dirty
from core.space.allocation cimport space_for_nodes
from libc.string cimport memcpy, memset

cdef lnt_page *slot_page(lnt_pool *p, lnt_waiter *who, uint32_t slot, int *rc) noexcept nogil:
    """The catalog page of a slot, owned and about to change; made when it is not there."""
    cdef uint64_t page = slot // L_SLOTS_PER_PAGE
    cdef lnt_page *leaf
    cdef lnt_page *up
    cdef lnt_page *f
    cdef uint64_t e
    rc[0] = path_own(p, who, &p.catalog, page, 0, &leaf, &up)
    if rc[0]:
        return NULL
    cache_pin(p, leaf)
    if up != NULL:
        cache_pin(p, up)
    e = (<uint64_t *>leaf.data)[node_index(page, 0)]
    if e == 0:
        if space_for_nodes(p) <= p.reserve_blocks // 2 and not p.replaying:
            rc[0] = ST_NO_SPACE       # the rest of the reserve is for UNMAP and for keys and objects that exist
            return NULL
        f = node_new(p, PK_CATALOG, 0, rc)
        if f == NULL:
            return NULL
        page_dirty(p, leaf)
        leaf.refers_to_homeless = 1
        cache_pin(p, f)
        (<uint64_t *>leaf.data)[node_index(page, 0)] = f.id | E_NODE()
        return f
    f = cache_get(p, who, e & E_REF(), PK_CATALOG, 0, rc)
    if f != NULL:
        page_dirty(p, f)
    return f


cdef int slot_write(lnt_pool *p, lnt_waiter *who, uint32_t slot, const uint8_t *bytes) noexcept nogil:
    """Write (NULL: clear) one catalog slot. 0, WAIT or a status."""
    cdef int rc = 0
    cdef lnt_page *f = slot_page(p, who, slot, &rc)
    if f == NULL:
        return rc
    if bytes != NULL:
        memcpy(f.data + slot % L_SLOTS_PER_PAGE * L_SLOT_BYTES, bytes, L_SLOT_BYTES)
    else:
        memset(f.data + slot % L_SLOTS_PER_PAGE * L_SLOT_BYTES, 0, L_SLOT_BYTES)
    return 0


cdef void object_store(lnt_pool *p, lnt_object *o, uint8_t *slot) noexcept nogil:
    """Bring the object's slot bytes up to date and copy them out."""
    o.slot_image[OB_LEVEL] = o.level
    o.slot_image[OB_FLAGS] = o.flags
    lnt_put_le64(o.slot_image + OB_ROOT, o.root)
    lnt_put_le64(o.slot_image + OB_SIZE_BYTES, o.pub.size_bytes)
    lnt_put_le64(o.slot_image + OB_MAPPED_BLOCKS, o.mapped_blocks)
    memcpy(slot, o.slot_image, L_SLOT_BYTES)


cdef int slots_room(lnt_pool *p, uint32_t slots) noexcept nogil:
    """1 when there is memory for a catalog of so many slots."""
    if not (mem_widen(<void **>&p.slot_kind, slots) and dirty_room(p, slots)):
        return 0
    p.slot_capacity = slots
    return 1


cdef void slot_keep(lnt_pool *p, uint32_t slot, uint8_t kind) noexcept nogil:
    """The catalog that was read has something in this slot."""
    p.slot_kind[slot] = kind


cdef uint32_t slot_alloc(lnt_pool *p, uint8_t kind) noexcept nogil:
    """A free slot of the catalog; the catalog grows when there is none. NO_SLOT: there is no memory for that."""
    cdef uint32_t s = p.slot_hint
    while s < p.catalog_slots and p.slot_kind[s] != SK_FREE:
        s += 1
    if s == p.slot_capacity and not slots_room(p, p.slot_capacity * 2):
        return NO_SLOT
    if s == p.catalog_slots:
        p.catalog_slots += 1
    p.slot_kind[s] = kind
    p.slot_hint = s + 1
    return s


cdef void slot_free(lnt_pool *p, uint32_t slot) noexcept nogil:
    p.slot_kind[slot] = SK_FREE
    if slot < p.slot_hint:
        p.slot_hint = slot


cdef uint64_t object_number(lnt_pool *p) noexcept nogil:
    """The id of a new object: none is ever used twice."""
    p.next_id += 1
    return p.next_id - 1


cdef void object_known(lnt_pool *p, uint64_t id) noexcept nogil:
    """An object has this id: no new one gets it."""
    if id >= p.next_id:
        p.next_id = id + 1
