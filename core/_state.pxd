# The state of an open pool: one struct, guarded by one lock. Which module may touch what: docs/concurrency.md.
from core._types cimport lnt_dev, lnt_io, lnt_obj, lnt_op
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, const void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_mutex_destroy(pthread_mutex_t *)

cdef extern from "native.h" nogil:
    uint64_t lnt_get64(const void *)
    uint32_t lnt_get32(const void *)
    uint16_t lnt_get16(const void *)
    void lnt_put64(void *, uint64_t)
    void lnt_put32(void *, uint32_t)
    void lnt_put16(void *, uint16_t)
    void *lnt_alloc_aligned(size_t)
    uint64_t lnt_mono_us()
    uint64_t lnt_real_us()
    void lnt_node_unpack(uint64_t *, const uint8_t *, int)
    void lnt_node_pack(uint8_t *, const uint64_t *, int)
    void lnt_count_unpack(uint32_t *, const uint8_t *, int)
    void lnt_count_pack(uint8_t *, const uint32_t *, int)

cdef extern from "_layout.h" nogil:
    enum:
        L_BLOCK_BYTES, L_RUN_BLOCKS, L_GROUP_BLOCKS, L_ZONE_BLOCKS, L_ZONE_META_BLOCKS, L_FORMAT_VERSION
        L_SUMMARY_START, L_SUMMARY_PAGES, L_SUMMARY_RUNS, L_COUNT_START, L_CSUM_START, L_CSUM_BLOCKS
        L_PAGE_MAGIC, L_FRAME_MAGIC, L_NODE_ENTRIES, L_MAX_LEVEL, L_COUNT_MAX
        L_SLOTS_PER_PAGE, L_SLOT_BYTES, L_NAME_BYTES, L_PROPS_BYTES, L_KV_KEY_BYTES, L_KV_CHUNK_BYTES, L_KV_VALUE_BYTES
        L_FRAME_BLOCKS, L_ATOMIC_BLOCKS, L_DIRECTORY_ENTRIES, L_PENDING_ITEMS, L_PAGE_HEADER_BYTES, L_FRAME_HEADER_BYTES
        SB_CRC, SB_VERSION, SB_UUID, SB_SB_GEN, SB_CKPT_GEN, SB_TOTAL_BLOCKS, SB_JOURNAL_START, SB_JOURNAL_BLOCKS
        SB_AREA_BLOCKS, SB_AREA_START, SB_JOURNAL_SEQ, SB_JOURNAL_POS, SB_AREA_IMAGES, SB_AREA_PENDING, SB_FLAGS
        SB_CATALOG_ROOT, SB_CATALOG_LEVEL, SB_CATALOG_SLOTS, SB_NEXT_ID, SB_FREE_BLOCKS, SB_PENDING_CRC
        SB_CACHE_TOKEN, SB_NAME, SB_IDENTITY, SB_NODE_RUNS, SF_CLEAN, SF_DISTRUST, SF_UNSWEPT
        PG_MAGIC, PG_CRC, PG_KIND, PG_LEVEL, PG_N, PG_TAG, PG_HOME, PG_GEN
        PK_NODE, PK_COUNT, PK_CSUM, PK_CATALOG, PK_SUMMARY, PK_DIRECTORY, PK_PENDING
        FR_MAGIC, FR_CRC, FR_UUID, FR_SEQ, FR_HARD_UPTO, FR_SYNCED_UPTO, FR_LENGTH, FR_FLAGS, FR_RECORDS, FF_PAD
        RC_TYPE, RC_FLAGS, RC_LENGTH
        RT_MAP, RT_UNMAP, RT_OBJECT, RT_DERIVE, RT_DELETE, RT_REVERT, RT_RESIZE, RT_SHARE, RT_KV, RT_GROW
        SK_FREE, SK_OBJECT, SK_KV, OK_VOLUME, OK_SNAPSHOT, OK_CLONE, OF_CHECKSUM, OF_TAIL
        OB_SLOT_KIND, OB_KIND, OB_FLAGS, OB_LEVEL, OB_BLOCK_BYTES, OB_ID, OB_SIZE_BYTES, OB_ROOT, OB_MAPPED_BLOCKS
        OB_CREATED_US, OB_ORIGIN_ID, OB_QUOTA_BYTES, OB_RESERVE_BYTES, OB_SERIAL, OB_NAME_BYTES, OB_ORIGIN_BYTES
        OB_PROPS_BYTES, OB_PHYSICAL_EXPONENT, OB_NAME, OB_ORIGIN, OB_PROPS

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

