# A piece of a map: contiguous in the object and in the pool, or a hole.
from libc.stdint cimport uint64_t, uint8_t

cdef struct lnt_extent:
    uint64_t pba          # 0: hole
    uint64_t n            # blocks
    uint64_t entry        # the map's entry for the first block
    uint8_t exclusive     # may be overwritten in place
    uint8_t sparse        # a sparse leaf says so
