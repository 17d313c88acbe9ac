# Runs of a group: blocks, and where they stand in frames, 16 bytes each (docs/repositories.md, "The format").
from libc.stdint cimport uint32_t

cdef struct lnt_placed_run:
    uint32_t block                # of the group
    uint32_t blocks
    uint32_t frame                # by its number
    uint32_t first                # block of the frame

cdef enum:
    FRAME_NONE = 0xffffffff       # of a run that is a hole

cdef struct lnt_interval:
    uint32_t first
    uint32_t behind
