"""Walks over maps that only read: extents (SBC-4 GET LBA STATUS), differences between objects, exclusive blocks.

Each keeps a block address as its cursor and descends from the roots again after every wait, so the maps may change under it.
"""
from core._blkmap cimport map_find
from core.base.entries cimport (
    E_DATA, E_HUGE, E_NODE, E_REF, VID, WAIT, entry_of, entry_span, node_index, span_left,
)
from core.base.extent cimport lnt_extent
from core.base.layout cimport L_NODE_ENTRIES, PK_NODE
from core.base.memory cimport mem_wider
from core.base.mutations cimport M_SHORT_DIFF
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_row, lnt_sole, lnt_walk
from core.base.page cimport lnt_page
from core.base.regions cimport in_region, region_left
from core.base.schedule cimport op_again
from core.base.sparse cimport SPARSE_PBA, child_level, is_sparse, place_in, place_of, sparse_entry, sparse_first
from core.base.types cimport ST_CHECKSUM, ST_GONE, ST_MEMORY
from core.nodes cimport node_get
from core.pages.cache cimport cache_find, cache_get
from core.space.counts cimport count_at
from libc.stdint cimport uint32_t

cdef enum:
    STEPS = 256               # pieces of maps looked at in one turn ...
    SOLE_STEPS = 32           # ... and leaves whose blocks' counts are, all of them
    AHEAD = 64                # leaves asked for when one is waited for
    DIFF_SAME = 0                # what a comparison finds ...
    DIFF_DATA = 1
    DIFF_HOLE = 2
    FULL = -3                 # no room for one more in the answer: the walk ends here


cdef int row_add(lnt_admin *a, uint64_t start, uint64_t length, uint64_t value) noexcept nogil:
    """Add a row to the answer. ST_MEMORY, and nothing added, when memory for it cannot be had."""
    cdef lnt_row *wider
    if a.n_rows == a.cap_rows:
        wider = <lnt_row *>mem_wider(a.rows, sizeof(lnt_row) * <size_t>(2 * a.cap_rows + 64))
        if wider == NULL:
            return ST_MEMORY
        a.rows = wider
        a.cap_rows = 2 * a.cap_rows + 64
    a.rows[a.n_rows].start = start
    a.rows[a.n_rows].length = length
    a.rows[a.n_rows].value = value
    a.n_rows += 1
    return 0


cdef int extend(lnt_admin *a, uint64_t start, uint64_t length, uint64_t value) noexcept nogil:
    """Widen the last row when it has this value and ends here, else add one. FULL when there are as many as were asked for."""
    cdef lnt_row *last = &a.rows[a.n_rows - 1]
    if a.n_rows and last.start + last.length == start and last.value == value:
        last.length += length
        return 0
    return row_add(a, start, length, value) if a.n_rows < a.walk.most_rows else FULL


