# Data-In: what of a task's data is sent next. `lnt_task.data_in` is written here only (RFC 7143 §11.7).
from core.wire.nexus cimport lnt_task
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free

cdef inline void data_in_expect(lnt_task *t, uint32_t length) noexcept nogil:
    # So many bytes will be sent when they are in the task's buffer; 0: none.
    t.data_in.left = length

cdef inline void data_in_ready(lnt_task *t) noexcept nogil:
    t.data_in.data = t.buffer

cdef inline void data_in_from_heap(lnt_task *t, void *heap, uint8_t *data, uint32_t length) noexcept nogil:
    # `heap`, freed with the task, holds the data.
    t.data_in.heap = heap
    t.data_in.data = data
    t.data_in.left = length

cdef inline void data_in_free_heap(lnt_task *t) noexcept nogil:
    free(t.data_in.heap)
    t.data_in.heap = NULL

cdef inline void data_in_start(lnt_task *t) noexcept nogil:
    t.data_in.burst_left = t.session.negotiated.max_burst_length

cdef inline void data_in_advance(lnt_task *t, uint32_t length, bint burst_end) noexcept nogil:
    # One Data-In PDU of so many bytes was built.
    t.data_in.data_sn += 1
    t.data_in.offset += length
    t.data_in.left -= length
    if burst_end:
        data_in_start(t)
    else:
        t.data_in.burst_left -= length

cdef inline void data_in_restart(lnt_task *t, uint32_t data_sn, uint32_t offset) noexcept nogil:
    # From there once more.
    t.data_in.left += t.data_in.offset - offset
    t.data_in.offset = offset
    t.data_in.data_sn = data_sn
    data_in_start(t)

cdef inline void data_in_renumber(lnt_task *t, uint32_t data_sn) noexcept nogil:
    # It was sent cut another way: this is the DataSN after the last one.
    t.data_in.data_sn = data_sn
