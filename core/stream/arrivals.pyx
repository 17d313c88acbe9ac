"""Frames of a stream as they arrive: read from a descriptor and verified on a thread of its own, ahead of whoever takes them.

Lives here and nowhere else: bytes of a descriptor to verified frames in memory. ROOM_BYTES bound what is kept, whatever comes;
when nobody takes, nothing is read. The thread ends with the stream, or at `arrivals_close`.
"""
from core.base.memory cimport mem_aligned, mem_new
from core.stream.frame cimport (
    FLAG_MORE, FLAG_ZSTD, SE_OK, SE_TRUNCATED, ST_END, ST_ERROR, ST_EXTENTS, S_EXTENT_BYTES, S_HEADER_BYTES, S_MAX_BODY_BYTES,
    body_check, body_unpack, end_check, header_known, header_read, lnt_stream_header, order_take, table_check,
)
from core.stream.packing cimport packer_free
from core.wire.thread cimport (
    pthread_cond_destroy, pthread_cond_init, pthread_cond_signal, pthread_cond_wait, pthread_create, pthread_join,
    pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock,
)
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove, memset

cdef extern from "stream/descriptor.h" nogil:
    ssize_t lnt_take(int fd, int cancel, int stop, int regular, void *buf, size_t n)
    int lnt_is_regular(int fd)
    int lnt_alarm()
    void lnt_ring_alarm(int fd)
    void lnt_large_pipe(int fd)
cdef extern from "<unistd.h>" nogil:
    int close(int fd)
cdef extern from "<errno.h>":
    int ENOMEM

cdef enum:
    BLOCK = 4096
    INPUT_BYTES = 256 << 10       # read at once; a longer body is read to where it goes
    ROOM_BYTES = 12 << 20


cdef int arrivals_open(lnt_arrivals *a, int fd, int cancel) noexcept nogil:
    """Begin to read. A wait for `fd` ends when `cancel` becomes readable. 0 or -errno."""
    cdef int rc
    a.fd = fd
    a.cancel = cancel
    a.regular = lnt_is_regular(fd)
    a.stop_fd = lnt_alarm()
    a.room = <uint8_t *>mem_aligned(ROOM_BYTES)
    a.frames = <lnt_arrived *>mem_new(ARRIVED_MOST * sizeof(lnt_arrived))
    a.input = <uint8_t *>mem_aligned(INPUT_BYTES)
    a.stored = <uint8_t *>mem_aligned(S_MAX_BODY_BYTES)
    pthread_mutex_init(&a.lock, NULL)
    pthread_cond_init(&a.came, NULL)
    pthread_cond_init(&a.went, NULL)
    rc = -ENOMEM
    if a.room != NULL and a.frames != NULL and a.input != NULL and a.stored != NULL and a.stop_fd >= 0:
        lnt_large_pipe(fd)
        rc = -pthread_create(&a.thread, NULL, read_frames, a)
    a.running = rc == 0
    return rc


cdef void arrivals_close(lnt_arrivals *a) noexcept nogil:
    """The thread is over when this returns; frames that nobody took are gone."""
    if a.running:
        pthread_mutex_lock(&a.lock)
        a.stopping = True
        pthread_cond_signal(&a.went)
        pthread_mutex_unlock(&a.lock)
        lnt_ring_alarm(a.stop_fd)
        pthread_join(a.thread, NULL)
    if a.frames == NULL and a.room == NULL:
        return
    pthread_mutex_destroy(&a.lock)
    pthread_cond_destroy(&a.came)
    pthread_cond_destroy(&a.went)
    packer_free(&a.packer)
    free(a.room)
    free(a.frames)
    free(a.input)
    free(a.stored)
    if a.stop_fd >= 0:
        close(a.stop_fd)
    memset(a, 0, sizeof(lnt_arrivals))


# -- who takes them ----------------------------------------------------------------------------------------------------


cdef lnt_arrived *arrivals_wait(lnt_arrivals *a) noexcept nogil:
    """The first frame, when it is there: one with `rc` always comes, and stays."""
    pthread_mutex_lock(&a.lock)
    while a.frames_in == a.frames_out:
        pthread_cond_wait(&a.came, &a.lock)
    pthread_mutex_unlock(&a.lock)
    return &a.frames[a.frames_out % ARRIVED_MOST]


cdef lnt_arrived *arrivals_look(lnt_arrivals *a, uint32_t ahead) noexcept nogil:
    """The frame that stands so many behind the first one; NULL: it is not there yet."""
    cdef bint there
    pthread_mutex_lock(&a.lock)
    there = a.frames_in - a.frames_out > ahead
    pthread_mutex_unlock(&a.lock)
    return &a.frames[(a.frames_out + ahead) % ARRIVED_MOST] if there else NULL


cdef void arrivals_free(lnt_arrivals *a, uint32_t n) noexcept nogil:
    """Let go of the first n frames."""
    pthread_mutex_lock(&a.lock)
    if n:
        a.freed = a.frames[(a.frames_out + n - 1) % ARRIVED_MOST].end
        a.frames_out += n
        pthread_cond_signal(&a.went)
    pthread_mutex_unlock(&a.lock)