cdef enum frame_state:
    F_READING = 1
    F_VALID = 2
    F_BAD = 3

cdef struct frame:
    # What walks of many frames look at lies in its first 64 bytes, and all of them apart from their pages.
    uint64_t id               # pba of the home, or VID | number
    frame *hnext
    frame *dprev              # list of dirty frames
    frame *dnext
    uint64_t home             # of a VID frame: the home chosen for it, 0: none yet
    uint32_t refs             # nodes: references to it; 0: not known yet
    uint32_t slot             # image slot in the running checkpoint
    uint8_t kind
    uint8_t level
    uint8_t state
    uint8_t used              # clock bit
    uint8_t dirty
    uint8_t ckpt              # belongs to the running checkpoint and is not yet serialised
    uint8_t writing           # its image is not yet at home
    uint8_t error             # lnt_status, when F_BAD
    uint8_t *data             # 4096 bytes decoded: u64[512], u32[1024], or the payload as it is
    frame *prev               # list of all frames (clock)
    frame *next
    lnt_op *waiters
    uint8_t vids              # a node that may refer to nodes without a home
    uint8_t pinned            # the catalog's: never evicted, and not in cache.limit
    uint8_t pad[38]           # two cache lines

cdef struct cache:
    frame **hash
    uint64_t mask
    frame *clock
    frame *spare              # dropped frames
    void *slabs               # memory of all frames
    void *reads               # reads that are over, for the next ones
    uint64_t count
    uint64_t limit            # frames wanted at most, beside the pinned ones
    uint64_t pinned
    frame *dirty
    uint64_t n_dirty
    uint64_t dirty_limit      # above it writers wait for a checkpoint before they begin ...
    uint64_t dirty_stop       # ... and above this one those that have begun, too
    uint64_t hits
    uint64_t misses
    uint64_t evictions

# References dropped and not yet taken off the counts.
cdef enum item_kind:
    I_DATA = 1
    I_NODE = 2
    I_HOME = 3                # a node's block that the last checkpoint still uses

cdef struct item:
    uint64_t ref
    uint64_t seq              # the journal frame that holds the change
    uint64_t epoch            # I/O of this epoch may still touch the block (I_HOME: checkpoint generation)
    uint32_t n
    uint8_t kind
    uint8_t trim              # give the space back to the medium before reuse

cdef struct item_ring:
    item *v
    uint64_t head
    uint64_t tail
    uint64_t cap              # power of two

# A place in the line in front of a range of an object (core/_ranges.pyx): held, or waited for.
cdef struct rlock:
    uint64_t lo               # bytes
    uint64_t hi
    uint64_t number           # those with lower ones came before
    vobj *obj
    lnt_op *op
    rlock *prev
    rlock *next
    uint8_t alone             # wants the range for itself
    uint8_t stands
    uint8_t waits             # the op runs again when nobody is before it any more

cdef struct rlocks:
    rlock *first
    rlock *last

cdef struct vobj:
    lnt_obj pub               # must be first
    uint64_t root             # 0: nothing mapped
    uint64_t mapped_blocks
    uint64_t inflight_blocks  # allocated for writes under way
    uint64_t reserved_now     # blocks of it in lnt_pool.reserved_unused
    uint64_t settle_epoch     # in-place writes planned before the last share may run until this epoch
    rlocks alone              # who has, or waits for, a range for himself
    rlocks beside             # who shares one
    vobj *hnext
    vobj *dnext             # dirty list
    uint32_t slot
    uint8_t level
    uint8_t dirty
    uint8_t kind
    uint8_t flags
    uint64_t reads
    uint64_t writes
    uint8_t desc[512]         # the slot's bytes; root, level, mapped and size are brought up to date at checkpoints

cdef struct goal:
    uint64_t key              # object and region
    uint64_t base             # where block 0 of the region would sit
    uint64_t following        # the block of the object that a stream would write next

