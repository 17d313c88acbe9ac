"""The table of objects in memory: by id, and which of them the next checkpoint must write.

Lives here and nowhere else: `objects_by_id` and the list of dirty objects.
"""
from core.base.check cimport lnt_assert
from core.base.layout cimport L_BLOCK_BYTES, L_MAX_LEVEL, L_NODE_ENTRIES, L_SLOTS_PER_PAGE, OB_RESERVE_BYTES
from core.base.memory cimport mem_widen, mem_zeroed
from core.base.native cimport lnt_get_le64
from libc.stdlib cimport free
from libc.string cimport memset

cdef enum:
    LISTS = 1024                  # of a pool with few objects


cdef int objects_init(lnt_pool *p) noexcept nogil:
    """1 when there is memory for the table."""
    p.objects_by_id = <lnt_object **>mem_zeroed(LISTS * sizeof(lnt_object *))
    p.objects_mask = LISTS - 1
    return p.objects_by_id != NULL


cdef lnt_object *object_find(lnt_pool *p, uint64_t id) noexcept nogil:
    cdef lnt_object *o = p.objects_by_id[id & p.objects_mask]
    while o != NULL and o.pub.id != id:
        o = o.hash_next
    return o


cdef void object_link(lnt_pool *p, lnt_object *o) noexcept nogil:
    cdef uint64_t i, size
    cdef lnt_object *it
    cdef lnt_object *nxt
    cdef lnt_object **wider
    if p.n_objects > 2 * p.objects_mask:
        size = (p.objects_mask + 1) * 4
        wider = <lnt_object **>mem_zeroed(size * sizeof(lnt_object *))
        for i in range(p.objects_mask + 1 if wider != NULL else 0):
            it = p.objects_by_id[i]
            while it != NULL:
                nxt = it.hash_next
                it.hash_next = wider[it.pub.id & (size - 1)]
                wider[it.pub.id & (size - 1)] = it
                it = nxt
        if wider != NULL:             # else the lists stay as long as they are
            free(p.objects_by_id)
            p.objects_by_id = wider
            p.objects_mask = size - 1
    o.hash_next = p.objects_by_id[o.pub.id & p.objects_mask]
    p.objects_by_id[o.pub.id & p.objects_mask] = o
    p.n_objects += 1


cdef void object_unlink(lnt_pool *p, lnt_object *o) noexcept nogil:
    cdef lnt_object **at = &p.objects_by_id[o.pub.id & p.objects_mask]
    while at[0] != o:
        at = &at[0].hash_next
    at[0] = o.hash_next
    p.n_objects -= 1


cdef void object_dirty(lnt_pool *p, lnt_object *o) noexcept nogil:
    """The object's slot must be written at the next checkpoint; what its reservation still holds back follows its map."""
    cdef uint64_t want = lnt_get_le64(o.slot_image + OB_RESERVE_BYTES) // L_BLOCK_BYTES
    if want | o.reserved_now:
        want = want - o.mapped_blocks if want > o.mapped_blocks and not o.pub.gone else 0
        want += want // L_NODE_ENTRIES + L_MAX_LEVEL if want else 0      # with the nodes that map it
        p.reserved_unused += want - o.reserved_now
        o.reserved_now = want
    if not o.dirty and o != &p.catalog:   # the catalog's own root is in the superblock
        o.dirty = 1
        o.dirty_next = p.dirty_objects
        p.dirty_objects = o
        if p.catalog_page_rounds[o.slot // L_SLOTS_PER_PAGE] != p.catalog_round:
            p.catalog_page_rounds[o.slot // L_SLOTS_PER_PAGE] = p.catalog_round
            p.dirty_catalog_pages += 1


cdef void object_release(lnt_pool *p, lnt_object *o) noexcept nogil:
    """A handle is given up. What is gone and has no other is freed, a dirty one by the next checkpoint."""
    lnt_assert(o.pub.handles != 0, "I17: what has a handle is in memory until the handle is given up, once")
    o.pub.handles -= 1
    if o.pub.gone and o.pub.handles == 0 and not o.dirty:
        free(o)


cdef lnt_object *dirty_take(lnt_pool *p) noexcept nogil:
    """Those that have changed since the last checkpoint, linked by `dirty_next`: this one writes them."""
    cdef lnt_object *first = p.dirty_objects
    p.dirty_objects = NULL
    p.dirty_catalog_pages = 0
    p.catalog_round += 1
    return first


cdef int dirty_room(lnt_pool *p, uint32_t slots) noexcept nogil:
    """1 when there is memory to note which pages of a catalog of so many slots have changed."""
    if not mem_widen(<void **>&p.catalog_page_rounds, slots * sizeof(uint32_t)):
        return 0
    memset(p.catalog_page_rounds, 0, slots * sizeof(uint32_t))         # a page counted twice does no harm
    if p.catalog_round == 0:
        p.catalog_round = 1
    return 1
