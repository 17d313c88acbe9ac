"""Messages between Python and the reactor's thread: requests in, events out, each side woken when its list was empty.

Lives here and nowhere else: `lnt_reactor.mailbox` and its lock, which is a leaf (docs/concurrency.md).
"""
from core.base.memory cimport mem_new, mem_zeroed
from core.wire.tags cimport TAG_WAKE
from core.wire.thread cimport SEQ_CST, lnt_store32, lnt_swap32, pthread_mutex_lock, pthread_mutex_unlock
from core.wire.uring cimport lnt_prep_read_fd
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef enum:
    SPARE_REQUESTS = 16

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *p, size_t n)


cdef lnt_event *event_new(uint8_t kind, uint32_t length) noexcept nogil:
    # For what may be refused instead; NULL: there is no memory.
    cdef lnt_event *e = <lnt_event *>mem_new(sizeof(lnt_event) + length)
    if e != NULL:
        memset(e, 0, sizeof(lnt_event))
        e.kind = kind
        e.length = length
    return e


cdef lnt_event *event_of(lnt_event *e, uint8_t kind, void *object) noexcept nogil:
    # An event that lies in `object`, which Python frees when it has heard of it.
    memset(e, 0, sizeof(lnt_event))
    e.kind = kind
    e.part = 1
    e.object = object
    return e


cdef void event_post(lnt_reactor *r, lnt_event *e) noexcept nogil:
    cdef uint64_t one = 1
    cdef bint first
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


cdef lnt_request *request_new(lnt_reactor *r, uint8_t kind, uint32_t length) noexcept nogil:
    # With so many bytes of data behind it. NULL: there is no memory; without data, nor is any of those kept for that.
    cdef lnt_request *m = <lnt_request *>mem_zeroed(sizeof(lnt_request) + length)
    if m == NULL and length == 0:
        pthread_mutex_lock(&r.mailbox.mutex)
        m = r.mailbox.spare
        if m != NULL:
            r.mailbox.spare = m.next
        pthread_mutex_unlock(&r.mailbox.mutex)
        if m != NULL:
            memset(m, 0, sizeof(lnt_request))
            m.spare = 1
    if m != NULL:
        m.kind = kind
        m.length = length
    return m


cdef void request_free(lnt_reactor *r, lnt_request *m) noexcept nogil:
    if not m.spare:
        free(m)
        return
    pthread_mutex_lock(&r.mailbox.mutex)
    m.next = r.mailbox.spare
    r.mailbox.spare = m
    pthread_mutex_unlock(&r.mailbox.mutex)


cdef bint requests_spare(lnt_reactor *r) noexcept nogil:
    # Before anybody asks. False: there is no memory.
    cdef lnt_request *m
    cdef int _i
    for _i in range(SPARE_REQUESTS):
        m = <lnt_request *>mem_zeroed(sizeof(lnt_request))
        if m == NULL:
            return False
        m.spare = 1
        request_free(r, m)
    return True


cdef void spares_free(lnt_reactor *r) noexcept nogil:
    cdef lnt_request *m = r.mailbox.spare
    while m != NULL:
        r.mailbox.spare = m.next
        free(m)
        m = r.mailbox.spare


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