# What the engine keeps in lnt_op.priv.
cdef struct opx:
    lnt_pool *pool
    uint64_t need_seq
    uint64_t need_sync
    uint64_t cursor           # blocks (reads, writes) or bytes done
    uint64_t epoch
    uint64_t target_epoch
    aext *ext                 # pieces that go to new blocks
    aext *ext_tail
    rlock place
    uint32_t io_busy          # requests in flight
    uint8_t step
    uint8_t in_epoch
    uint8_t error
    uint8_t internal          # part of another op, which stands in line for both
    uint8_t verify
    uint8_t pad[3]
    lnt_op *sub               # compound operations: the part that runs
    uint8_t *bounce

# A piece of a write that goes to new blocks.
cdef struct aext:
    lnt_op *op
    aext *next
    aext *lprev               # list of all pieces in flight: a checkpoint must know them
    aext *lnext
    uint64_t lba              # blocks
    uint64_t pba
    uint64_t source           # entry that a partial write was merged from
    uint32_t n
    uint8_t partial
    uint8_t mapped            # committed to the map
    uint8_t loaded            # old contents have arrived
    uint16_t skip             # partial: first byte of the block that is written
    uint16_t bytes
    uint8_t *bounce           # partial: the merged block
    uint8_t *src              # where the new bytes are

cdef struct jframe:
    # A journal frame being filled or written.
    lnt_io io
    jframe *next
    uint64_t seq
    uint64_t hard_upto
    uint32_t pos              # blocks into the ring
    uint32_t length           # bytes used
    uint32_t records
    uint8_t done
    uint8_t pad
    uint8_t *buf

cdef struct journal:
    uint64_t start
    uint32_t blocks
    uint32_t head             # next free block of the ring
    uint32_t tail             # first block that recovery needs
    uint64_t next_seq         # of the open frame
    uint64_t closed_seq       # last frame handed to the device
    uint64_t written_seq      # all frames up to it are in the medium's cache
    uint64_t record_seq       # last frame that holds a record
    uint64_t data_synced_seq  # data of all records up to it is durable
    uint64_t marker_seq       # highest hard_upto in frames written so far
    uint64_t hard_seq         # all records up to it are durable
    uint64_t synced_seq       # frames up to it are durable
    jframe *open
    jframe *inflight          # oldest first
    jframe *inflight_tail
    jframe *spare
    lnt_op *soft_waiters      # in order of seq
    lnt_op *soft_tail
    lnt_op *hard_waiters
    # the sync engine
    lnt_io sync_io
    uint8_t syncing
    uint64_t sync_started     # number of syncs started / completed
    uint64_t sync_done
    uint64_t cut_closed       # what the running sync will prove when it succeeds
    uint64_t cut_marker
    uint64_t cut_written
    uint64_t data_writes      # writes of data that completed
    uint64_t cut_writes
    uint64_t synced_writes    # of those, durable
    uint64_t bg_seq           # the background wants records up to it hard
    uint64_t ck_need_sync     # the checkpoint waits for this sync
    uint64_t seal_seq         # the last frame that was written for its synced_upto alone
    uint64_t seal_due_us
    uint64_t seal_for         # the frame that will be vouched for then
    uint8_t sealing           # the seal is not yet durable
    uint64_t bg_due_us
    uint64_t frames
    uint64_t bytes
    uint64_t appended         # records

cdef enum ckpt_state:
    C_IDLE = 0
    C_HOMES = 1               # choosing homes for new nodes
    C_IMAGES = 2              # serialising and writing images
    C_SYNC1 = 3
    C_SUPER = 4
    C_SYNC2 = 5
    C_APPLY = 6               # images to their homes
    C_SYNC3 = 7

