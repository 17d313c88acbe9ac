# Regions that wait to be put in order, and those that are (core/ops/order.pyx).
from core.base.types cimport lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    ORDER_WANTED = 512            # regions noted at a time
    ORDER_MOVERS = 4              # moved at a time
    ORDER_NOTED_BITS = 10         # regions that were noted lately are not again ...
    ORDER_NOTED = 1024            # ... so many: 2^ORDER_NOTED_BITS

cdef struct lnt_region:
    uint64_t object               # its id
    uint64_t lba                  # where the region begins

cdef struct lnt_noted:
    uint64_t key
    uint64_t until_us             # not again before; WAITS: it is among those that wait

cdef struct lnt_mover:
    lnt_op move                   # OP_MOVE; free where it has no object
    lnt_op ended                  # OP_ORDERED: runs when that is over
    uint64_t began_us

cdef struct lnt_ordering:
    uint8_t off
    lnt_region[ORDER_WANTED] wanted
    uint32_t first                # of those that wait ...
    uint32_t count                # ... and how many do
    lnt_noted[ORDER_NOTED] noted
    lnt_mover[ORDER_MOVERS] movers
    uint32_t busy                 # movers
    uint64_t rest_us              # beside initiators whom it costs something none begins before
    uint64_t changes              # commands of initiators that write, when they were looked at last
    uint64_t writing_us           # when there were new ones; 0: never
    uint64_t cached               # commands of initiators on devices that find in a page cache what they read, likewise
    uint64_t cached_us
    uint64_t regions              # moved by the engine itself
    uint64_t nowhere              # regions that had no place to go to


cdef inline bint orders_under_way(const lnt_ordering *s, uint64_t now_us) noexcept nogil:
    """A region is being moved, or one that was is followed by a rest."""
    return s.busy != 0 or now_us < s.rest_us
