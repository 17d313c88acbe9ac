# Queues of tasks. Whose queue it is decides what it means: dormant tasks, those that limits delay, those that wait for a buffer.
from core.wire.nexus cimport lnt_task, lnt_task_queue

cdef inline lnt_task **queue_link(const lnt_task_queue *q, lnt_task *t) noexcept nogil:
    return &t.wait_next if q.for_buffers else &t.next

cdef inline void queue_put(lnt_task_queue *q, lnt_task *t) noexcept nogil:
    """Behind all others."""
    queue_link(q, t)[0] = NULL
    if q.tail != NULL:
        queue_link(q, q.tail)[0] = t
    else:
        q.head = t
    q.tail = t

cdef inline void queue_put_first(lnt_task_queue *q, lnt_task *t) noexcept nogil:
    queue_link(q, t)[0] = q.head
    if q.head == NULL:
        q.tail = t
    q.head = t

cdef inline void queue_remove(lnt_task_queue *q, lnt_task *t) noexcept nogil:
    """The task is in it."""
    cdef lnt_task *before = NULL
    cdef lnt_task *at = q.head
    while at != t:
        before = at
        at = queue_link(q, at)[0]
    if before != NULL:
        queue_link(q, before)[0] = queue_link(q, t)[0]
    else:
        q.head = queue_link(q, t)[0]
    if q.tail == t:
        q.tail = before

cdef inline lnt_task *queue_take_all(lnt_task_queue *q) noexcept nogil:
    """The first of them, linked as before; the queue is empty."""
    cdef lnt_task *first = q.head
    q.head = q.tail = NULL
    return first
