# Entries of a node in memory: bits 0..47 reference, 48..55 flags as on disk, 56.. volatile hints.
from libc.stdint cimport uint64_t

# Entries of a node in memory: bits 0..47 reference, 48..55 flags as on disk, 56.. volatile hints.
cdef enum:
    WAIT = -1                 # the page is on its way; the op has been queued on it; try again from the start

cdef inline uint64_t E_REF() noexcept nogil:
    return (<uint64_t>1 << 48) - 1

cdef inline uint64_t E_DATA() noexcept nogil:
    return <uint64_t>1 << 48

cdef inline uint64_t E_NODE() noexcept nogil:
    return <uint64_t>2 << 48

cdef inline uint64_t E_HUGE() noexcept nogil:
    return <uint64_t>4 << 48

# Volatile: this entry's block was seen with a count of one. True while the path above it is exclusive (docs/concurrency.md, I4).
cdef inline uint64_t E_EXCL() noexcept nogil:
    return <uint64_t>1 << 56

# A reference with this bit names a node that was born after the last checkpoint and has no home yet.
cdef inline uint64_t VID() noexcept nogil:
    return <uint64_t>1 << 47
