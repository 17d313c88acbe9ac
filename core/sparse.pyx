"""Sparse leaves: a page for all regions of a group, where each has few blocks (docs/on-disk-format.md, "Sparse leaves").

A group is cut into halves when its leaf is full, and around a region that fills: from then on that one has an ordinary leaf.
Nothing waits here, as in `core/_blkmap.pyx`; each cut leaves a valid tree. Lives here and nowhere else: what groups there are.
"""
from core.base.check cimport LNT_CHECKS, lnt_check
from core.base.entries cimport E_DATA, E_EXCL, E_FOLLOW, E_NODE, E_REF, E_SPARSE, group_bits, node_index
from core.base.extent cimport lnt_extent
from core.base.layout cimport (
    L_BLOCK_BYTES, L_GROUP_BITS, L_NODE_ENTRIES, L_NODE_GROUP_SHIFT, L_RUN_BLOCKS, L_SPARSE_LEVEL, PK_NODE,
)
from core.base.mutations cimport M_ALL_WIDE
from core.base.regions cimport region_left, region_start
from core.base.sparse cimport PLACE_SHIFT, SPARSE_PBA, place_in, place_of, sparse_count, sparse_first
from core.nodes cimport alike, entries, hint_exclusive, leaf_dirty, node_get, node_new, shadow
from core.objects cimport object_dirty
from core.pages.cache cimport cache_get, page_dirty
from core.space.counts cimport count_may_be_one
from core.space.dropped cimport drop_data, node_gone
from libc.string cimport memcpy, memmove, memset

cdef enum:
    REGION_BLOCKS = 64            # that a region has in a sparse leaf at most
    FEW = 8                       # part of both limits that tests keep to, so that small pools reach them
    SPARSE_PART = 8               # an object is sparse while less than this part of it is mapped


cdef bint is_wide(lnt_pool *p, const lnt_object *o) noexcept nogil:
    """Little of the object is mapped, and it has more regions than there is memory for their leaves."""
    cdef uint64_t blocks = o.pub.size_bytes // L_BLOCK_BYTES
    return (blocks // L_RUN_BLOCKS > p.cache.limit // 2 and o.mapped_blocks < blocks // SPARSE_PART
            or p.mutations & M_ALL_WIDE != 0)


cdef inline int room(lnt_pool *p) noexcept nogil:
    """Entries that a sparse leaf may have."""
    return L_NODE_ENTRIES // FEW if p.mutations & M_ALL_WIDE else L_NODE_ENTRIES


cdef inline int region_room(lnt_pool *p) noexcept nogil:
    """... and those of one region among them."""
    return REGION_BLOCKS // FEW if p.mutations & M_ALL_WIDE else REGION_BLOCKS


cdef void sparse_known(lnt_pool *p) noexcept nogil:
    """A pool is opened that has, or had, sparse leaves: its superblock goes on to say so."""
    p.has_sparse = 1


# -- what a leaf says --------------------------------------------------------------------------------------------------


cdef int sparse_extent(lnt_pool *p, lnt_waiter *who, uint64_t e, uint64_t lba, uint64_t most, int for_write, int own,
                       lnt_extent *out) noexcept nogil:
    """What the group of entry e maps at lba, at most `most` blocks, to the end of its region. 0, WAIT or a status.

    `own`: all above it has one reference, so blocks that have one, too, are exclusive.
    """
    cdef int rc = 0, i, n = 1
    cdef lnt_page *f
    cdef uint64_t *v
    cdef uint64_t left = min(region_left(lba), most), place = place_of(lba), step = (<uint64_t>1 << PLACE_SHIFT) + 1
    if for_write:
        f = node_get(p, who, e & E_REF(), L_SPARSE_LEVEL, &rc)
    else:
        f = cache_get(p, who, e & E_REF(), PK_NODE, L_SPARSE_LEVEL, &rc)
    if f == NULL:
        return rc
    own = own and f.references == 1
    v = entries(f)
    i = sparse_first(v, place)
    out.pba = out.entry = 0
    out.exclusive = 0
    out.sparse = 1
    out.n = left
    if i == L_NODE_ENTRIES or v[i] == 0:
        return 0
    if place_in(v[i]) != place:
        out.n = min(left, place_in(v[i]) - place)
        return 0
    while i + n < L_NODE_ENTRIES and <uint64_t>n < left and v[i + n] & ~E_EXCL() == (v[i] & ~E_EXCL()) + n * step:
        n += 1
    if own:
        rc = hint_exclusive(p, who, v + i, n, SPARSE_PBA())
        if rc:
            return rc
        n = alike(v + i, n)
    out.pba = v[i] & SPARSE_PBA()
    out.n = n
    out.entry = out.pba | E_DATA()
    out.exclusive = own and v[i] & E_EXCL() != 0
    if LNT_CHECKS and out.exclusive:
        lnt_check(count_may_be_one(p, out.pba, n), "I4: what is claimed alone is counted once")
    return 0


