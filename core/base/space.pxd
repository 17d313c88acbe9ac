# Free space that the medium may still keep, and regions that are being filled.
from core.base.types cimport lnt_io, lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    GOAL_BITS = 12
    GOALS = 4096              # 2^GOAL_BITS

cdef struct lnt_goal:
    uint64_t key              # object and region
    uint64_t base             # where block 0 of the region would sit
    uint64_t following        # the block of the object that a stream would write next
    uint32_t filled           # blocks that went to that run instead of shared ones

# Free blocks that the medium may still keep (docs/concurrency.md, I15), by summary page: made when one is freed there.
cdef struct lnt_freed_page:
    uint64_t[8192] bits       # one a block: 8 words a run
    uint8_t[1024] age         # of a run: 0 nothing to give back, 1 changed since the last look, 2 quiet for one, or given up
    uint32_t live             # runs whose age is not 0

cdef struct lnt_marks:        # core/space/marks.pyx
    lnt_freed_page **pages
    uint64_t blocks           # marked
    uint64_t delay_us         # between two looks
    uint64_t due_us           # the next look; 0: nothing to look for
    uint64_t taken            # blocks that small overwrites took, in the second at hand ...
    uint64_t taken_before     # ... and in the one before
    uint64_t taken_us         # when that at hand began

cdef struct lnt_holes:        # core/space/holes.pyx
    uint64_t at               # the look goes on with this run; 0: it has not begun
    uint64_t run              # being given back: the first run ...
    uint32_t runs             # ... how many, 0: none ...
    uint32_t next             # ... and where to go on, in blocks
    uint8_t whole             # all of it is free: no extents
    uint8_t moved             # this look has found something to do
    uint8_t small             # this look is for extents of any length ...
    uint8_t left              # ... or not, and it has left shorter ones where they are
    uint8_t unswept           # an earlier life left free blocks with the medium, and nobody knows which ...
    uint64_t trimmed          # ... but that it was none of the runs before this one
    uint64_t small_at         # where the last look for those stopped
    uint64_t small_us         # ... and when this one shall
    uint32_t busy             # requests in flight
    uint64_t began_us         # the last one
    uint64_t blocks           # given back so far
    uint64_t requests         # ... and by how many requests

# What discards may take of the time (core/space/budget.pyx).
cdef struct lnt_budget:
    uint64_t requests         # commands of initiators so far ...
    uint64_t changes          # ... that change data
    uint64_t cached           # ... on devices that find in a page cache what they read
    uint64_t seen             # ... when they were looked at last
    uint64_t active_us        # when there were new ones; 0: never
    uint64_t owed_us          # discards took so long, and nobody has rested for it
    uint64_t rest_us          # none begins before
    uint64_t hurry_us         # the medium is short of room until then
    uint32_t blocks           # that one discard may cover

cdef enum run_bits:           # lnt_pool.run_busy; nothing is taken from a run that has any
    RB_HELD = 1               # being given back to the medium, or fixed
    RB_COUNTS = 2             # its counts cannot be read
    RB_CSUMS = 4              # nor checksums of its blocks
    RB_NODES = 8              # for nodes alone (core/space/medium.pyx)

cdef enum:
    NODE_RUNS = 128           # at most

# Room below the pool (core/space/medium.pyx).
cdef struct lnt_medium:
    uint8_t sparse            # a file that is allocated block by block: see there
    uint8_t thin              # a block device that may be so, too: what is to be allocated is written, so nothing may be there
    uint8_t ahead             # ... and all that a pool needs to live has been, in this life or one before
    uint8_t is_short          # it had no room a moment ago: what would allocate is refused at once
    uint8_t asking            # an allocation is under way (asked_for) ...
    uint64_t target           # ... of this zone or run
    uint64_t wanted[8]        # a run's blocks that are to be allocated, by bits ...
    uint32_t next             # ... of which those before this one are, or are asked for
    uint64_t refused_us       # when it was last found without room; 0: it has some, as far as is known
    uint64_t retry_us         # when it is asked again, 0: not of its own
    uint8_t *zones            # 1: the zone's fixed pages are allocated
    uint32_t runs[NODE_RUNS]  # where nodes are put
    uint32_t n_runs
    uint64_t goal             # so many are wanted beyond what nodes without a home need
    uint64_t cursor           # where the next one is looked for
    lnt_op *waiters           # for the allocation under way
    lnt_io io
