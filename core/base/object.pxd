# An object in memory, and the places in line on it (core/ops/ranges.pyx).
from core.base.types cimport lnt_obj, lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

# A place in the line in front of a range of an object (core/ops/ranges.pyx): held, or waited for.
cdef struct lnt_range:
    uint64_t start_bytes
    uint64_t end_bytes
    uint64_t number           # those with lower ones came before
    lnt_object *obj
    lnt_op *op
    lnt_range *prev
    lnt_range *next
    uint8_t alone             # wants the range for itself
    uint8_t stands
    uint8_t waits             # the op runs again when nobody is before it any more

cdef struct lnt_ranges:
    lnt_range *first
    lnt_range *last

cdef struct lnt_object:
    lnt_obj pub               # must be first
    uint64_t root             # 0: nothing mapped
    uint64_t mapped_blocks
    uint64_t inflight_blocks  # allocated for writes under way
    uint64_t reserved_now     # blocks of it in lnt_pool.reserved_unused
    uint64_t settle_epoch     # in-place writes planned before the last share may run until this epoch
    lnt_ranges alone          # who has, or waits for, a range for himself
    lnt_ranges beside         # who shares one
    lnt_object *hash_next
    lnt_object *dirty_next    # dirty list
    uint32_t slot
    uint8_t level
    uint8_t dirty
    uint8_t kind
    uint8_t flags
    uint64_t reads
    uint64_t writes
    uint8_t slot_image[512]   # the slot's bytes; root, level, mapped and size are brought up to date at checkpoints
