"""How long commands take: a histogram by LUN and direction, in powers of two of a microsecond.

Lives here and nowhere else: `lnt_lun.latency`. A command's time runs from the turn that its header came in to the flush that its
last PDU was built for, so waits for data, buffers, limits and the socket are in it. The clock is read once a flush, not once a
command. A LUN that nobody uses has no histogram.
"""
from core.base.memory cimport mem_zeroed
from core.wire.operations cimport DIRECTIONS


cdef lnt_latency *latency_begin(lnt_lun *lun) noexcept nogil:
    # The LUN's first answer. Without memory it is not counted.
    cdef lnt_latency *made = <lnt_latency *>mem_zeroed(sizeof(lnt_latency))
    lnt_publish(<void **>&lun.latency, made)
    return made


cdef bint latency_add(lnt_latency *into, lnt_lun *lun) noexcept nogil:
    # Any thread. False where there is nothing to add.
    cdef lnt_latency *latency = <lnt_latency *>lnt_published(<void **>&lun.latency)
    cdef uint32_t i, k
    if latency == NULL:
        return False
    for i in range(DIRECTIONS):
        for k in range(LATENCY_BUCKETS):
            into.counts[i][k] += latency.counts[i][k]
        into.sum_us[i] += latency.sum_us[i]
    return True


# -- for tests ----------------------------------------------------------------------------------------------------------

def bucket_of(uint64_t us):
    return lnt_latency_bucket(us, LATENCY_FIRST_SHIFT, LATENCY_BUCKETS)
