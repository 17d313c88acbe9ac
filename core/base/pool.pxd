# The state of an open pool: one struct, guarded by one lock. Who writes which field: tests/core/test_owners.py.
from core.base.check cimport lnt_static_assert
from core.base.damage cimport lnt_damage
from core.base.dropped cimport lnt_dropped_ring, lnt_homes
from core.base.layout cimport L_RUN_BLOCKS, L_ZONE_BLOCKS, L_ZONE_META_BLOCKS
from core.base.log cimport lnt_checkpoint, lnt_checkpoint_wait, lnt_journal, lnt_superblock
from core.base.native cimport pthread_mutex_t
from core.base.object cimport lnt_object, lnt_range
from core.base.operation cimport lnt_piece
from core.base.ordering cimport lnt_ordering
from core.base.page cimport lnt_cache
from core.base.space cimport GOALS, lnt_budget, lnt_goal, lnt_holes, lnt_marks, lnt_medium
from core.base.types cimport lnt_dev, lnt_op
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

cdef enum:
    TRACE_EVENTS = 64             # remembered (core/base/trace.pyx)
    ZEROS_BYTES = 1 << 20         # lnt_pool.zeros

cdef struct lnt_trace_entry:
    uint64_t at_us            # the last time
    uint64_t a
    uint64_t b
    uint32_t times
    uint8_t event             # trace_event

cdef struct lnt_pool:
    pthread_mutex_t lock
    uint8_t uuid[16]
    uint32_t tag
    uint64_t total_blocks
    uint64_t free_blocks
    uint64_t nodes_without_home       # each will need a block (docs/decisions/0002)
    uint64_t reserve_blocks           # kept for deletes and metadata
    uint64_t reserved_unused          # sum of unfilled per-object reservations, blocks
    uint8_t has_sparse                # there are sparse leaves, or were: said by the superblock
    uint64_t next_vid
    uint64_t next_id
    uint8_t failed                    # pool_failure: why the pool is read-only for good; 0: it is not
    uint64_t fail_detail              # an errno, or a block
    lnt_trace_entry trace[TRACE_EVENTS]
    uint64_t traced                   # events noted so far
    uint64_t memory_retry_us          # work in the background had no memory: when it tries again
    uint64_t n_pieces                 # of writes under way, in `pieces`
    uint8_t counts_high               # replay: a count is near its limit
    uint8_t read_only
    uint8_t replaying
    uint8_t closing
    uint8_t can_discard
    uint64_t mutations
    # space
    uint16_t *run_used
    uint8_t *run_busy                 # run_bits
    uint8_t *summary_dirty            # one a summary page
    uint64_t n_runs
    uint64_t free_runs
    uint64_t held_blocks              # free, in runs that somebody keeps
    uint64_t nodes_free               # of those, in runs that are kept for nodes
    uint64_t run_cursor               # where a free run is looked for next
    uint64_t arrival_cursor           # the block behind the last that was taken in order of arrival; 0: none was
    uint64_t marked_cursor            # where freed blocks that the medium still keeps were taken last
    uint64_t fresh_cursor             # where a free run is looked for of which it keeps nothing
    uint64_t fit_cursor               # where blocks are taken that belong nowhere in particular: the run ...
    uint32_t fit_block                # ... and in it
    # parts
    lnt_cache cache
    lnt_journal journal
    lnt_checkpoint checkpoint
    lnt_checkpoint_wait checkpoint_wait
    lnt_superblock superblock
    lnt_dropped_ring dropped_waiting  # waiting for seq and epoch
    lnt_dropped_ring dropped_homes    # waiting for a checkpoint
    lnt_dropped_ring dropped_ready    # ready: a stack
    lnt_homes homes                   # blocks at hand for nodes that leave their homes
    lnt_damage damage
    lnt_marks marks
    lnt_holes holes
    lnt_budget budget
    lnt_medium medium
    lnt_ordering ordering
    lnt_piece *pieces                 # pieces in flight
    lnt_piece *spare_pieces
    lnt_goal goals[GOALS]             # regions being filled; a hint, lost at will
    uint8_t *zeros                    # 1 MiB
    uint8_t *scratch                  # where reads put what nobody wants (core/ops/reading.pyx)
    # epochs
    uint64_t arrivals                 # places in lines taken so far
    uint64_t epoch
    uint64_t inflight[2]
    lnt_op *grace                     # waiting for an epoch
    uint64_t booked_blocks            # of writes under way: at most so many new ones, and as many references dropped
    lnt_op *bookers                   # waiting for some of those to end
    # objects
    lnt_object **objects_by_id
    uint64_t objects_mask
    uint64_t n_objects
    lnt_object *dirty_objects
    uint32_t dirty_catalog_pages      # pages of the catalog that they are in ...
    uint32_t *catalog_page_rounds     # ... by page, the round in which it was counted
    uint32_t catalog_round
    lnt_object catalog                # the catalog's own tree
    uint32_t catalog_slots
    uint8_t *slot_kind                # which slots are used
    uint32_t slot_capacity
    uint32_t slot_hint
    # devices
    lnt_dev *devices
    lnt_dev *background_device        # runs commits, checkpoints and reclaim
    lnt_dev *current_device           # on whose thread we are
    void *spare_requests
    lnt_op *background_op             # pseudo-op of reclaim: woken by its page
    uint8_t background_waits
    lnt_op *checkpoint_op
    uint8_t checkpoint_waits
    uint64_t now_us
    lnt_op *admin_head                # changes of the catalog, one after the other
    lnt_op *admin_tail
    uint8_t admin_runs
    uint64_t stat_reclaimed
    uint64_t stat_rmw
    uint64_t stat_moved               # blocks put into runs where they had lain scattered ...
    uint64_t stat_copied              # ... of which others keep the old ones, too
    uint64_t stat_pending_blocks
    uint8_t cache_token[64]
    uint8_t name[64]
    uint8_t identity[16]
    uint64_t lease_us                 # atomic: CLOCK_BOOTTIME after which nothing may be answered or written; 0: none (lease.h)

