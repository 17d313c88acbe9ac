"""The map of a LUN: a copy-on-write radix table of 512-entry nodes, with huge entries (docs/on-disk-format.md, node).

Nothing here performs or waits: a function that needs a page which is not in memory returns WAIT, leaving a valid tree, and is
called again. Sharing is decided by counts: a node or block may change in place while everything above it has one reference.
"""
from core.base.check cimport LNT_CHECKS, lnt_assert, lnt_check
from core.base.entries cimport (
    E_DATA, E_EXCL, E_FOLLOW, E_HUGE, E_NODE, E_REF, E_SPARSE, WAIT, entry_of, entry_span, node_index, span_left,
)
from core.base.layout cimport L_MAX_LEVEL, L_NODE_ENTRIES, L_RUN_BLOCKS, PK_NODE
from core.base.mutations cimport M_FIRST_HINT
from core.base.regions cimport in_region, region_left
from core.base.types cimport ST_RANGE
from core.nodes cimport alike, entries, hint_exclusive, node_get, node_new, shadow
from core.objects cimport object_dirty
from core.pages.cache cimport cache_get, page_dirty
from core.space.counts cimport count_add, count_is_one, count_may_be_one, count_touch, shares_room
from core.space.dropped cimport drop_data, drop_node, node_gone
from core.sparse cimport (
    SPARSE_MOST, is_wide, region_open, sparse_extent, sparse_filled, sparse_insert, sparse_remove, sparse_unhint,
)


cdef int map_level(uint64_t blocks) noexcept nogil:
    """The lowest root level (at least 1, so that huge entries have a place) whose node spans so many blocks."""
    cdef int level = 1
    while level < L_MAX_LEVEL and entry_span(level + 1) < blocks:
        level += 1
    return level


# -- paths -------------------------------------------------------------------------------------------------------------


cdef lnt_page *split_huge(lnt_pool *p, lnt_page *f, int idx, int *rc) noexcept nogil:
    """Turn a huge entry of an owned node into a leaf that says the same."""
    cdef uint64_t e = entries(f)[idx]
    cdef lnt_page *leaf = node_new(p, PK_NODE, 0, rc)
    cdef int i
    if leaf == NULL:
        return NULL
    for i in range(L_NODE_ENTRIES):
        entries(leaf)[i] = ((e & E_REF()) + i) | E_DATA() | (e & E_EXCL())
    page_dirty(p, f)
    f.refers_to_homeless = 1
    entries(f)[idx] = leaf.id | E_NODE()
    return leaf


cdef int path_own(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, int level, lnt_page **node,
                  lnt_page **parent) noexcept nogil:
    """The node of `level` on the path to lba, made (and made this object's own) where needed. 0, WAIT or a status."""
    cdef int rc = 0
    cdef lnt_page *f
    cdef lnt_page *up = NULL
    cdef lnt_page *g
    cdef int idx = 0
    cdef int at = o.level
    cdef uint64_t e = o.root | E_NODE() if o.root else 0
    if lba >= entry_span(at + 1):
        return ST_RANGE               # a revert has made the tree lower since the op was let in
    while True:
        if e & E_HUGE():
            f = split_huge(p, up, idx, &rc)
        elif e & E_NODE() and o == &p.catalog:
            f = cache_get(p, who, e & E_REF(), PK_NODE, at, &rc)
            if f != NULL and f.references == 0:
                f.references = 1            # never shared: its counts need not be readable
        elif e & E_NODE():
            f = node_get(p, who, e & E_REF(), at, &rc)
        else:
            f = node_new(p, PK_NODE, at, &rc)
        if f == NULL:
            return rc
        g = f
        if f.references != 1:
            g = shadow(p, who, f, &rc)
            if g == NULL:
                return rc
        if g.id != e & E_REF() and not e & E_HUGE():
            if up == NULL:
                o.root = g.id
                object_dirty(p, o)
            else:
                page_dirty(p, up)
                up.refers_to_homeless = 1
                entries(up)[idx] = g.id | E_NODE()
        if at == level:
            lnt_assert(g.references == 1, "I2: a node that may change is referred to once, as all above it are")
            node[0] = g
            if parent != NULL:
                parent[0] = up
            return 0
        idx = node_index(lba, at)
        if entries(g)[idx] & (E_SPARSE() | E_FOLLOW()):
            rc = region_open(p, who, g, idx)
            if rc:
                return rc
        up = g
        e = entries(g)[idx]
        at -= 1


