"""The table of objects in memory: by id, and which of them the next checkpoint must write.

Lives here and nowhere else: `ohash` and the list of dirty objects.
"""
from core.base.layout cimport L_BLOCK_BYTES, L_MAX_LEVEL, L_SLOTS_PER_PAGE, OB_RESERVE_BYTES
from core.base.memory cimport mem_widen, mem_zeroed
from core.base.native cimport lnt_get_le64
from libc.stdlib cimport free
from libc.string cimport memset

cdef lnt_object *object_find(lnt_pool *p, uint64_t id) noexcept nogil:
    cdef lnt_object *o = p.ohash[id & p.omask]
    while o != NULL and o.pub.id != id:
        o = o.hnext
    return o


cdef void object_link(lnt_pool *p, lnt_object *o) noexcept nogil:
    cdef uint64_t i, size
    cdef lnt_object *it
    cdef lnt_object *nxt
    cdef lnt_object **wider
    if p.n_objects > 2 * p.omask:
        size = (p.omask + 1) * 4
        wider = <lnt_object **>mem_zeroed(size * sizeof(lnt_object *))
        for i in range(p.omask + 1 if wider != NULL else 0):
            it = p.ohash[i]
            while it != NULL:
                nxt = it.hnext
                it.hnext = wider[it.pub.id & (size - 1)]
                wider[it.pub.id & (size - 1)] = it
                it = nxt
        if wider != NULL:             # else the lists stay as long as they are
            free(p.ohash)
            p.ohash = wider
            p.omask = size - 1
    o.hnext = p.ohash[o.pub.id & p.omask]
    p.ohash[o.pub.id & p.omask] = o
    p.n_objects += 1


cdef void object_unlink(lnt_pool *p, lnt_object *o) noexcept nogil:
    cdef lnt_object **at = &p.ohash[o.pub.id & p.omask]
    while at[0] != o:
        at = &at[0].hnext
    at[0] = o.hnext
    p.n_objects -= 1


cdef void object_dirty(lnt_pool *p, lnt_object *o) noexcept nogil:
    """The object's slot must be written at the next checkpoint; what its reservation still holds back follows its map."""
    cdef uint64_t want = lnt_get_le64(o.desc + OB_RESERVE_BYTES) // L_BLOCK_BYTES
    if want | o.reserved_now:
        want = want - o.mapped_blocks if want > o.mapped_blocks and not o.pub.gone else 0
        want += (want >> 9) + L_MAX_LEVEL if want else 0      # with the nodes that map it
        p.reserved_unused += want - o.reserved_now
        o.reserved_now = want
    if not o.dirty and o != &p.cat:   # the catalog's own root is in the superblock
        o.dirty = 1
        o.dnext = p.odirty
        p.odirty = o
        if p.odirty_marks[o.slot // L_SLOTS_PER_PAGE] != p.odirty_round:
            p.odirty_marks[o.slot // L_SLOTS_PER_PAGE] = p.odirty_round
            p.odirty_pages += 1


cdef lnt_object *dirty_take(lnt_pool *p) noexcept nogil:
    """Those that have changed since the last checkpoint, linked by `dnext`: this one writes them."""
    cdef lnt_object *first = p.odirty
    p.odirty = NULL
    p.odirty_pages = 0
    p.odirty_round += 1
    return first


cdef int dirty_room(lnt_pool *p, uint32_t slots) noexcept nogil:
    """1 when there is memory to note which pages of a catalog of so many slots have changed."""
    if not mem_widen(<void **>&p.odirty_marks, slots * sizeof(uint32_t)):
        return 0
    memset(p.odirty_marks, 0, slots * sizeof(uint32_t))         # a page counted twice does no harm
    if p.odirty_round == 0:
        p.odirty_round = 1
    return 1
