"""Frames of a stream that leave: written to a descriptor on a thread of its own, behind whoever makes them.

Lives here and nowhere else: batches of frames in memory to bytes of a descriptor, and how many a second. Blocks are written from
where they were read to: nothing is put together first. The thread ends at `departures_close`, when all is written or cannot be.
"""
from core.base.memory cimport mem_aligned, mem_new
from core.base.native cimport lnt_mono_us
from core.wire.thread cimport (
    pthread_cond_destroy, pthread_cond_init, pthread_cond_signal, pthread_cond_wait, pthread_create, pthread_join,
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock,
)
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from "stream/descriptor.h" nogil:
    ssize_t lnt_give_some(int fd, int cancel, int *regular, const iovec *v, int n)
    int lnt_rest(int cancel, int ms)
    int lnt_is_regular(int fd)
    void lnt_large_pipe(int fd)
cdef extern from "<errno.h>":
    int ENOMEM

cdef enum:
    PARTS_AT_ONCE = 256
    PACES = 8                     # writes a second, where there is a limit


cdef int departures_open(lnt_departures *d, int fd, int cancel, uint64_t limit_bytes) noexcept nogil:
    """0 or -errno. A wait for `fd` ends when `cancel` becomes readable."""
    cdef int rc = -ENOMEM
    cdef uint32_t i
    d.fd = fd
    d.cancel = cancel
    d.limit_bytes = limit_bytes
    d.regular = lnt_is_regular(fd)
    pthread_mutex_init(&d.lock, NULL)
    pthread_cond_init(&d.made, NULL)
    pthread_cond_init(&d.written, NULL)
    for i in range(DEPARTURES):
        d.batches[i].data = <uint8_t *>mem_aligned(DEPARTURE_BYTES)
        d.batches[i].heads = <uint8_t *>mem_aligned(DEPARTURE_HEADS_BYTES)
        d.batches[i].parts = <iovec *>mem_new(DEPARTURE_PARTS * sizeof(iovec))
        if d.batches[i].data == NULL or d.batches[i].heads == NULL or d.batches[i].parts == NULL:
            return rc
    lnt_large_pipe(fd)
    rc = -pthread_create(&d.thread, NULL, write_batches, d)
    d.running = rc == 0
    return rc


cdef void departures_close(lnt_departures *d) noexcept nogil:
    """The thread is over when this returns: what was made is written, unless it cannot be or `cancel` was rung."""
    cdef uint32_t i
    if d.running:
        pthread_mutex_lock(&d.lock)
        d.closing = True
        pthread_cond_signal(&d.made)
        pthread_mutex_unlock(&d.lock)
        pthread_join(d.thread, NULL)
    for i in range(DEPARTURES):
        free(d.batches[i].data)
        free(d.batches[i].heads)
        free(d.batches[i].parts)
    if d.running:
        pthread_mutex_destroy(&d.lock)
        pthread_cond_destroy(&d.made)
        pthread_cond_destroy(&d.written)
    memset(d, 0, sizeof(lnt_departures))


# -- who makes them ----------------------------------------------------------------------------------------------------


cdef lnt_departure *departures_room(lnt_departures *d) noexcept nogil:
    """An empty batch, when there is one. NULL: what was made before cannot be written, `rc` says why."""
    cdef lnt_departure *b = &d.batches[d.batches_made % DEPARTURES]
    pthread_mutex_lock(&d.lock)
    d.waited = d.batches_made - d.batches_written == DEPARTURES
    while d.batches_made - d.batches_written == DEPARTURES and d.rc == 0:
        pthread_cond_wait(&d.written, &d.lock)
    pthread_mutex_unlock(&d.lock)
    if d.rc:
        return NULL
    b.n_parts = 0
    b.heads_used = 0
    return b


