# Regions: 2 MiB of an object, what one leaf of the map spans and one run of the pool can hold, each block at its own place in it.
from core.base.layout cimport L_RUN_BLOCKS
from core.base.object cimport lnt_object
from libc.stdint cimport uint64_t

cdef inline uint64_t region_of(uint64_t lba) noexcept nogil:
    """Which region of its object, counted from 0."""
    return lba // L_RUN_BLOCKS

cdef inline uint64_t region_key(const lnt_object *o, uint64_t lba) noexcept nogil:
    """A number for the object and the region."""
    return o.pub.id << 32 ^ region_of(lba)

cdef inline uint64_t in_region(uint64_t lba) noexcept nogil:
    """The block's place in its region; in a run that holds the region, likewise."""
    return lba % L_RUN_BLOCKS

cdef inline uint64_t region_start(uint64_t lba) noexcept nogil:
    """The first block of the region."""
    return lba - lba % L_RUN_BLOCKS

cdef inline uint64_t region_left(uint64_t lba) noexcept nogil:
    """Blocks from lba to the end of its region."""
    return L_RUN_BLOCKS - lba % L_RUN_BLOCKS