cdef struct ckpt:
    uint8_t state
    uint8_t wanted
    uint64_t gen              # of the last checkpoint that is durable
    uint64_t sb_gen
    uint64_t area_start
    uint32_t area_blocks      # of one half
    frame **frames            # by slot
    uint32_t n_frames
    uint32_t n_images         # frames and summary pages
    uint32_t n_serial         # serialised so far
    uint32_t n_pending
    uint32_t n_dir
    uint8_t *buf              # n_images pages
    uint64_t *homes
    uint8_t *dir              # directory pages
    uint8_t *pend
    uint32_t io_next          # next image to write (images or homes)
    uint32_t io_busy
    uint8_t io_failed
    uint32_t io_errno
    uint8_t dir_written
    uint64_t need_sync
    uint64_t cut_seq          # records up to it are in the checkpoint
    uint32_t cut_pos
    uint64_t next_due_us
    lnt_op *waiters           # want the checkpoint that starts next
    lnt_op *riders            # want the running one
    lnt_op *room              # wait for dirty frames or journal room
    uint8_t super_buf[4096]   # of the checkpoint under way, or of the last
    uint8_t live_buf[4096]    # of the last one that was published
    uint8_t sync_failed       # the medium may not hold what the page cache shows
    uint8_t distrusted        # ... and the superblock says so
    lnt_io super_io
    uint64_t done_count

# Free blocks that the medium may still keep (docs/concurrency.md, I15), by summary page: made when one is freed there.
cdef struct freed_page:
    uint64_t[8192] bits       # one a block: 8 words a run
    uint8_t[1024] age         # of a run: 0 nothing to give back, 1 changed since the last look, 2 quiet for one, or given up
    uint32_t live             # runs whose age is not 0

cdef struct punch:
    freed_page **pages
    uint64_t delay_us         # between two looks
    uint64_t due_us           # the next look; 0: nothing to look for
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
    uint64_t held             # free blocks that wait in those runs
    uint64_t marked           # blocks
    uint64_t blocks           # given back so far
    uint64_t requests         # ... and by how many requests

# What discards may take of the time (core/_budget.pyx).
cdef struct budget:
    uint64_t requests         # commands of initiators so far
    uint64_t seen             # ... when they were looked at last
    uint64_t active_us        # when there were new ones; 0: never
    uint64_t owed_us          # discards took so long, and nobody has rested for it
    uint64_t rest_us          # none begins before
    uint64_t hurry_us         # the medium is short of room until then
    uint32_t runs             # that one discard may cover

# Pages that could not be had (core/_damage.pyx): whoever needs one fails, everybody else goes on.
cdef struct bad_page:
    uint64_t block
    uint64_t object           # for whom it was read, 0: for nobody that still is
    uint64_t until_us         # not asked for again before
    uint32_t times
    uint8_t kind
    uint8_t status

cdef struct damage:
    bad_page *v               # 1024 of them, made when there is the first
    uint32_t n
    uint32_t probe            # the next to be tried again
    uint64_t met              # rises by one whenever a page is first found bad
    uint64_t due_us           # when some of `aside` are tried again
    uint8_t mended            # a page was read again: all of `aside` may be tried
    item_ring aside           # dropped references that cannot be taken off the counts
    uint64_t blocks           # ... of so many blocks at least

cdef enum:
    TRACE_EVENTS = 64         # remembered (core/_trace.pyx)

cdef struct trace_entry:
    uint64_t at_us            # the last time
    uint64_t a
    uint64_t b
    uint32_t times
    uint8_t event             # trace_event

cdef enum run_bits:           # lnt_pool.run_busy; nothing is taken from a run that has any
    RB_HELD = 1               # being given back to the medium, or fixed
    RB_COUNTS = 2             # its counts cannot be read
    RB_CSUMS = 4              # nor checksums of its blocks
    RB_NODES = 8              # for nodes alone (core/_medium.pyx)

cdef enum:
    NODE_RUNS = 128           # at most

# Room below the pool (core/_medium.pyx).
cdef struct medium:
    uint8_t sparse            # a file that is allocated block by block: see there
    uint8_t is_short          # it had no room a moment ago: what would allocate is refused at once
    uint8_t asking            # an allocation is under way (asked_for) ...
    uint64_t target           # ... of this zone or run
    uint64_t refused_us       # when it was last found without room; 0: it has some, as far as is known
    uint64_t retry_us         # when it is asked again, 0: not of its own
    uint8_t *zones            # 1: the zone's fixed pages are allocated
    uint32_t runs[NODE_RUNS]  # where nodes are put
    uint32_t n_runs
    uint64_t nodes_free       # free blocks in them
    uint64_t goal             # so many are wanted beyond what nodes without a home need
    uint64_t cursor           # where the next one is looked for
    lnt_op *waiters           # for the allocation under way
    lnt_io io