cdef int sparse_filled(lnt_pool *p, lnt_waiter *who, uint64_t e, uint64_t lba, uint32_t *filled) noexcept nogil:
    """How many blocks of the region of lba are mapped."""
    cdef int rc = 0
    cdef lnt_page *f = cache_get(p, who, e & E_REF(), PK_NODE, L_SPARSE_LEVEL, &rc)
    filled[0] = region_filled(entries(f), lba) if f != NULL else 0
    return rc


cdef inline uint32_t region_filled(const uint64_t *v, uint64_t lba) noexcept nogil:
    cdef uint64_t place = place_of(region_start(lba))
    return sparse_first(v, place + L_RUN_BLOCKS) - sparse_first(v, place)


cdef int sparse_unhint(lnt_pool *p, lnt_waiter *who, uint64_t e, uint64_t lba, uint32_t n) noexcept nogil:
    """n blocks are about to be shared: their leaf, in memory, must not claim them any more."""
    cdef int rc = 0, i, end
    cdef lnt_page *f = cache_get(p, who, e & E_REF(), PK_NODE, L_SPARSE_LEVEL, &rc)
    if f == NULL:
        return rc
    end = sparse_first(entries(f), place_of(lba) + n)
    for i in range(sparse_first(entries(f), place_of(lba)), end):
        entries(f)[i] &= ~E_EXCL()
    return 0


# -- groups ------------------------------------------------------------------------------------------------------------


cdef lnt_page *group_own(lnt_pool *p, lnt_waiter *who, lnt_page *up, int first, int *rc) noexcept nogil:
    """The sparse leaf of the group that begins at entry `first` of an owned node, made the object's own."""
    cdef uint64_t e = entries(up)[first]
    cdef lnt_page *f = node_get(p, who, e & E_REF(), L_SPARSE_LEVEL, rc)
    cdef lnt_page *g
    if f == NULL or f.references == 1:
        return f
    g = shadow(p, who, f, rc)
    if g != NULL:
        page_dirty(p, up)
        up.refers_to_homeless = 1
        entries(up)[first] = g.id | (e & ~E_REF())
    return g


cdef void group_put(lnt_page *up, int first, int bits, uint64_t id) noexcept nogil:
    """Entries of a dirty node become a group with this leaf; 0: holes."""
    cdef int i
    cdef uint64_t size = <uint64_t>bits << L_NODE_GROUP_SHIFT
    for i in range(first, first + (1 << bits)):
        entries(up)[i] = E_FOLLOW() | size if id else 0
    if id:
        up.refers_to_homeless = 1
        entries(up)[first] = id | E_NODE() | E_SPARSE() | size


cdef void leaf_fill(lnt_page *leaf, const uint64_t *v, int n) noexcept nogil:
    """An ordinary leaf says what n entries of a sparse one say of its region."""
    cdef int i
    for i in range(n):
        entries(leaf)[v[i] >> PLACE_SHIFT & (L_NODE_ENTRIES - 1)] = v[i] & (SPARSE_PBA() | E_EXCL()) | E_DATA()


cdef int pair_open(lnt_pool *p, lnt_page *up, int first, lnt_page *f, int low, int n) noexcept nogil:
    """A group of two regions ends: each that has blocks gets an ordinary leaf. 0 or a status."""
    cdef int rc = 0, i
    cdef lnt_page *leaf[2]
    leaf[0] = leaf[1] = NULL
    for i in range(2):
        if (low if i == 0 else n - low):
            leaf[i] = node_new(p, PK_NODE, 0, &rc)
            if leaf[i] == NULL:
                if i and leaf[0] != NULL:
                    node_gone(p, leaf[0])
                return rc
            leaf_fill(leaf[i], entries(f) if i == 0 else entries(f) + low, low if i == 0 else n - low)
    page_dirty(p, up)
    up.refers_to_homeless = 1
    for i in range(2):
        entries(up)[first + i] = leaf[i].id | E_NODE() if leaf[i] != NULL else 0
    node_gone(p, f)
    return 0


cdef int group_halve(lnt_pool *p, lnt_waiter *who, lnt_page *up, int idx) noexcept nogil:
    """Cut the group of entry idx of an owned node. An empty half becomes a hole, one of a single region an ordinary leaf."""
    cdef int rc = 0, n, low, bits = group_bits(entries(up)[idx]) - 1, first = idx >> (bits + 1) << (bits + 1)
    cdef int half = first + (1 << bits)
    cdef lnt_page *f = group_own(p, who, up, first, &rc)
    cdef lnt_page *g
    if f == NULL:
        return rc
    n = sparse_count(entries(f))
    low = sparse_first(entries(f), place_of(<uint64_t>half * L_RUN_BLOCKS))
    if bits == 0:
        return pair_open(p, up, first, f, low, n)
    if low == 0 or low == n:
        page_dirty(p, up)
        group_put(up, first, bits, f.id if low else 0)
        group_put(up, half, bits, f.id if not low else 0)
        return 0
    g = node_new(p, PK_NODE, L_SPARSE_LEVEL, &rc)
    if g == NULL:
        return rc
    page_dirty(p, f)
    memcpy(g.data, entries(f) + low, (n - low) * sizeof(uint64_t))
    memset(entries(f) + low, 0, (n - low) * sizeof(uint64_t))
    page_dirty(p, up)
    group_put(up, first, bits, f.id)
    group_put(up, half, bits, g.id)
    return 0


