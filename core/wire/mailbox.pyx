"""Messages between Python and the reactor's thread: requests in, events out, each side woken when its list was empty.

Lives here and nowhere else: `lnt_reactor.mailbox` and its lock, which is a leaf (docs/concurrency.md).
"""
from core.wire.tags cimport TAG_WAKE
from core.wire.thread cimport SEQ_CST, lnt_store32, lnt_swap32, pthread_mutex_lock, pthread_mutex_unlock
from core.wire.uring cimport lnt_prep_read_fd
from libc.stdint cimport uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memset

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *p, size_t n)


cdef lnt_event *event_new(uint8_t kind, uint32_t length) noexcept nogil:
    cdef lnt_event *e = <lnt_event *>malloc(sizeof(lnt_event) + length)
    if e != NULL:
        memset(e, 0, sizeof(lnt_event))
        e.kind = kind
        e.length = length
    return e


cdef void event_post(lnt_reactor *r, lnt_event *e) noexcept nogil:
    cdef uint64_t one = 1
    cdef bint first
    if e == NULL:
        return
    e.next = NULL
    pthread_mutex_lock(&r.mailbox.mutex)
    first = r.mailbox.event_head == NULL
    if first:
        r.mailbox.event_head = e
    else:
        r.mailbox.event_tail.next = e
    r.mailbox.event_tail = e
    pthread_mutex_unlock(&r.mailbox.mutex)
    if first:
        write(r.mailbox.event_fd, &one, 8)

cdef void mailbox_wake(lnt_reactor *r) noexcept nogil:
    cdef uint64_t one = 1
    if lnt_swap32(&r.mailbox.wake_pending, 1, SEQ_CST) == 0:
        write(r.mailbox.wake_fd, &one, 8)

cdef void request_post(lnt_reactor *r, lnt_request *m) noexcept nogil:
    m.next = NULL
    pthread_mutex_lock(&r.mailbox.mutex)
    if r.mailbox.request_tail != NULL:
        r.mailbox.request_tail.next = m
    else:
        r.mailbox.request_head = m
    r.mailbox.request_tail = m
    pthread_mutex_unlock(&r.mailbox.mutex)
    mailbox_wake(r)


cdef lnt_request *requests_all(lnt_reactor *r) noexcept nogil:
    # Everything Python has asked for, oldest first, linked by `next`.
    cdef lnt_request *m
    pthread_mutex_lock(&r.mailbox.mutex)
    m = r.mailbox.request_head
    r.mailbox.request_head = NULL
    r.mailbox.request_tail = NULL
    pthread_mutex_unlock(&r.mailbox.mutex)
    return m


cdef lnt_event *events_all(lnt_reactor *r) noexcept nogil:
    # Every event that has come, oldest first, linked by `next`.
    cdef lnt_event *e
    pthread_mutex_lock(&r.mailbox.mutex)
    e = r.mailbox.event_head
    r.mailbox.event_head = NULL
    r.mailbox.event_tail = NULL
    pthread_mutex_unlock(&r.mailbox.mutex)
    return e


cdef void mailbox_arm(lnt_reactor *r) noexcept nogil:
    # The ring hears of the next wake-up.
    lnt_prep_read_fd(r.ring, r.mailbox.wake_fd, &r.mailbox.wake_value, 8, TAG_WAKE)


cdef void mailbox_woken(lnt_reactor *r) noexcept nogil:
    # What is posted from now on wakes the thread again.
    lnt_store32(&r.mailbox.wake_pending, 0, SEQ_CST)
