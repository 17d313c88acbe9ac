"""Homes of nodes at a checkpoint: new ones get theirs, and references follow (docs/decisions/0002).

Also has blocks ready for the nodes that will leave their homes before the next one (core/space/homes).
"""
from core.base.entries cimport E_NODE, E_REF, VID, WAIT
from core.base.layout cimport L_NODE_ENTRIES
from core.base.object cimport lnt_object
from core.base.page cimport DIRTY_HOME, DIRTY_HOMELESS, DIRTY_HOUSED, lnt_dirty_array, lnt_page
from core.base.types cimport ST_MEMORY
from core.catalog.slots cimport slot_page
from core.pages.cache cimport cache_rekey, node_ahead, node_home, page_housed
from core.pages.dirty cimport dirty_next
from core.space.allocation cimport alloc_home
from core.space.counts cimport count_add
from core.space.dropped cimport drops_to_homes
from core.space.homes cimport home_add, homes_short
from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef enum:
    TURN_HOMES = 128              # homes chosen in one turn


cdef int choose_homes(lnt_pool *p, lnt_waiter *who, uint32_t *chosen) noexcept nogil:
    """A page in the catalog for each changed object, then a home for each new node: `chosen` so many. 0 when both are complete,
    and homes are at hand for the nodes that will leave theirs; MORE_HOMES, WAIT or a status.
    """
    cdef lnt_object *o = p.dirty_objects
    cdef lnt_dirty_array *homeless = &p.cache.dirty[DIRTY_HOMELESS]
    cdef uint64_t home = 0
    cdef int rc = 0
    chosen[0] = 0
    while o != NULL:
        if not o.pub.gone and slot_page(p, who, o.slot, &rc) == NULL:
            return rc
        o = o.dirty_next
    while homeless.count:
        if chosen[0] == TURN_HOMES:
            return MORE_HOMES
        chosen[0] += 1
        rc = alloc_home(p, who, &home)
        if rc:
            return rc             # homes found are kept
        page_housed(p, homeless.items[homeless.count - 1].f, home)
    return fill_homes(p, who, TURN_HOMES - chosen[0])


cdef int fill_homes(lnt_pool *p, lnt_waiter *who, uint32_t most) noexcept nogil:
    """Have more blocks at hand for nodes that leave their homes, at most so many. 0: there are enough, or no more can be had."""
    cdef uint64_t home = 0
    cdef int rc
    while homes_short(p):
        if most == 0:
            return MORE_HOMES
        most -= 1
        rc = alloc_home(p, who, &home)
        if rc:
            return rc if rc == WAIT or rc == ST_MEMORY else 0     # one can do without
        home_add(p, home)
    return 0


cdef void refer_to_homes(lnt_pool *p, lnt_page *f) noexcept nogil:
    """Neighbours share leaves: each node of entries in a row that are equal is looked up once, and asked for ahead of that."""
    cdef uint64_t *v = <uint64_t *>f.data
    cdef uint16_t[L_NODE_ENTRIES] places
    cdef uint64_t was = 0, home = 0
    cdef uint32_t i, k, n = 0
    f.refers_to_homeless = 0
    for i in range(L_NODE_ENTRIES):
        places[n] = <uint16_t>i
        n += (v[i] & E_NODE() != 0) & (v[i] & VID() != 0) & (v[i] != was)
        was = v[i]
    for k in range(n):
        node_ahead(p, v[places[k]] & E_REF())
    for k in range(n):
        i = places[k]
        was = v[i]
        home = node_home(p, was & E_REF()) | (was & ~E_REF())
        while i < L_NODE_ENTRIES and v[i] == was:
            v[i] = home
            i += 1


cdef void refer_all_to_homes(lnt_pool *p, lnt_dirty_array *a) noexcept nogil:
    cdef lnt_page *f
    cdef uint64_t i
    for i in range(a.count):
        f = dirty_next(a, i)
        if f.refers_to_homeless:
            refer_to_homes(p, f)


cdef int translate(lnt_pool *p) noexcept nogil:
    """Replace every reference to a homeless node by its home, which then is its id. 0 or a status."""
    cdef lnt_dirty_array *housed = &p.cache.dirty[DIRTY_HOUSED]
    cdef lnt_object *o = p.dirty_objects
    cdef lnt_page *f
    cdef uint64_t i
    cdef int rc
    refer_all_to_homes(p, &p.cache.dirty[DIRTY_HOME])
    refer_all_to_homes(p, housed)
    while o != NULL:
        o.root = node_home(p, o.root)
        o = o.dirty_next
    p.catalog.root = node_home(p, p.catalog.root)
    drops_to_homes(p)
    for i in range(housed.count):
        f = dirty_next(housed, i)
        if f.id & VID():              # else it has moved there, and what refers to it is counted
            if f.references != 1:
                rc = count_add(p, f.home, 1, <int>f.references - 1)
                if rc:
                    return rc
            cache_rekey(p, f, f.home)
    return 0
