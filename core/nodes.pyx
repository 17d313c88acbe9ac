"""Nodes of the map in memory: found, made, and copied for one owner where they are shared (docs/concurrency.md, I1 to I3).

Lives here and nowhere else: how the references of a node's entries are counted when the node is copied.
"""
from core.base.entries cimport E_DATA, E_EXCL, E_HUGE, E_NODE, E_REF, VID, WAIT
from core.base.layout cimport L_NODE_ENTRIES, L_RUN_BLOCKS, PK_NODE
from core.base.sparse cimport reference_of
from core.base.types cimport ST_CHECKSUM, ST_MEMORY, ST_NO_SPACE
from core.pages.cache cimport cache_get, cache_new, node_homeless, page_dirty, page_moved
from core.space.allocation cimport space_for_nodes
from core.space.counts cimport count_add, count_at, count_touch, node_ref, node_touch
from core.space.dropped cimport drop_node, home_left, node_gone
from core.space.homes cimport home_take, homes_at_hand
from libc.stdint cimport uint32_t


cdef lnt_page *node_get(lnt_pool *p, lnt_waiter *who, uint64_t id, uint8_t level, int *rc) noexcept nogil:
    """A node whose `references` are known; 0 where its count cannot be read: it may be shared, so it is treated as if it were."""
    cdef lnt_page *f = cache_get(p, who, id, PK_NODE, level, rc)
    cdef lnt_page *cf
    cdef uint32_t *c
    if f == NULL or f.references:
        return f
    c = count_at(p, who, id, &cf, rc)
    if c == NULL:
        if rc[0] == WAIT:
            return NULL
        rc[0] = 0
        return f
    if c[0] == 0:
        rc[0] = ST_CHECKSUM           # reachable while free
        return NULL
    f.references = c[0]
    return f


cdef lnt_page *node_new(lnt_pool *p, uint8_t kind, uint8_t level, int *rc) noexcept nogil:
    """A new, empty, dirty node with one reference and no home yet."""
    cdef lnt_page *f
    if space_for_nodes(p) <= NODES_KEPT and not p.replaying:
        rc[0] = ST_NO_SPACE
        return NULL
    p.next_vid += 1
    f = cache_new(p, VID() | p.next_vid, kind, level)
    if f == NULL:
        rc[0] = ST_MEMORY
        return NULL
    f.references = 1
    node_homeless(p)
    page_dirty(p, f)
    return f


cdef int touch_children(lnt_pool *p, lnt_waiter *who, lnt_page *f) noexcept nogil:
    cdef int i, rc, worst = 0
    cdef uint64_t e, group, last = ~<uint64_t>0
    for i in range(L_NODE_ENTRIES):
        e = reference_of(f, i)
        rc = 0
        if e & E_NODE():
            rc = node_touch(p, who, e & E_REF())
        elif e & E_HUGE():
            rc = count_touch(p, who, e & E_REF(), L_RUN_BLOCKS)
        elif e & E_DATA():
            group = (e & E_REF()) >> 10
            if group != last:
                last = group
                rc = count_touch(p, who, e & E_REF(), 1)
        if rc == WAIT or rc and worst == 0:
            worst = rc
    return worst


cdef void children_unref(lnt_pool *p, lnt_page *f, int end) noexcept nogil:
    """Take back what a copy of the node has added for its entries before `end`."""
    cdef int i
    cdef uint64_t e
    for i in range(end):
        e = reference_of(f, i)
        if e & E_NODE():
            node_ref(p, e & E_REF(), -1)
        elif e & E_HUGE():
            count_add(p, e & E_REF(), L_RUN_BLOCKS, -1)
        elif e & E_DATA():
            count_add(p, e & E_REF(), 1, -1)


cdef lnt_page *shadow(lnt_pool *p, lnt_waiter *who, lnt_page *f, int *rc) noexcept nogil:
    """A copy of a shared node for one owner: everything it refers to gets one more reference, the node itself one less."""
    cdef lnt_page *g
    cdef int i, k
    cdef uint64_t e, start
    rc[0] = touch_children(p, who, f)
    if rc[0]:
        return NULL
    g = node_new(p, f.kind, f.level, rc)
    if g == NULL:
        return NULL
    i = 0
    while i < L_NODE_ENTRIES:
        e = reference_of(f, i)
        k = 1
        if e & E_NODE():
            rc[0] = node_ref(p, e & E_REF(), 1)
        elif e & E_HUGE():
            rc[0] = count_add(p, e & E_REF(), L_RUN_BLOCKS, 1)
        elif e & E_DATA():
            start = e & E_REF()
            while (i + k < L_NODE_ENTRIES and reference_of(f, i + k) & E_DATA()
                   and reference_of(f, i + k) & E_REF() == start + k):
                k += 1
            rc[0] = count_add(p, start, k, 1)
        if rc[0]:                     # at its limit: nobody refers to the copy yet, so all of it is taken back
            children_unref(p, f, i)
            node_gone(p, g)
            return NULL
        i += k
    for i in range(L_NODE_ENTRIES):
        entries(f)[i] &= ~E_EXCL()    # a hint only: the page need not be written for it
        entries(g)[i] = entries(f)[i]
    g.refers_to_homeless = f.refers_to_homeless
    drop_node(p, f.id, f.level, 0)
    return g


# -- nodes that leave their homes --------------------------------------------------------------------------------------


cdef inline bint has_home(const lnt_page *f) noexcept nogil:
    """A checkpoint has the node where it is, and it has not changed since."""
    return not f.dirty and not f.id & VID()


cdef void node_move(lnt_pool *p, lnt_page *up, int idx, lnt_page *f) noexcept nogil:
    """Give a node, to which entry idx of `up` refers, the next home at hand."""
    page_dirty(p, up)
    home_left(p, f)
    page_moved(p, f, home_take(p))
    entries(up)[idx] = f.id | (entries(up)[idx] & ~E_REF())


cdef void leaf_dirty(lnt_pool *p, lnt_page *above, int above_idx, lnt_page *up, int idx, lnt_page *leaf) noexcept nogil:
    """`page_dirty` of a leaf to which entry idx of `up` refers, and entry above_idx of `above` to that; all are the object's own.

    Where homes are at hand leaf and node leave theirs: what no checkpoint has where it will be is written there once, without
    an image in the area (docs/decisions/0018). `above` is NULL where `up` is the root, which stays.
    """
    cdef bint both
    if has_home(leaf):
        both = above != NULL and has_home(up)
        if homes_at_hand(p, 2 if both else 1):
            if both:
                node_move(p, above, above_idx, up)
            node_move(p, up, idx, leaf)
    page_dirty(p, leaf)
