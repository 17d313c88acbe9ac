# Target Transfer Tags of a task: what an R2T and a Data-In that asks for an acknowledgement carry (RFC 7143 §11.7.4, §11.8).
#
# Lives here and nowhere else: what the bits of such a tag mean.
#
# | bits     | R2T                           | Data-In that asks             |
# |----------|-------------------------------|-------------------------------|
# | 0 to 13  | the task's slot               | the task's slot               |
# | 14 to 21 | the R2TSN, its low 8 bits     | the slot's generation, 16 bits |
# | 22 to 30 | the slot's generation, 9 bits | ... up to bit 29; bit 30 is 0  |
# | 31       | 0                             | 1                             |
#
# So neither is ever ffffffffh, which means none.
from core.wire.nexus cimport lnt_reactor, lnt_task
from libc.stdint cimport uint32_t

cdef enum:
    SLOT_BITS = 14
    SLOTS_MAX = 1 << 14                # tasks of a reactor at most
    R2T_SN_MASK = 0xff
    R2T_GENERATION_SHIFT = 22
    R2T_GENERATION_MASK = 0x1ff
    ACK_GENERATION_MASK = 0xffff
    KIND_SHIFT = 31

cdef inline uint32_t r2t_tag(lnt_task *t, uint32_t r2t_sn) noexcept nogil:
    return (t.index | (r2t_sn & R2T_SN_MASK) << SLOT_BITS
            | (t.generation & R2T_GENERATION_MASK) << R2T_GENERATION_SHIFT)

cdef inline uint32_t ack_tag(lnt_task *t) noexcept nogil:
    return t.index | (t.generation & ACK_GENERATION_MASK) << SLOT_BITS | <uint32_t>1 << KIND_SHIFT

cdef inline bint is_r2t_tag(uint32_t tag) noexcept nogil:
    return tag >> KIND_SHIFT == 0

cdef inline lnt_task *slot_of_tag(lnt_reactor *r, uint32_t tag) noexcept nogil:
    """The slot, whoever has it by now. NULL: no task has ever had that number."""
    cdef uint32_t index = tag & (SLOTS_MAX - 1)
    return &r.tasks.slots[index] if index < r.tasks.used else NULL

cdef inline uint32_t r2t_tag_age(lnt_task *t, uint32_t tag) noexcept nogil:
    """How many tasks its slot has had since; 0: it is the one that has it now."""
    return ((t.generation & R2T_GENERATION_MASK) - (tag >> R2T_GENERATION_SHIFT)) & R2T_GENERATION_MASK

cdef inline uint32_t r2ts_since(uint32_t tag, uint32_t r2t_sn) noexcept nogil:
    """By how much `r2t_sn` is ahead of the tag's, of whose R2TSN the low bits are known."""
    return (r2t_sn - (tag >> SLOT_BITS)) & R2T_SN_MASK
