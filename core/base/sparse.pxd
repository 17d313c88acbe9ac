# What a sparse leaf holds: of a group of regions the blocks that are mapped, in order, and nothing for those that are not.
# In memory as on the medium an entry has the block's place among 65,536 and its pba; what follows the last one is 0.
from core.base.entries cimport E_DATA, E_EXCL, E_SPARSE
from core.base.layout cimport L_NODE_ENTRIES, L_PBA_BITS, L_PLACES, L_SPARSE_LEVEL
from core.base.page cimport lnt_page
from libc.stdint cimport uint64_t, uint8_t

cdef enum:
    PLACE_SHIFT = L_PBA_BITS
    PLACE_MASK = L_PLACES - 1

cdef inline uint64_t SPARSE_PBA() noexcept nogil:
    return (<uint64_t>1 << PLACE_SHIFT) - 1

cdef inline int is_sparse(const lnt_page *f) noexcept nogil:
    return f.level == L_SPARSE_LEVEL

cdef inline uint64_t place_of(uint64_t lba) noexcept nogil:
    """Where lba is among the blocks that the widest group spans."""
    return lba & PLACE_MASK

cdef inline uint64_t place_in(uint64_t v) noexcept nogil:
    """The place that an entry of a sparse leaf is about."""
    return v >> PLACE_SHIFT & PLACE_MASK

cdef inline uint8_t child_level(uint64_t e, int level) noexcept nogil:
    """The level of the node that an entry of a node of `level` refers to."""
    return L_SPARSE_LEVEL if e & E_SPARSE() else <uint8_t>(level - 1)

cdef inline int sparse_count(const uint64_t *v) noexcept nogil:
    """Entries in use."""
    cdef int low = 0, high = L_NODE_ENTRIES, mid
    while low < high:
        mid = (low + high) // 2
        if v[mid]:
            low = mid + 1
        else:
            high = mid
    return low

cdef inline int sparse_first(const uint64_t *v, uint64_t place) noexcept nogil:
    """The first entry in use whose place is this one or behind it; else the number of those in use. `place` may be 65,536."""
    cdef int low = 0, high = L_NODE_ENTRIES, mid
    while low < high:
        mid = (low + high) // 2
        if v[mid] and place_in(v[mid]) < place:
            low = mid + 1
        else:
            high = mid
    return low

cdef inline uint64_t sparse_entry(const uint64_t *v, uint64_t lba) noexcept nogil:
    """What an ordinary leaf would have for lba: a block, or 0."""
    cdef int i = sparse_first(v, place_of(lba))
    if i < L_NODE_ENTRIES and v[i] and place_in(v[i]) == place_of(lba):
        return v[i] & (SPARSE_PBA() | E_EXCL()) | E_DATA()
    return 0

cdef inline uint64_t reference_of(const lnt_page *f, int i) noexcept nogil:
    """What entry i of a node refers to itself, as an entry of an ordinary one; 0: nothing."""
    cdef uint64_t e = (<const uint64_t *>f.data)[i]
    if is_sparse(f) and e:
        return e & (SPARSE_PBA() | E_EXCL()) | E_DATA()
    return e
