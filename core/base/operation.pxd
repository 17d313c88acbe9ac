# What operations are made of: pieces of a write, and operations on objects.
from core.base.object cimport lnt_object, lnt_range
from core.base.types cimport lnt_op
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

# A piece of a write that goes to new blocks.
cdef struct lnt_piece:
    lnt_op *op
    lnt_piece *next
    lnt_piece *lprev               # list of all pieces in flight: a checkpoint must know them
    lnt_piece *lnext
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

cdef enum admin_kind:
    A_CREATE = 1
    A_DERIVE = 2
    A_DELETE = 3
    A_REVERT = 4
    A_RESIZE = 5
    A_SET = 6
    A_KV = 7
    A_GROW = 8
    A_SERIAL = 8              # the kinds up to here run one after the other
    A_CHECKPOINT = 9
    A_SHARE = 10
    A_EXTENTS = 11
    A_DIFF = 12
    A_EXCLUSIVE = 13
    A_SCRUB = 14
    A_TRIM = 15

cdef enum set_field:          # what A_SET changes: the bits of admin.a
    SET_NAME = 1
    SET_PROPS = 2
    SET_QUOTA = 4
    SET_RESERVE = 8
    SET_PHYSICAL = 16

cdef struct lnt_admin:
    lnt_op op                 # must be first
    uint64_t token
    uint8_t kind
    uint8_t applied           # the serial part is over
    uint8_t step
    uint8_t stands            # it has taken its places in line
    uint32_t n                # pairs (DERIVE), slot images (KV)
    lnt_object **src
    lnt_range *places             # DERIVE: one a source; else `own`
    lnt_range[2] own
    lnt_object **new
    lnt_object *obj
    lnt_object *other
    uint64_t a
    uint64_t b
    uint64_t c
    uint8_t *bytes            # KV: slot images; SET: the new descriptor
    uint32_t *slots
    uint8_t *record
    uint32_t record_bytes
    uint64_t *out             # walks: result triples
    uint32_t n_out
    uint32_t cap_out
    lnt_admin *next
