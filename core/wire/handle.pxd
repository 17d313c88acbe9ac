# Python's numbers of sessions, connections and tasks: a place in a table, and how often the place was given away.
#
# An index is below 2^24 - 1; generations make a stale number harmless. 0 is never a number.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    INDEX_BITS = 24
    INDEX_MASK = 0xffffff
    GENERATION_MASK = 0x7fffffff

cdef inline uint64_t handle_of(uint32_t index, uint32_t generation) noexcept nogil:
    return <uint64_t>(generation & GENERATION_MASK) << INDEX_BITS | (index + 1)

cdef inline uint64_t handle_index(uint64_t handle) noexcept nogil:
    """Of 0, a place that no table has."""
    return (handle & INDEX_MASK) - 1