cdef int map_raise(lnt_pool *p, lnt_object *o, int level) noexcept nogil:
    """Put levels above the root until it has this one."""
    cdef int rc = 0
    cdef lnt_page *f
    while o.level < level:
        if o.root:
            f = node_new(p, PK_NODE, o.level + 1, &rc)
            if f == NULL:
                return rc
            f.refers_to_homeless = 1
            entries(f)[0] = o.root | E_NODE()
            o.root = f.id
        o.level += 1
        object_dirty(p, o)
    return 0


# -- lookup ------------------------------------------------------------------------------------------------------------


cdef int huge_exclusive(lnt_pool *p, lnt_waiter *who, lnt_extent *out) noexcept nogil:
    """Part of a huge entry is shared, or may be: shorten the extent to what is alike in that. 0 or WAIT."""
    cdef int rc = 0
    cdef uint64_t n = 1
    out.exclusive = <uint8_t>count_is_one(p, who, out.pba, 1, &rc)
    while rc == 0 and n < out.n and count_is_one(p, who, out.pba + n, 1, &rc) == out.exclusive:
        n += 1
    out.n = n
    return rc if rc == WAIT else 0


cdef inline int hole(lnt_extent *out, uint64_t blocks) noexcept nogil:
    out.n = blocks
    out.pba = out.entry = 0
    out.exclusive = out.sparse = 0
    return 0


cdef inline int huge_extent(lnt_pool *p, lnt_waiter *who, lnt_page *f, int idx, uint64_t lba, uint64_t most, int own,
                            lnt_extent *out) noexcept nogil:
    """What a huge entry maps at lba. 0 or WAIT."""
    cdef uint64_t e = entries(f)[idx]
    cdef uint64_t start = in_region(lba)
    cdef int rc = 0
    out.pba = (e & E_REF()) + start
    out.n = L_RUN_BLOCKS - start
    if out.n > most:
        out.n = most
    out.exclusive = own and e & E_EXCL() != 0
    if own and not e & E_EXCL():
        if count_is_one(p, who, e & E_REF(), L_RUN_BLOCKS, &rc):
            entries(f)[idx] = e | E_EXCL()
            out.exclusive = 1
        elif rc != WAIT:
            rc = huge_exclusive(p, who, out)
    out.entry = out.pba | E_DATA()
    out.sparse = 0
    if LNT_CHECKS and rc == 0 and out.exclusive:
        lnt_check(count_may_be_one(p, out.pba, out.n), "I4: what is claimed alone is counted once")
    return rc


cdef inline int leaf_extent(lnt_pool *p, lnt_waiter *who, lnt_page *f, int idx, uint64_t most, int own,
                            lnt_extent *out) noexcept nogil:
    """What the entries of a leaf from idx on map: contiguous blocks that are alike in whose they are, or a hole. 0 or WAIT."""
    cdef uint64_t *v = entries(f)
    cdef uint64_t start = v[idx] & E_REF()
    cdef int n = 1, rc
    cdef int top = L_NODE_ENTRIES if most > <uint64_t>(L_NODE_ENTRIES - idx) else idx + <int>most
    if not v[idx] & E_DATA():
        while idx + n < top and not v[idx + n] & E_DATA():
            n += 1
        return hole(out, n)
    while idx + n < top and v[idx + n] & E_DATA() and v[idx + n] & E_REF() == start + n:
        n += 1
    if own:
        rc = hint_exclusive(p, who, v + idx, n, E_REF())
        if rc:
            return rc
        n = alike(v + idx, n)
    out.pba = start
    out.n = n
    out.entry = start | E_DATA()
    out.sparse = 0
    out.exclusive = own and v[idx] & E_EXCL() != 0
    if LNT_CHECKS and out.exclusive:
        lnt_check(count_may_be_one(p, start, n), "I4: what is claimed alone is counted once")
    return 0


