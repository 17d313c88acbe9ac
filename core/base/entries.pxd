# Entries of a node in memory: bits 0..47 reference, 48..55 flags as on disk, 56.. volatile hints. What each spans of an object.
from core.base.check cimport lnt_static_assert
from core.base.layout cimport L_NODE_ENTRIES, L_NODE_GROUP_SHIFT
from libc.stdint cimport uint64_t

cdef enum:
    WAIT = -1                 # the page is on its way; the op has been queued on it; try again from the start
    ENTRY_BITS = 9            # of an lba, for each level of nodes

cdef inline uint64_t E_REF() noexcept nogil:
    return (<uint64_t>1 << 48) - 1

cdef inline uint64_t E_DATA() noexcept nogil:
    return <uint64_t>1 << 48

cdef inline uint64_t E_NODE() noexcept nogil:
    return <uint64_t>2 << 48

cdef inline uint64_t E_HUGE() noexcept nogil:
    return <uint64_t>4 << 48

# With E_NODE: the node is a sparse leaf, and a group of entries from here on share it (core/base/sparse.pxd) ...
cdef inline uint64_t E_SPARSE() noexcept nogil:
    return <uint64_t>8 << 48

# ... of which the others say so, without a reference of their own.
cdef inline uint64_t E_FOLLOW() noexcept nogil:
    return <uint64_t>16 << 48

cdef inline int group_bits(uint64_t e) noexcept nogil:
    """Of an entry with E_SPARSE or E_FOLLOW: its group has 2 to this power entries, from a multiple of that on."""
    return <int>(e >> L_NODE_GROUP_SHIFT & 7)      # hints of this memory lie above

cdef inline uint64_t entry_of(const uint64_t *v, int idx) noexcept nogil:
    """What entry idx of a node says; of a group, what its first entry says for all of them."""
    cdef uint64_t e = v[idx]
    return v[idx >> group_bits(e) << group_bits(e)] if e & E_FOLLOW() else e

# Volatile: this entry's block was seen with a count of one. True while the path above it is exclusive (docs/concurrency.md, I4).
cdef inline uint64_t E_EXCL() noexcept nogil:
    return <uint64_t>1 << 56

# A reference with this bit names a node that was born after the last checkpoint and has no home yet.
cdef inline uint64_t VID() noexcept nogil:
    return <uint64_t>1 << 47

cdef inline uint64_t entry_span(int level) noexcept nogil:
    """Blocks that one entry of a node of this level spans."""
    lnt_static_assert(1 << ENTRY_BITS == L_NODE_ENTRIES)
    return <uint64_t>1 << (ENTRY_BITS * level)

cdef inline uint64_t span_left(int level, uint64_t lba) noexcept nogil:
    """Blocks from lba to the end of what the entry with it spans."""
    return entry_span(level) - (lba & (entry_span(level) - 1))

cdef inline int node_index(uint64_t lba, int level) noexcept nogil:
    """Which entry of a node of this level leads to lba."""
    return <int>(lba >> (ENTRY_BITS * level) & (L_NODE_ENTRIES - 1))
