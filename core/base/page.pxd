# A page in memory, and all of them. Written by core/pages/cache.pyx.
from core.base.types cimport lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum page_state:
    PAGE_READING = 1
    PAGE_VALID = 2
    PAGE_BAD = 3

cdef enum:                   # lnt_page.dirty, and the array that it is in; 0: the page is clean
    DIRTY_HOME = 1            # it has been home before
    DIRTY_HOMELESS = 2        # a new node without a home
    DIRTY_HOUSED = 3          # one whose home is chosen, or one that has left the home where a checkpoint has it
    DIRTY_ARRAYS = 4

cdef struct lnt_page:
    # What walks of many pages look at lies in its first 64 bytes, and all of them apart from their data.
    uint64_t id                 # pba of the home, or VID | number
    lnt_page *hash_next
    uint64_t home               # of a VID page: the home chosen for it, 0: none yet; else not 0: no checkpoint was there
    uint32_t references         # nodes: references to it; 0: not known yet
    uint32_t slot               # image slot in the running checkpoint
    uint32_t dirty_at           # its place in the array of dirty pages: DIRTY_...
    uint8_t kind
    uint8_t level
    uint8_t state
    uint8_t used                # clock bit
    uint8_t dirty               # the array that it is in
    uint8_t in_checkpoint       # belongs to the running checkpoint and is not yet serialised
    uint8_t writing             # its image is not yet at home
    uint8_t refers_to_homeless  # a node that may refer to nodes without a home
    uint8_t *data               # 4096 bytes decoded: u64[512], u32[1024], or the payload as it is
    lnt_page *prev             # list of all pages (clock)
    lnt_page *next
    lnt_op *waiters
    uint8_t error               # lnt_status, when PAGE_BAD
    uint8_t pinned              # the catalog's: never evicted, and not in cache.limit
    uint8_t pad[50]             # two cache lines

cdef struct lnt_dirty:
    uint64_t id                 # the page's home, or of one that has none its own
    lnt_page *f

cdef struct lnt_dirty_array:  # in no order: whoever walks it knows which pages come, and can ask for them ahead
    lnt_dirty *items
    uint64_t count

cdef struct lnt_cache:
    lnt_page **hash
    uint64_t mask
    lnt_page *clock
    lnt_page *spare          # dropped pages
    void *slabs               # memory of all pages ...
    uint64_t pages            # ... so many
    void *reads               # reads that are over, for the next ones
    uint64_t count
    uint64_t limit            # pages wanted at most, beside the pinned ones
    uint64_t pinned
    lnt_page **frozen        # pages of the running checkpoint, by slot; NULL: it is gone
    lnt_dirty_array dirty[DIRTY_ARRAYS]
    uint64_t dirty_room       # of each: for all pages there are
    uint64_t n_dirty          # in all of them
    uint64_t dirty_limit      # above it writers wait for a checkpoint before they begin ...
    uint64_t dirty_stop       # ... and above this one those that have begun, too
    uint64_t hits
    uint64_t misses
    uint64_t evictions