cdef int map_find(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t most, int for_write,
                  lnt_extent *out) noexcept nogil:
    """The extent at lba, at most `most` blocks: contiguous in the pool, or a hole. With for_write, whether it is ours alone."""
    cdef int level = o.level
    cdef int rc = 0, idx = 0, own = for_write
    cdef uint64_t e = o.root | E_NODE() if o.root else 0
    cdef uint64_t wide
    cdef lnt_page *f = NULL
    if lba >= entry_span(level + 1):      # behind what the tree spans: a revert has made it lower since the op was let in
        e = 0
    while e & E_NODE():
        f = node_get(p, who, e & E_REF(), level, &rc) if for_write else cache_get(p, who, e & E_REF(), PK_NODE, level, &rc)
        if f == NULL:
            return rc
        if f.references != 1:
            own = 0
        idx = node_index(lba, level)
        if level == 0:
            return leaf_extent(p, who, f, idx, most, own, out)
        e = entry_of(entries(f), idx)
        level -= 1
        if e & E_SPARSE():
            return sparse_extent(p, who, e, lba, most, for_write, own, out)
    if e:
        return huge_extent(p, who, f, idx, lba, most, own, out)
    wide = span_left(level + 1, lba)      # a hole as wide as the missing subtree
    return hole(out, most if most < wide else wide)


cdef lnt_page *leaf_find(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t *entry, int *rc) noexcept nogil:
    """The ordinary leaf that maps lba. NULL: `entry` has what is there instead (huge, sparse, nothing), or rc says why not."""
    cdef int level = o.level
    cdef lnt_page *f = NULL
    entry[0] = o.root | E_NODE() if o.root else 0
    while entry[0] & E_NODE() and not entry[0] & E_SPARSE():
        f = cache_get(p, who, entry[0] & E_REF(), PK_NODE, level, rc)
        if f == NULL or level == 0:
            return f
        entry[0] = entry_of(entries(f), node_index(lba, level))
        level -= 1
    return NULL


cdef inline int nearest(lnt_page *f, int idx, bint own) noexcept nogil:
    """The entry nearest to idx that maps a block, of those that lie at their own places in a run only. -1: there is none."""
    cdef int d, i, side
    for d in range(1, L_NODE_ENTRIES):
        for side in range(2):
            i = idx + d if side else idx - d
            if 0 <= i < L_NODE_ENTRIES and entries(f)[i] & E_DATA() and (
                    not own or entries(f)[i] & E_REF() & (L_RUN_BLOCKS - 1) == <uint64_t>i):
                return i
    return -1


cdef int map_goal(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, bint own, uint64_t *goal) noexcept nogil:
    """Where a new block for lba would sit in the run that its neighbours in the leaf have: 0 when there is none.

    Neighbours at their own places in a run count first, with `own` alone: what was written while the region was sparse lies
    elsewhere.
    """
    cdef int rc = 0, i, idx = node_index(lba, 0)
    cdef uint64_t base, entry
    cdef lnt_page *f = leaf_find(p, who, o, lba, &entry, &rc)
    goal[0] = 0
    if f == NULL:
        return rc
    i = nearest(f, idx, 1)
    if i < 0 and not own:
        i = nearest(f, idx, 0)
    if i >= 0:
        base = entries(f)[i] & E_REF()
        if base + idx >= <uint64_t>i:
            goal[0] = base + idx - i
    return 0


cdef int map_filled(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t *filled) noexcept nogil:
    """How many blocks of the region of lba are mapped."""
    cdef int rc = 0, i
    cdef uint32_t n = 0
    cdef uint64_t entry
    cdef lnt_page *f = leaf_find(p, who, o, lba, &entry, &rc)
    if f == NULL and entry & E_SPARSE() and rc == 0:
        return sparse_filled(p, who, entry, lba, filled)
    if f == NULL:
        filled[0] = L_RUN_BLOCKS if entry & E_HUGE() else 0
        return rc
    for i in range(L_NODE_ENTRIES):
        n += entries(f)[i] & E_DATA() != 0
    filled[0] = n
    return 0