cdef int region_open(lnt_pool *p, lnt_waiter *who, lnt_page *up, int idx) noexcept nogil:
    """Cut the groups of an owned node until entry idx is a hole or refers to an ordinary leaf. 0, WAIT or a status."""
    cdef int rc = 0
    while rc == 0 and entries(up)[idx] & (E_SPARSE() | E_FOLLOW()):
        rc = group_halve(p, who, up, idx)
    return rc


cdef int group_new(lnt_pool *p, lnt_page *up, int idx, int *rc) noexcept nogil:
    """Make the hole at entry idx of an owned node part of an empty group, as wide as the holes around allow. 0: of none."""
    cdef int bits = 0, i, first
    cdef bint free = True
    cdef lnt_page *f
    while free and bits < L_GROUP_BITS:
        first = idx >> (bits + 1) << (bits + 1)
        for i in range(first, first + (2 << bits)):
            free = free and entries(up)[i] == 0
        bits += free
    if bits == 0:
        return 0
    f = node_new(p, PK_NODE, L_SPARSE_LEVEL, rc)
    if f == NULL:
        return 0
    p.has_sparse = 1
    page_dirty(p, up)
    group_put(up, idx >> bits << bits, bits, f.id)
    return 1


# -- change ------------------------------------------------------------------------------------------------------------


cdef int sparse_insert(lnt_pool *p, lnt_waiter *who, lnt_object *o, lnt_page *above, lnt_page *up, uint64_t lba, uint64_t pba,
                       int n, uint64_t hints, bint *done) noexcept nogil:
    """Map n blocks of one region below an owned level-1 node, if they belong into a sparse leaf (`done`). 0, WAIT or a status.
    `above`: the node above that one, or NULL.

    The reference that the blocks were allocated with becomes the map's.
    """
    cdef int rc = 0, first, idx = node_index(lba, 1)
    cdef lnt_page *f
    done[0] = False
    if n > region_room(p):
        return 0
    while entries(up)[idx] & (E_SPARSE() | E_FOLLOW()) or entries(up)[idx] == 0:
        if entries(up)[idx] == 0 and not group_new(p, up, idx, &rc):
            return rc
        first = idx >> group_bits(entries(up)[idx]) << group_bits(entries(up)[idx])
        f = group_own(p, who, up, first, &rc)
        if f == NULL:
            return rc
        if region_filled(entries(f), lba) + n > region_room(p):
            return 0
        if sparse_count(entries(f)) + n <= room(p):
            leaf_dirty(p, above, node_index(lba, 2), up, first, f)
            entries_put(p, o, entries(f), place_of(lba), pba, n, hints)
            object_dirty(p, o)
            done[0] = True
            return 0
        rc = group_halve(p, who, up, idx)
        if rc:
            return rc
    return 0


cdef void entries_put(lnt_pool *p, lnt_object *o, uint64_t *v, uint64_t place, uint64_t pba, int n,
                      uint64_t hints) noexcept nogil:
    """There is room for all of them."""
    cdef int i = sparse_first(v, place), k, used = sparse_count(v), old = sparse_first(v, place + n) - i
    for k in range(old):
        drop_data(p, v[i + k] & SPARSE_PBA(), 1, 0)
    memmove(v + i + n, v + i + old, (used - i - old) * sizeof(uint64_t))
    for k in range(n):
        v[i + k] = (place + k) << PLACE_SHIFT | (pba + k) | hints
    o.mapped_blocks += n - old


cdef int sparse_remove(lnt_pool *p, lnt_waiter *who, lnt_page *up, int idx, uint64_t lba, uint32_t n,
                       uint32_t *removed) noexcept nogil:
    """Take what n blocks of one region map away, below an owned level-1 node. 0, WAIT or a status."""
    cdef int rc = 0, i, k, gone, used, bits = group_bits(entries(up)[idx]), first = idx >> bits << bits
    cdef lnt_page *f = group_own(p, who, up, first, &rc)
    cdef uint64_t *v
    removed[0] = 0
    if f == NULL:
        return rc
    v = entries(f)
    i = sparse_first(v, place_of(lba))
    gone = sparse_first(v, place_of(lba) + n) - i
    used = sparse_count(v)
    page_dirty(p, f)
    for k in range(gone):
        drop_data(p, v[i + k] & SPARSE_PBA(), 1, 1)
    memmove(v + i, v + i + gone, (used - i - gone) * sizeof(uint64_t))
    memset(v + used - gone, 0, gone * sizeof(uint64_t))
    removed[0] = gone
    if gone == used:
        page_dirty(p, up)
        group_put(up, first, bits, 0)
        node_gone(p, f)
    return 0
