# What operations are made of: pieces of a write, and operations on objects.
from core.base.object cimport lnt_object, lnt_range
from core.base.types cimport lnt_op
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

# A piece of a write that goes to new blocks.
cdef struct lnt_piece:
    lnt_op *op
    lnt_piece *next
    lnt_piece *flight_prev    # list of all pieces in flight: a checkpoint must know them
    lnt_piece *flight_next
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

# Who runs again when what is missed has come. Handed down to whatever may miss a page; NULL: nobody waits, all of it is there.
cdef struct lnt_waiter:
    lnt_op *op
    uint8_t queued            # it waits already, for the first thing that it missed

cdef inline lnt_waiter waiter_of(lnt_op *op) noexcept nogil:
    cdef lnt_waiter who
    who.op = op
    who.queued = 0
    return who

cdef inline void waiter_queue(lnt_waiter *who, lnt_op **queue) noexcept nogil:
    if who != NULL and not who.queued:
        who.op.next = queue[0]
        queue[0] = who.op
        who.queued = 1

cdef enum admin_kind:
    ADMIN_DATA = 0            # Python's READ, WRITE and so on: the op itself says which (lnt_op_kind)
    ADMIN_CREATE = 1
    ADMIN_DERIVE = 2
    ADMIN_DELETE = 3
    ADMIN_REVERT = 4
    ADMIN_RESIZE = 5
    ADMIN_SET = 6
    ADMIN_KV = 7
    ADMIN_GROW = 8
    ADMIN_PUBLISH = 9
    ADMIN_SERIAL = 9          # the kinds up to here run one after the other
    ADMIN_CHECKPOINT = 10
    ADMIN_SHARE = 11
    ADMIN_EXTENTS = 12
    ADMIN_DIFF = 13
    ADMIN_EXCLUSIVE = 14
    ADMIN_SCRUB = 15
    ADMIN_TRIM = 16
    ADMIN_KINDS = 17

cdef enum set_field:          # what ADMIN_SET changes: lnt_change.fields
    SET_NAME = 1
    SET_PROPS = 2
    SET_QUOTA = 4
    SET_RESERVE = 8
    SET_PHYSICAL = 16

# -- what an operation is about beyond its objects: a struct a kind --------------------------------------------------------

cdef struct lnt_resize:       # ADMIN_RESIZE
    uint64_t size_bytes
    uint64_t cursor_block     # of what is unmapped behind the end: where it goes on
    uint8_t moved             # the end is where it shall be
    uint8_t clears            # blocks behind the new end are unmapped

cdef struct lnt_change:       # ADMIN_SET
    uint32_t fields           # set_field
    uint8_t *slot             # the object's new one: those fields of it are taken over

cdef struct lnt_key_change:   # ADMIN_KV; of DERIVE and PUBLISH, what they change with it
    uint32_t count
    uint32_t *slots           # so many slots of the catalog ...
    uint8_t *images           # ... become these
    uint8_t *records          # for the journal; none when it is replayed
    uint32_t records_bytes
    uint32_t records_count

cdef struct lnt_publication:  # ADMIN_PUBLISH: one a volume; all handles are among the sources
    lnt_object *staged        # what it shall be; gone afterwards
    lnt_object *volume        # NULL: `made_volume` becomes it
    lnt_object *base          # the volume follows where it is what this is; NULL: it stays as it is
    lnt_object *made_volume
    lnt_object *snapshot
    uint8_t follows           # the answer

cdef struct lnt_growth:       # ADMIN_GROW
    uint64_t total_blocks
    uint8_t more              # that was one step of several

cdef struct lnt_sharing:      # ADMIN_SHARE
    uint64_t block            # of obj
    uint64_t source_block     # of other
    uint64_t left_blocks

cdef struct lnt_row:
    uint64_t start            # blocks, or what the operation counts in
    uint64_t length
    uint64_t value

cdef struct lnt_walk:         # ADMIN_EXTENTS, ADMIN_DIFF
    uint64_t next_block
    uint64_t end_block
    uint32_t most_rows
    uint8_t contents          # DIFF: tell data from holes

cdef struct lnt_sole:         # ADMIN_EXCLUSIVE
    uint32_t done             # of the sources
    uint64_t next_block       # of the one under way
    uint64_t *blocks          # one number a source; ~0: it cannot be told

cdef struct lnt_scrub:        # ADMIN_SCRUB
    uint8_t phase             # scrub_phase
    uint64_t next             # block of the map, or number of the page
    uint32_t most_pages
    uint64_t pages            # read so far
    uint8_t verified_level    # the lowest entry level (node's level + 1) whose page is verified at `next`
    uint8_t over              # the phase is
    uint8_t *page             # the page, and behind it what is known of it (core/ops/scrub.pyx)

cdef struct lnt_trim:         # ADMIN_TRIM
    uint64_t next_run
    uint32_t left_runs
    uint64_t found_blocks     # free, and marked now
    uint8_t over              # the whole pool was looked at

cdef struct lnt_admin:
    lnt_op op                 # must be first
    uint64_t token
    uint8_t kind              # admin_kind
    uint8_t applied           # the serial part is over
    uint8_t stands            # it has taken its places in line
    lnt_object *obj
    lnt_object *other
    uint32_t n_sources        # DERIVE, EXCLUSIVE, PUBLISH: objects that it reads; they stay open until it is freed
    lnt_object **sources
    lnt_range *places         # DERIVE, PUBLISH: one a source; else `own`
    lnt_range[2] own
    uint32_t n_made           # CREATE, DERIVE, REVERT, PUBLISH: new objects
    lnt_object **made
    lnt_resize resize
    lnt_change change
    lnt_key_change keys
    lnt_publication *publications
    uint32_t n_publications
    lnt_growth growth
    lnt_sharing sharing
    lnt_walk walk
    lnt_sole sole
    lnt_scrub scrub
    lnt_trim trim
    lnt_row *rows             # EXTENTS, DIFF, SCRUB: the answer
    uint32_t n_rows
    uint32_t cap_rows
    uint8_t *data             # DATA: what is read or written
    lnt_admin *next