cdef int walk_extents(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """Rows of (block, blocks, mapped)."""
    cdef lnt_walk *w = &a.walk
    cdef lnt_extent e
    cdef int rc, steps = 0
    if a.obj.pub.gone:
        return ST_GONE
    while w.next_block < w.end_block:
        rc = map_find(p, who, a.obj, w.next_block, w.end_block - w.next_block, 0, &e)
        if rc:
            return rc
        rc = extend(a, w.next_block, e.n, e.pba != 0)
        if rc:
            return 0 if rc == FULL else rc
        w.next_block += e.n
        steps += 1
        if steps >= STEPS:
            return op_again(p, &a.op)
    return 0


cdef struct side:
    # Where the descent into one of two maps is.
    uint64_t e
    int level                 # the entry spans 512^level blocks
    lnt_page *f
    int idx


cdef int step_down(lnt_pool *p, lnt_waiter *who, side *s, uint64_t lba, int *rc) noexcept nogil:
    s.f = cache_get(p, who, s.e & E_REF(), PK_NODE, child_level(s.e, s.level), rc)
    if s.f == NULL:
        return 0
    s.level -= 1
    s.idx = node_index(lba, s.level)
    s.e = entry_at(s.f, lba, s.idx)
    return 1


cdef inline uint64_t entry_at(const lnt_page *f, uint64_t lba, int idx) noexcept nogil:
    """What a node says of lba, whose entry it is if the node is an ordinary one."""
    return sparse_entry(<uint64_t *>f.data, lba) if is_sparse(f) else entry_of(<uint64_t *>f.data, idx)


cdef inline uint64_t hole_left(const side *s, uint64_t lba) noexcept nogil:
    """Of a hole at lba: how many blocks are certainly part of it, to the end of the region. 1 where that would take a search."""
    cdef int i
    if s.level:
        return region_left(lba)
    if not is_sparse(s.f):
        return 1
    i = sparse_first(<uint64_t *>s.f.data, place_of(lba))
    if i == L_NODE_ENTRIES or (<uint64_t *>s.f.data)[i] == 0:
        return region_left(lba)
    return min(region_left(lba), place_in((<uint64_t *>s.f.data)[i]) - place_of(lba))


cdef inline uint64_t block_of(side *s, uint64_t lba) noexcept nogil:
    """The pool block behind lba, 0 in a hole."""
    if s.e & E_HUGE():
        return (s.e & E_REF()) + in_region(lba)
    return s.e & E_REF() if s.e & E_DATA() else 0


cdef void leaves_ahead(lnt_pool *p, lnt_page *node, lnt_page *beside, int idx) noexcept nogil:
    """A leaf below a level-1 node is on its way: ask for the next ones too, where the other map has none or another."""
    cdef uint64_t e
    cdef int i, rc = 0
    for i in range(idx + 1, min(idx + 1 + AHEAD, L_NODE_ENTRIES)):
        e = (<uint64_t *>node.data)[i]
        if e & E_NODE() and not e & VID() and (beside == NULL or (<uint64_t *>beside.data)[i] & E_REF() != e & E_REF()) and (
                cache_find(p, e & E_REF()) == NULL):
            cache_get(p, NULL, e & E_REF(), PK_NODE, child_level(e, 1), &rc)


cdef int content_of(side *x, side *y, uint64_t lba) noexcept nogil:
    """What the second map has where it differs from the first: DIFF_SAME, DIFF_DATA or DIFF_HOLE."""
    cdef uint64_t there = block_of(y, lba)
    return DIFF_SAME if block_of(x, lba) == there else DIFF_DATA if there else DIFF_HOLE


cdef int compare_at(lnt_pool *p, lnt_waiter *who, lnt_object *oa, lnt_object *ob, uint64_t lba, uint64_t *n,
                    int *content) noexcept nogil:
    """How the second map differs from the first at lba, and for how many blocks that holds at least. No first one: a hole."""
    cdef lnt_page *xf
    cdef lnt_page *yf
    cdef side x, y
    cdef int rc = 0
    cdef uint64_t k, most
    x.e = oa.root | E_NODE() if oa != NULL and oa.root else 0
    x.level = oa.level + 1 if oa != NULL else ob.level + 1
    y.e = ob.root | E_NODE() if ob.root else 0
    y.level = ob.level + 1
    x.f = y.f = NULL
    if x.level > y.level and lba >= entry_span(y.level):
        y.e = 0                           # beyond what the smaller map can hold
        y.level = x.level
    elif y.level > x.level and lba >= entry_span(x.level):
        x.e = 0
        x.level = y.level
    if p.mutations & M_SHORT_DIFF and oa != NULL and lba >= entry_span(min(oa.level, ob.level) + 1):
        x.e = y.e = 0
    while True:
        if x.level and x.level == y.level and (x.e ^ y.e) & ((<uint64_t>1 << 56) - 1) == 0:
            content[0] = DIFF_SAME
            n[0] = span_left(x.level, lba)
            return 0
        xf, yf = x.f, y.f
        if x.e & E_NODE() and (x.level >= y.level or not y.e & E_NODE()):
            k = y.level == x.level and y.e & E_NODE()
            if not step_down(p, who, &x, lba, &rc):
                if rc == WAIT and x.level == 1 and xf != NULL:
                    leaves_ahead(p, xf, yf if k else NULL, x.idx)
                if rc == WAIT and k and y.level == 1 and yf != NULL:
                    leaves_ahead(p, yf, xf, y.idx - 1)
                return rc
            if k and not step_down(p, who, &y, lba, &rc):
                if rc == WAIT and y.level == 1 and yf != NULL:
                    leaves_ahead(p, yf, xf, y.idx)
                return rc
            continue
        if y.e & E_NODE():
            if not step_down(p, who, &y, lba, &rc):
                if rc == WAIT and y.level == 1 and yf != NULL:
                    leaves_ahead(p, yf, NULL, y.idx)
                return rc
            continue
        break
    most = span_left(x.level if x.level < y.level else y.level, lba)
    content[0] = content_of(&x, &y, lba)
    n[0] = most
    if x.level == 0 or y.level == 0:
        # A leaf, beside another, a huge entry or a hole: go along as long as the answer stays.
        k = 1 if x.e or y.e else min(hole_left(&x, lba), hole_left(&y, lba))
        while in_region(lba) + k < L_NODE_ENTRIES:
            if x.level == 0:
                x.e = entry_at(x.f, lba + k, x.idx + <int>k)
            if y.level == 0:
                y.e = entry_at(y.f, lba + k, y.idx + <int>k)
            if content_of(&x, &y, lba + k) != content[0]:
                break
            k += 1
        n[0] = k
    return 0


cdef int walk_diff(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """Rows of (block, blocks, 1) where obj, or a hole without one, and other differ; with `contents` 1 is data and 2 a hole."""
    cdef lnt_walk *w = &a.walk
    cdef uint64_t n = 0
    cdef int rc, content = 0, steps = 0
    if a.obj != NULL and a.obj.pub.gone or a.other.pub.gone:
        return ST_GONE
    while w.next_block < w.end_block:
        rc = compare_at(p, who, a.obj, a.other, w.next_block, &n, &content)
        if rc:
            return rc
        if n > w.end_block - w.next_block:
            n = w.end_block - w.next_block
        rc = extend(a, w.next_block, n, content if w.contents else 1) if content != DIFF_SAME else 0
        if rc:
            return 0 if rc == FULL else rc
        w.next_block += n
        steps += 1
        if steps >= STEPS:
            return op_again(p, &a.op)
    return 0


cdef int sole_sparse(lnt_pool *p, lnt_waiter *who, const lnt_page *f, uint64_t lba, uint64_t *blocks) noexcept nogil:
    """As `sole_at`, of the rest of a region that has its blocks in a sparse leaf."""
    cdef const uint64_t *v = <const uint64_t *>f.data
    cdef int i, rc = 0
    cdef lnt_page *cf
    cdef uint32_t *c
    for i in range(sparse_first(v, place_of(lba)), sparse_first(v, place_of(lba) + region_left(lba))):
        c = count_at(p, who, v[i] & SPARSE_PBA(), &cf, &rc)
        if c == NULL:
            return rc
        blocks[0] += c[0] == 1
    return 0


cdef int sole_at(lnt_pool *p, lnt_waiter *who, lnt_object *o, uint64_t lba, uint64_t *n, uint64_t *blocks) noexcept nogil:
    """How many of the next n blocks only this object refers to."""
    cdef uint64_t e = o.root | E_NODE() if o.root else 0
    cdef int level = o.level + 1
    cdef int rc = 0, i
    cdef lnt_page *f = NULL
    cdef lnt_page *cf
    cdef uint32_t *c
    cdef uint64_t pba
    blocks[0] = 0
    while e & E_NODE():
        f = node_get(p, who, e & E_REF(), child_level(e, level), &rc)
        if f == NULL:
            return rc
        if f.references != 1:
            n[0] = span_left(level, lba)
            return 0 if f.references else ST_CHECKSUM
        level -= 1
        if level == 0:
            break
        e = entry_of(<uint64_t *>f.data, node_index(lba, level))
    n[0] = span_left(level if level else 1, lba)
    if level and not e & E_HUGE():
        return 0
    if level == 0 and is_sparse(f):
        return sole_sparse(p, who, f, lba, blocks)
    for i in range(node_index(lba, 0), L_NODE_ENTRIES):
        if level:
            pba = (e & E_REF()) + i
        else:
            if not (<uint64_t *>f.data)[i] & E_DATA():
                continue
            pba = (<uint64_t *>f.data)[i] & E_REF()
        c = count_at(p, who, pba, &cf, &rc)
        if c == NULL:
            return rc
        blocks[0] += c[0] == 1
    return 0


cdef int walk_exclusive(lnt_pool *p, lnt_waiter *who, lnt_admin *a) noexcept nogil:
    """The blocks of each source that nobody else refers to, one source after the other."""
    cdef lnt_sole *s = &a.sole
    cdef uint64_t n = 0, blocks = 0
    cdef int rc, steps = 0
    cdef lnt_object *o
    while s.done < a.n_sources:
        o = a.sources[s.done]
        rc = ST_GONE if o.pub.gone else 0
        while not rc and s.next_block < entry_span(o.level + 1):
            if steps >= SOLE_STEPS:
                return op_again(p, &a.op)
            rc = sole_at(p, who, o, s.next_block, &n, &blocks)
            if rc == WAIT:
                return rc
            s.blocks[s.done] += blocks
            s.next_block += n
            steps += 1
        if rc:
            s.blocks[s.done] = ~<uint64_t>0
        s.next_block = 0
        s.done += 1
    return 0