# -- the thread --------------------------------------------------------------------------------------------------------


cdef void *read_frames(void *arg) noexcept nogil:
    cdef lnt_arrivals *a = <lnt_arrivals *>arg
    cdef lnt_arrived *x
    while True:
        x = free_frame(a)
        if x == NULL:
            return NULL
        x.rc = read_frame(a, x)
        if a.stopping:
            return NULL
        pthread_mutex_lock(&a.lock)
        x.end = a.written
        a.frames_in += 1
        pthread_cond_signal(&a.came)
        pthread_mutex_unlock(&a.lock)
        if x.rc or x.h.type == ST_ERROR or x.h.type == ST_END and not x.h.flags & FLAG_MORE:
            return NULL


cdef lnt_arrived *free_frame(lnt_arrivals *a) noexcept nogil:
    """Where the next frame goes; NULL: it is to end."""
    pthread_mutex_lock(&a.lock)
    while a.frames_in - a.frames_out == ARRIVED_MOST and not a.stopping:
        pthread_cond_wait(&a.went, &a.lock)
    pthread_mutex_unlock(&a.lock)
    return NULL if a.stopping else &a.frames[a.frames_in % ARRIVED_MOST]


cdef uint8_t *free_room(lnt_arrivals *a, uint32_t table, uint32_t raw_bytes) noexcept nogil:
    """Room for a body whose payload begins on a page. NULL: it is to end."""
    cdef uint64_t length = BLOCK + (raw_bytes - table + BLOCK - 1) // BLOCK * BLOCK      # a full table is one page
    cdef uint64_t at = a.written % ROOM_BYTES
    if at + length > ROOM_BYTES:
        a.written += ROOM_BYTES - at
        at = 0
    a.written += length
    pthread_mutex_lock(&a.lock)
    while a.written - a.freed > ROOM_BYTES and not a.stopping:
        if a.frames_in == a.frames_out:
            a.freed = a.written - length        # nothing is kept: what is left over at the ring's end is free, too
            break
        pthread_cond_wait(&a.went, &a.lock)
    pthread_mutex_unlock(&a.lock)
    return NULL if a.stopping else a.room + at + BLOCK - table


cdef int have(lnt_arrivals *a, uint64_t n) noexcept nogil:
    """Read until n bytes lie in the input."""
    cdef ssize_t got
    if a.first == a.last:
        a.first = a.last = 0
    if a.first + n > INPUT_BYTES:
        memmove(a.input, a.input + a.first, a.last - a.first)
        a.last -= a.first
        a.first = 0
    while a.last - a.first < n:
        got = lnt_take(a.fd, a.cancel, a.stop_fd, a.regular, a.input + a.last, INPUT_BYTES - a.last)
        if got <= 0:
            return <int>got if got < 0 else SE_TRUNCATED
        a.last += <uint64_t>got
    return 0


cdef int read_body(lnt_arrivals *a, uint8_t *to, uint64_t n) noexcept nogil:
    """Read n bytes to where they go."""
    cdef ssize_t got
    cdef uint64_t at = a.last - a.first if a.last - a.first < n else n
    memcpy(to, a.input + a.first, at)
    a.first += at
    while at < n:
        if n - at < INPUT_BYTES // 2:           # what follows comes along
            got = have(a, n - at)
            if got:
                return <int>got
            memcpy(to + at, a.input + a.first, n - at)
            a.first += n - at
            return 0
        got = lnt_take(a.fd, a.cancel, a.stop_fd, a.regular, to + at, n - at)
        if got <= 0:
            return <int>got if got < 0 else SE_TRUNCATED
        at += <uint64_t>got
    return 0


cdef int read_frame(lnt_arrivals *a, lnt_arrived *x) noexcept nogil:
    cdef lnt_stream_header *h = &x.h
    cdef uint32_t table
    cdef uint8_t *stored = a.stored
    cdef int rc = have(a, S_HEADER_BYTES)
    memset(h, 0, sizeof(lnt_stream_header))
    x.raw = NULL
    if rc == SE_OK:
        rc = header_read(a.input + a.first, h)
    if rc:
        return rc
    a.first += S_HEADER_BYTES
    table = h.extents * S_EXTENT_BYTES
    if header_known(h) and h.raw_bytes:
        x.raw = free_room(a, table, h.raw_bytes)
        if x.raw == NULL:
            return SE_TRUNCATED                 # nobody will look
        if not h.flags & FLAG_ZSTD:
            stored = x.raw
    rc = read_body(a, stored, h.stored_bytes)
    if rc == SE_OK:
        rc = body_check(h, stored)
    if rc == SE_OK:
        rc = order_take(&a.order, h)
    if rc or not header_known(h):
        return rc
    if stored != x.raw and x.raw != NULL:
        rc = body_unpack(&a.packer, h, stored, x.raw)
    if rc == SE_OK and h.type == ST_EXTENTS:
        rc = table_check(&a.order, h, x.raw)
    if rc == SE_OK and h.type == ST_END:
        rc = end_check(&a.order, x.raw)
    return rc