# -- change ------------------------------------------------------------------------------------------------------------


cdef void try_merge(lnt_pool *p, lnt_page *leaf, lnt_page *up, int idx) noexcept nogil:
    """A full leaf whose blocks are one run becomes a huge entry again."""
    cdef uint64_t *v = entries(leaf)
    cdef uint64_t first = v[0] & E_REF()
    cdef uint64_t hint = E_EXCL()
    cdef int i, last = L_NODE_ENTRIES - 1
    if not v[0] & E_DATA() or v[last] & E_REF() != first + last or not v[last] & E_DATA():
        return
    for i in range(L_NODE_ENTRIES):
        if not v[i] & E_DATA() or v[i] & E_REF() != first + i:
            return
        hint &= v[0] if p.mutations & M_FIRST_HINT else v[i]
    page_dirty(p, up)
    entries(up)[idx] = first | E_HUGE() | hint
    node_gone(p, leaf)


cdef int map_insert(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t pba, uint32_t n,
                    uint64_t hint) noexcept nogil:
    """Map n blocks within one leaf's span; the reference that the blocks were allocated with becomes the map's."""
    cdef lnt_page *leaf
    cdef lnt_page *up
    cdef lnt_page *above
    cdef int rc, i
    cdef int idx = node_index(lba, 0)
    cdef uint64_t e, old
    cdef bint done
    if n <= SPARSE_MOST and is_wide(p, o):
        rc = path_own(p, who, o, lba, 1, &up, &above)
        if rc == 0:
            rc = sparse_insert(p, who, o, above, up, lba, pba, <int>n, hint, &done)
        if rc or done:
            return rc
    rc = path_own(p, who, o, lba, 0 if n < L_RUN_BLOCKS else 1, &leaf, &up)
    if rc:
        return rc
    if n == L_RUN_BLOCKS:
        idx = node_index(lba, 1)
        e = entries(leaf)[idx]
        if not e & (E_NODE() | E_FOLLOW()):
            page_dirty(p, leaf)
            entries(leaf)[idx] = pba | E_HUGE() | hint
            if e & E_HUGE():
                drop_data(p, e & E_REF(), L_RUN_BLOCKS, 0)
            else:
                o.mapped_blocks += L_RUN_BLOCKS
            object_dirty(p, o)
            return 0
        rc = path_own(p, who, o, lba, 0, &leaf, &up)
        if rc:
            return rc
        idx = 0
    page_dirty(p, leaf)
    for i in range(<int>n):
        old = entries(leaf)[idx + i]
        if old & E_DATA():
            drop_data(p, old & E_REF(), 1, 0)
        else:
            o.mapped_blocks += 1
        entries(leaf)[idx + i] = (pba + i) | E_DATA() | hint
    object_dirty(p, o)
    try_merge(p, leaf, up, node_index(lba, 1))
    return 0


cdef int unmap_whole(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t *removed) noexcept nogil:
    """Take one entry of a level-1 node away, with all it maps."""
    cdef lnt_page *up
    cdef lnt_page *leaf
    cdef int rc, i, idx = node_index(lba, 1)
    cdef uint64_t e
    rc = path_own(p, who, o, lba, 1, &up, NULL)
    if rc:
        return rc
    e = entries(up)[idx]
    removed[0] = L_RUN_BLOCKS
    if e & E_NODE():
        leaf = cache_get(p, who, e & E_REF(), PK_NODE, 0, &rc)
        if leaf == NULL:
            return rc
        removed[0] = 0
        for i in range(L_NODE_ENTRIES):
            removed[0] += entries(leaf)[i] & E_DATA() != 0
        page_dirty(p, up)
        drop_node(p, e & E_REF(), 0, 1)
    else:
        page_dirty(p, up)
        drop_data(p, e & E_REF(), L_RUN_BLOCKS, 1)
    entries(up)[idx] = 0
    return 0


