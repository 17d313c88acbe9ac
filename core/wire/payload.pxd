# Where the data segment that is being received goes: a task's buffer, memory of its own, or nowhere. It is written here only.
from core.wire.nexus cimport lnt_connection, lnt_task
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

cdef inline void payload_nowhere(lnt_connection *c) noexcept nogil:
    c.payload.task = NULL
    c.payload.to = NULL
    c.payload.left = 0
    c.payload.lies = NULL

cdef inline void payload_begin(lnt_connection *c) noexcept nogil:
    # A header is here; nobody has asked for what follows it yet.
    payload_nowhere(c)
    c.payload.drop = 0

cdef inline void payload_drop(lnt_connection *c) noexcept nogil:
    # The PDU was dealt with at its header: what follows is ignored.
    c.payload.drop = 1

cdef inline void payload_for(lnt_connection *c, lnt_task *t) noexcept nogil:
    # It belongs to the task; its bytes go nowhere until payload_into says where.
    c.payload.task = t

cdef inline void payload_into(lnt_connection *c, uint8_t *to, uint32_t length) noexcept nogil:
    # At most `length` bytes; what comes beyond them goes nowhere.
    c.payload.to = to
    c.payload.left = length

cdef inline void payload_lies(lnt_connection *c, const uint8_t *at) noexcept nogil:
    # All of it stands there until the PDU is complete: whoever it is for takes it then.
    c.payload.lies = at

cdef inline void payload_into_heap(lnt_connection *c, uint8_t *heap, uint32_t length) noexcept nogil:
    # Memory that payload_take_heap hands over when it is complete.
    c.payload.heap = heap
    payload_into(c, heap, length)

cdef inline uint8_t *payload_take_heap(lnt_connection *c) noexcept nogil:
    # NULL when there was none; the caller frees it.
    cdef uint8_t *heap = c.payload.heap
    c.payload.heap = NULL
    return heap

cdef inline void payload_forget(lnt_connection *c, lnt_task *t) noexcept nogil:
    # The task goes: the rest of its payload goes nowhere.
    if c.payload.task == t:
        payload_nowhere(c)

cdef inline void payload_bytes(lnt_connection *c, const uint8_t *p, uint32_t n) noexcept nogil:
    # The next n bytes, unless they were received where they belong.
    cdef uint32_t k
    if c.payload.to == NULL:
        return
    k = n if n < c.payload.left else c.payload.left
    if c.payload.to != p:
        memcpy(c.payload.to, p, k)
    c.payload.to += k
    c.payload.left -= k
