# Data buffers in powers of two from 4 KiB, page-aligned (O_DIRECT), bounded, recycled without system calls.
from core._session cimport BUF_CLASSES, lnt_buffers
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <sys/mman.h>
    static void *lnt_map(size_t n)
    {
        void *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return p == MAP_FAILED ? 0 : p;
    }
    """
    void *lnt_map(size_t n) nogil
    int munmap(void *p, size_t n) nogil

cdef enum:
    CHUNK_BYTES = 1 << 20             # buffers of up to 64 KiB are cut from chunks of this size, which are never unmapped
    CHUNK_CLASS = 4


cdef void buffers_init(lnt_buffers *b, uint64_t limit) noexcept nogil:
    memset(b, 0, sizeof(lnt_buffers))
    b.limit = limit
    b.conn_limit = limit // 4 if limit // 4 > (32 << 20) else 32 << 20


cdef void buffers_free_all(lnt_buffers *b) noexcept nogil:
    # Big buffers only: chunks live as long as the process's next reactor may want them no more than once.
    cdef uint32_t k
    cdef uint8_t *p
    for k in range(CHUNK_CLASS + 1, BUF_CLASSES):
        while b.free[k] != NULL:
            p = b.free[k]
            b.free[k] = (<uint8_t **>p)[0]
            munmap(p, <size_t>4096 << k)


cdef void trim(lnt_buffers *b) noexcept nogil:
    # Unmaps cached big buffers, biggest first, until what is cached and used fits the limit.
    cdef int k = BUF_CLASSES - 1
    cdef uint8_t *p
    while k > CHUNK_CLASS and b.used + b.cached > b.limit:
        if b.free[k] == NULL:
            k -= 1
            continue
        p = b.free[k]
        b.free[k] = (<uint8_t **>p)[0]
        b.cached -= <uint64_t>4096 << k
        munmap(p, <size_t>4096 << k)


cdef bint refill(lnt_buffers *b, uint8_t k) noexcept nogil:
    cdef uint64_t size = <uint64_t>4096 << k
    cdef uint64_t at = 0
    cdef uint64_t total = CHUNK_BYTES if k <= CHUNK_CLASS else size
    cdef uint8_t *p = <uint8_t *>lnt_map(total)
    if p == NULL:
        return False
    while at < total:
        (<uint8_t **>(p + total - size - at))[0] = b.free[k]
        b.free[k] = p + total - size - at
        at += size
    b.cached += total
    return True


cdef uint8_t *buffer_take(lnt_buffers *b, uint64_t length, uint8_t *size_class, bint overdraft) noexcept nogil:
    # A buffer of at least `length` bytes; NULL beyond the limit (never, short of memory, with overdraft).
    cdef uint8_t k = 0
    cdef uint64_t size
    cdef uint8_t *p
    while (<uint64_t>4096 << k) < length:
        k += 1
        if k >= BUF_CLASSES:
            return NULL
    size = <uint64_t>4096 << k
    if b.used + size > b.limit and not overdraft:
        return NULL
    if b.free[k] == NULL:
        if not refill(b, k):
            return NULL
        trim(b)
        if b.free[k] == NULL and not refill(b, k):
            return NULL
    p = b.free[k]
    b.free[k] = (<uint8_t **>p)[0]
    b.cached -= size
    b.used += size
    size_class[0] = k
    return p


cdef void buffer_give(lnt_buffers *b, uint8_t *p, uint8_t size_class) noexcept nogil:
    cdef uint64_t size = <uint64_t>4096 << size_class
    (<uint8_t **>p)[0] = b.free[size_class]
    b.free[size_class] = p
    b.used -= size
    b.cached += size
    if b.used + b.cached > b.limit:
        trim(b)
