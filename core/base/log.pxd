# Journal and checkpoint. Written by core/log/journal.pyx and core/log/checkpoint.pyx.
from core.base.page cimport lnt_page
from core.base.types cimport lnt_io, lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef struct lnt_journal_frame:
    # A journal frame being filled or written.
    lnt_io io
    lnt_journal_frame *next
    uint64_t seq
    uint64_t hard_upto
    uint32_t position         # blocks into the ring
    uint32_t before           # bytes of earlier frames in that block
    uint32_t length           # bytes used
    uint32_t records
    uint8_t done
    uint8_t pad
    uint8_t *buf

cdef struct lnt_journal:
    uint64_t start
    uint32_t blocks
    uint32_t head                  # next free block of the ring
    uint32_t tail                  # first block that recovery needs
    uint8_t shares                 # frames may share a block: the superblock on the medium says so
    uint32_t shared_bytes          # of the block before `head` that frames have taken; 0: the next one begins a block
    uint8_t *shared                # what they hold, a block
    uint64_t next_seq              # of the open frame
    uint64_t closed_seq            # last frame handed to the device
    uint64_t written_seq           # all frames up to it are in the medium's cache
    uint64_t record_seq            # last frame that holds a record
    uint64_t data_synced_seq       # data of all records up to it is durable
    uint64_t marker_seq            # highest hard_upto in frames written so far
    uint64_t hard_seq              # all records up to it are durable
    uint64_t synced_seq            # frames up to it are durable
    lnt_journal_frame *open
    lnt_journal_frame *inflight    # oldest first
    lnt_journal_frame *inflight_tail
    lnt_journal_frame *spare
    uint32_t spares
    lnt_op *soft_waiters           # in order of seq
    lnt_op *soft_tail
    lnt_op *hard_waiters
    # the sync engine
    lnt_io sync_io
    uint8_t syncing
    uint8_t sync_failed            # the medium may not hold what the page cache shows
    uint64_t sync_started          # number of syncs started / completed
    uint64_t sync_done
    uint64_t cut_closed            # what the running sync will prove when it succeeds
    uint64_t cut_marker
    uint64_t cut_written
    uint64_t data_writes           # writes of data that completed
    uint64_t cut_writes
    uint64_t synced_writes         # of those, durable
    uint64_t background_seq        # the background wants records up to it hard
    uint64_t checkpoint_need_sync  # the checkpoint waits for this sync
    uint64_t seal_seq              # the last frame that was written for its synced_upto alone
    uint64_t seal_due_us
    uint64_t seal_for              # the frame that will be vouched for then
    uint8_t sealing                # the seal is not yet durable
    uint64_t background_due_us
    uint64_t frames
    uint64_t bytes
    uint64_t appended              # records

cdef struct lnt_superblock:   # core/log/superblock.pyx
    uint64_t generation       # of the copy that was written last
    uint8_t distrusted        # it says that what was not synced proves nothing
    lnt_io io                 # says it

cdef enum checkpoint_state:
    CHECKPOINT_IDLE = 0
    CHECKPOINT_HOMES = 1      # choosing homes for new nodes
    CHECKPOINT_IMAGES = 2     # serialising and writing images
    CHECKPOINT_SYNC1 = 3
    CHECKPOINT_SUPER = 4
    CHECKPOINT_SYNC2 = 5
    CHECKPOINT_APPLY = 6      # images to their homes
    CHECKPOINT_SYNC3 = 7

cdef struct lnt_checkpoint_wait:   # core/base/checkpoint_wait.pxd
    uint8_t wanted
    lnt_op *next_done         # run again when the checkpoint that begins next has ended ...
    lnt_op *done              # ... when the running one has
    lnt_op *room              # ... when there is room in the cache and in the journal

cdef struct lnt_checkpoint:
    uint8_t state
    uint8_t homes_chosen      # once, for all that had none then
    uint8_t recovers          # it ends a recovery: nothing but the area is written before it is published
    uint64_t generation       # of the last checkpoint that is durable
    uint64_t area_start
    uint32_t area_blocks      # of one half
    void *order               # room to put them in order
    uint32_t n_pages
    uint32_t n_images         # pages and summary pages, of which ...
    uint32_t n_fresh          # ... the first are new nodes: they go straight to their homes, the rest by way of the area
    uint32_t n_serialised     # serialised so far
    uint32_t n_pending
    uint32_t n_directory
    uint8_t *buf              # n_images pages
    uint64_t *homes
    uint8_t *directory        # directory pages
    uint8_t *pending
    uint32_t io_next          # next image to write (images or homes)
    uint32_t io_busy
    uint8_t io_failed
    uint32_t io_errno
    uint8_t directory_written
    uint64_t need_sync
    uint64_t cut_seq          # records up to it are in the checkpoint
    uint32_t cut_position
    uint64_t next_due_us
    uint8_t super_buf[4096]   # of the checkpoint under way, or of the last
    uint8_t live_buf[4096]    # of the last one that was published
    lnt_io super_io
    lnt_io write_ios[20]      # of images and pages on their way home: a checkpoint under way needs no memory
    uint64_t done_count