cdef void departure_add(lnt_departure *b, uint8_t *at, uint64_t n) noexcept nogil:
    """What comes next: bytes of its own memory."""
    cdef iovec *last = &b.parts[b.n_parts - 1]
    if b.n_parts and <uint8_t *>last.iov_base + last.iov_len == at:
        last.iov_len += n
        return
    b.parts[b.n_parts].iov_base = at
    b.parts[b.n_parts].iov_len = n
    b.n_parts += 1


cdef void departures_go(lnt_departures *d) noexcept nogil:
    """The batch that `departures_room` gave is whole."""
    cdef lnt_departure *b = &d.batches[d.batches_made % DEPARTURES]
    cdef uint32_t i
    for i in range(b.n_parts):
        d.length += b.parts[i].iov_len
    pthread_mutex_lock(&d.lock)
    d.batches_made += 1
    pthread_cond_signal(&d.made)
    pthread_mutex_unlock(&d.lock)


cdef int departures_wait(lnt_departures *d) noexcept nogil:
    """Until all that was made is written. 0 or -errno."""
    pthread_mutex_lock(&d.lock)
    while d.batches_written != d.batches_made and d.rc == 0:
        pthread_cond_wait(&d.written, &d.lock)
    pthread_mutex_unlock(&d.lock)
    return d.rc


# -- the thread --------------------------------------------------------------------------------------------------------


cdef void *write_batches(void *arg) noexcept nogil:
    cdef lnt_departures *d = <lnt_departures *>arg
    cdef int rc
    while True:
        pthread_mutex_lock(&d.lock)
        while d.batches_written == d.batches_made and not d.closing:
            pthread_cond_wait(&d.made, &d.lock)
        pthread_mutex_unlock(&d.lock)
        if d.batches_written == d.batches_made:
            return NULL
        rc = write_batch(d, &d.batches[d.batches_written % DEPARTURES])
        pthread_mutex_lock(&d.lock)
        d.rc = rc
        d.batches_written += 1
        pthread_cond_signal(&d.written)
        pthread_mutex_unlock(&d.lock)
        if rc:
            return NULL


cdef int write_batch(lnt_departures *d, lnt_departure *b) noexcept nogil:
    """0 or -errno."""
    cdef iovec[PARTS_AT_ONCE] v
    cdef uint32_t part = 0
    cdef uint64_t into = 0            # of that part, written
    cdef int n
    cdef ssize_t put
    while part < b.n_parts:
        n = take_parts(b, part, into, v, d.limit_bytes // PACES + 1 if d.limit_bytes else ~<uint64_t>0)
        put = lnt_give_some(d.fd, d.cancel, &d.regular, v, n)
        if put < 0:
            return <int>put
        n = rest(d, <uint64_t>put)
        if n < 0:
            return n
        into += <uint64_t>put
        while part < b.n_parts and into >= b.parts[part].iov_len:
            into -= b.parts[part].iov_len
            part += 1
    return 0


cdef int take_parts(lnt_departure *b, uint32_t part, uint64_t into, iovec *v, uint64_t most) noexcept nogil:
    """What is written next, at most so many bytes. How many parts."""
    cdef int n = 0
    while n < PARTS_AT_ONCE and part < b.n_parts and most:
        v[n].iov_base = <uint8_t *>b.parts[part].iov_base + into
        v[n].iov_len = b.parts[part].iov_len - into
        if v[n].iov_len > most:
            v[n].iov_len = most
        most -= v[n].iov_len
        into = 0
        part += 1
        n += 1
    return n


cdef int rest(lnt_departures *d, uint64_t put) noexcept nogil:
    """So that no more is sent than may be: a little at a time, so that the other end hears that more comes. 0 or -errno."""
    cdef uint64_t now_us
    cdef int rc = 0
    if d.limit_bytes == 0:
        return 0
    now_us = lnt_mono_us()
    d.due_us = (d.due_us if d.due_us > now_us else now_us) + put * 1000000 // d.limit_bytes
    while rc == 0 and d.due_us > now_us + 1000:
        rc = lnt_rest(d.cancel, <int>min((d.due_us - now_us) // 1000, <uint64_t>1000))
        now_us = lnt_mono_us()
    return rc
