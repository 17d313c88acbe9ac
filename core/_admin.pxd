# Operations on objects: derive, delete, revert, resize, properties, keys; and walks: extents, diff, exclusive, share.
from core._state cimport lnt_pool, rlock, vobj
from core._types cimport lnt_op
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

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

cdef struct admin:
    lnt_op op                 # must be first
    uint64_t token
    uint8_t kind
    uint8_t applied           # the serial part is over
    uint8_t step
    uint8_t stands            # it has taken its places in line
    uint32_t n                # pairs (DERIVE), slot images (KV)
    vobj **src
    rlock *places             # DERIVE: one a source; else `own`
    rlock[2] own
    vobj **new
    vobj *obj
    vobj *other
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
    admin *next

cdef void admin_submit(lnt_pool *p, admin *a) noexcept nogil
cdef void admin_run(lnt_pool *p, admin *a) noexcept nogil
cdef vobj *object_find(lnt_pool *p, uint64_t id) noexcept nogil
cdef void object_link(lnt_pool *p, vobj *o) noexcept nogil
cdef void object_unlink(lnt_pool *p, vobj *o) noexcept nogil
cdef uint32_t slot_alloc(lnt_pool *p, uint8_t kind) noexcept nogil
cdef void slot_free(lnt_pool *p, uint32_t slot) noexcept nogil
cdef int derive_apply(lnt_pool *p, vobj *src, vobj *new) noexcept nogil
cdef int delete_apply(lnt_pool *p, vobj *o) noexcept nogil
cdef int revert_apply(lnt_pool *p, vobj *vol, vobj *snap) noexcept nogil
cdef int pool_resize(lnt_pool *p, uint64_t total_blocks) noexcept nogil