cdef int map_unmap(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t end, uint64_t *next,
                   uint32_t *removed) noexcept nogil:
    """Unmap one step from lba towards end; `next` is where to go on, `removed` how many blocks were mapped."""
    cdef lnt_extent x
    cdef lnt_page *leaf
    cdef lnt_page *up
    cdef int rc, i, first, left = 0
    removed[0] = 0
    rc = map_find(p, who, o, lba, end - lba, 0, &x)
    if rc:
        return rc
    if x.pba == 0:
        next[0] = lba + x.n
        return 0
    next[0] = lba + region_left(lba)
    if next[0] > end:
        next[0] = end
    if x.sparse:
        rc = path_own(p, who, o, lba, 1, &up, NULL)
        if rc == 0:
            rc = sparse_remove(p, who, up, node_index(lba, 1), lba, <uint32_t>(next[0] - lba), removed)
    elif in_region(lba) == 0 and next[0] - lba == L_RUN_BLOCKS:
        rc = unmap_whole(p, who, o, lba, removed)
    else:
        rc = path_own(p, who, o, lba, 0, &leaf, &up)
        if rc == 0:
            first = node_index(lba, 0)
            page_dirty(p, leaf)
            for i in range(first, first + <int>(next[0] - lba)):
                if entries(leaf)[i] & E_DATA():
                    drop_data(p, entries(leaf)[i] & E_REF(), 1, 1)
                    entries(leaf)[i] = 0
                    removed[0] += 1
            for i in range(L_NODE_ENTRIES):
                left |= entries(leaf)[i] & E_DATA() != 0
            if not left:
                page_dirty(p, up)
                entries(up)[node_index(lba, 1)] = 0
                node_gone(p, leaf)
    if rc == 0:
        o.mapped_blocks -= removed[0]
        object_dirty(p, o)
    return rc


cdef int clear_hint(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint32_t n) noexcept nogil:
    """Blocks of o are about to be shared: its leaf (in memory, just looked up) must not claim them any more."""
    cdef int level = o.level, rc = 0, i, idx
    cdef uint64_t e = o.root | E_NODE()
    cdef lnt_page *f = NULL
    while e & E_NODE():
        f = cache_get(p, who, e & E_REF(), PK_NODE, level, &rc)
        if f == NULL:
            return rc
        idx = node_index(lba, level)
        e = entry_of(entries(f), idx)
        if e & E_SPARSE():
            return sparse_unhint(p, who, e, lba, n)
        if e & E_HUGE():
            entries(f)[idx] &= ~E_EXCL()
        if level == 0:
            for i in range(idx, idx + <int>n):
                entries(f)[i] &= ~E_EXCL()
            break
        level -= 1
    return 0


cdef int map_share(lnt_pool *p, lnt_waiter *who, lnt_object *dst, uint64_t lba, lnt_object *src, uint64_t src_lba, uint64_t most,
                   uint64_t *done) noexcept nogil:
    """Let blocks of dst refer to what src maps, one step within one leaf of each. `done`: blocks handled; 0 with rc WAIT."""
    cdef lnt_extent x
    cdef lnt_page *leaf
    cdef lnt_page *up
    cdef uint64_t n = most, at
    cdef uint32_t removed
    cdef int rc
    if n > region_left(lba):
        n = region_left(lba)
    rc = map_find(p, who, src, src_lba, n, 0, &x)
    if rc:
        return rc
    n = x.n
    done[0] = n
    if x.pba == 0:
        at = lba
        rc = map_unmap(p, who, dst, lba, lba + n, &at, &removed)
        done[0] = at - lba
        return rc
    rc = path_own(p, who, dst, lba, 0, &leaf, &up)
    if rc == 0:
        rc = count_touch(p, who, x.pba, <uint32_t>n)
    if rc == 0:
        rc = shares_room(p, x.pba, <uint32_t>n)
    if rc == 0:
        rc = clear_hint(p, who, src, src_lba, <uint32_t>n)
    if rc:
        return rc
    rc = count_add(p, x.pba, <uint32_t>n, 1)
    if rc:
        return rc
    return map_insert(p, who, dst, lba, x.pba, <uint32_t>n, 0)