cdef struct lnt_pool:
    pthread_mutex_t lock
    uint8_t uuid[16]
    uint32_t tag
    uint64_t total_blocks
    uint64_t free_blocks
    uint64_t unhomed          # nodes without a home: each will need a block
    uint64_t reserve_blocks   # kept for deletes and metadata
    uint64_t reserved_unused  # sum of unfilled per-object reservations, blocks
    uint64_t next_vid
    uint64_t next_id
    uint8_t failed            # pool_failure: why the pool is read-only for good; 0: it is not
    uint64_t fail_detail      # an errno, or a block
    trace_entry trace[TRACE_EVENTS]
    uint64_t traced           # events noted so far
    uint8_t counts_high       # replay: a count is near its limit
    uint8_t read_only
    uint8_t replaying
    uint8_t closing
    uint8_t can_discard
    uint64_t mutations
    # space
    uint16_t *run_used
    uint8_t *run_busy         # run_bits
    uint8_t *summary_dirty    # one a summary page
    uint64_t n_runs
    uint64_t free_runs
    uint64_t run_cursor
    uint64_t marked_cursor    # where freed blocks that the medium still keeps were taken last
    uint64_t fit_cursor       # where blocks are taken that belong nowhere in particular: the run ...
    uint32_t fit_block        # ... and in it
    # parts
    cache cache
    journal j
    ckpt ck
    item_ring fifo            # waiting for seq and epoch
    item_ring homes           # waiting for a checkpoint
    item_ring work            # ready: a stack
    damage damage
    punch punch
    budget budget
    medium medium
    aext *aexts               # pieces in flight
    aext *aext_spare
    goal goals[4096]          # regions being filled; a hint, lost at will
    uint8_t *zeros            # 1 MiB
    # epochs
    uint64_t arrivals         # places in lines taken so far
    uint64_t epoch
    uint64_t inflight[2]
    lnt_op *grace             # waiting for an epoch
    # objects
    vobj **ohash
    uint64_t omask
    uint64_t n_objects
    vobj *odirty
    uint32_t odirty_pages     # pages of the catalog that they are in ...
    uint32_t *odirty_marks    # ... by page, the round in which it was counted
    uint32_t odirty_round
    vobj cat                # the catalog's own tree
    uint32_t cat_slots
    uint8_t *slot_kind        # which slots are used
    uint32_t slot_cap
    uint32_t slot_hint
    # devices
    lnt_dev *devs
    lnt_dev *home             # runs commits, checkpoints and reclaim
    lnt_dev *cur              # on whose thread we are
    lnt_op *cur_op            # the op that a miss shall wake
    void *io_spare
    lnt_op *background        # pseudo-op of reclaim: woken by its page
    uint8_t background_waits
    lnt_op *ck_op
    uint8_t ck_waits
    uint64_t now_us
    lnt_op *admin_head        # changes of the catalog, one after the other
    lnt_op *admin_tail
    uint8_t admin_runs
    uint64_t stat_reclaimed
    uint64_t stat_rmw
    uint64_t stat_pending_blocks
    uint8_t cache_token[64]
    uint8_t name[64]
    uint8_t identity[16]
    uint64_t lease_us         # atomic: CLOCK_BOOTTIME after which nothing may be answered or written; 0: no lease (lease.h)

cdef inline uint64_t next_images(lnt_pool *p) noexcept nogil:
    """Pages that the next checkpoint will hold: what is dirty, and the catalog pages of changed objects."""
    return p.cache.n_dirty + p.odirty_pages

cdef inline int run_is_fixed(lnt_pool *p, uint64_t run) noexcept nogil:
    """Runs of fixed metadata, journal and areas, and runs beyond the end: never allocated, never counted."""
    cdef uint64_t block = run * L_RUN_BLOCKS
    if block >= p.total_blocks or block % L_ZONE_BLOCKS < L_ZONE_META_BLOCKS:
        return 1
    return block < p.ck.area_start + 2 * <uint64_t>p.ck.area_blocks