# What the engine keeps in lnt_op.priv.
cdef struct lnt_op_state:
    lnt_pool *pool
    uint64_t need_seq
    uint64_t need_sync
    uint64_t cursor           # blocks (reads, writes) or bytes done
    uint64_t epoch
    uint64_t target_epoch
    lnt_piece *pieces         # pieces that go to new blocks
    lnt_piece *pieces_tail
    lnt_range place
    uint32_t io_busy          # requests in flight
    uint8_t step
    uint8_t in_epoch
    uint8_t error
    uint8_t internal          # part of another op, which stands in line for both
    uint8_t verify
    uint8_t moved             # some of it went to a better place than where it lay ...
    uint8_t stays             # ... or none shall
    uint8_t apart             # READ: 1 a request of several pieces has failed; 2 so each gets its own
    uint32_t booked           # blocks (core/ops/epochs.pyx, write_book)
    lnt_op *sub               # compound operations: the part that runs
    uint8_t *bounce

cdef inline uint64_t next_images(lnt_pool *p) noexcept nogil:
    """Pages that the next checkpoint will hold: what is dirty, and the catalog pages of changed objects."""
    return p.cache.n_dirty + p.dirty_catalog_pages

cdef inline int run_is_fixed(lnt_pool *p, uint64_t run) noexcept nogil:
    """Runs of fixed metadata, journal and areas, and runs beyond the end: never allocated, never counted."""
    cdef uint64_t block = run * L_RUN_BLOCKS
    if block >= p.total_blocks or block % L_ZONE_BLOCKS < L_ZONE_META_BLOCKS:
        return 1
    return block < p.checkpoint.area_start + 2 * <uint64_t>p.checkpoint.area_blocks

cdef inline lnt_op_state *op_state(lnt_op *op) noexcept nogil:
    lnt_static_assert(sizeof(lnt_op_state) <= sizeof(op.priv))
    return <lnt_op_state *>op.priv
