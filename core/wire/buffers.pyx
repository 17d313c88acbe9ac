"""Data buffers in powers of two from 4 KiB, page-aligned (O_DIRECT), bounded, recycled without system calls.

From 16 KiB on they lie in huge pages: a request to a disk then is a few pieces of memory, not one for each page of 4 KiB. Lives
here and nowhere else: `lnt_buffers`.
"""
from core.base.memory cimport mem_aligned, mem_mapped
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/mman.h>
    #ifdef __SANITIZE_ADDRESS__     /* each buffer on its own, so that a byte too many, or one too late, is seen */
    enum { LNT_EACH_ITS_OWN = 1 };
    #else
    enum { LNT_EACH_ITS_OWN = 0 };
    #endif
    #define LNT_HUGE ((size_t)2 << 20)
    static void lnt_advise_huge(void *at, size_t n) { madvise(at, n, MADV_HUGEPAGE); }
    """
    size_t LNT_HUGE
    bint LNT_EACH_ITS_OWN
    void lnt_advise_huge(void *at, size_t n) nogil
    int munmap(void *p, size_t n) nogil

cdef enum:
    CHUNK_BYTES = 1 << 20             # buffers of up to 64 KiB are cut from chunks of this size, aligned to it
    CHUNK_CLASS = 4
    ARENA_CLASS = 2                   # 16 KiB to 1 MiB: from the arena, a huge page at a time, while it lasts
    ARENA_BYTES = 64 << 20
    IDLE_KEPT_BYTES = 16 << 20        # of memory that nobody has used for a while so much is kept


cdef void *map_huge(size_t size_bytes) noexcept nogil:
    # Whole huge pages, if the system gives any; memory comes with the first touch.
    cdef void *at = mem_mapped(size_bytes, LNT_HUGE)
    if at != NULL:
        lnt_advise_huge(at, size_bytes)
    return at


cdef void buffers_init(lnt_buffers *b, uint64_t limit) noexcept nogil:
    memset(b, 0, sizeof(lnt_buffers))
    b.limit = limit
    b.connection_limit = limit // 4 if limit // 4 > (32 << 20) else 32 << 20
    b.arena_bytes = limit // 4 // LNT_HUGE * LNT_HUGE if limit // 4 < ARENA_BYTES else ARENA_BYTES


cdef inline bint in_arena(lnt_buffers *b, uint8_t *p) noexcept nogil:
    return b.arena != NULL and b.arena <= p < b.arena + b.arena_bytes


cdef void chunks_free(lnt_buffers *b) noexcept nogil:
    # While no buffer is handed out: all pieces of a chunk are on the free lists, the first of them at the chunk's address.
    cdef uint8_t *chunks = NULL
    cdef uint8_t *p
    cdef uint8_t *following
    cdef uint32_t k
    for k in range(CHUNK_CLASS + 1):
        p = b.free[k]
        b.free[k] = NULL
        while p != NULL:
            following = (<uint8_t **>p)[0]
            if in_arena(b, p):
                (<uint8_t **>p)[0] = b.free[k]
                b.free[k] = p
            else:
                b.cached -= <uint64_t>4096 << k
                if <uintptr_t>p % CHUNK_BYTES == 0:
                    (<uint8_t **>p)[0] = chunks
                    chunks = p
            p = following
    while chunks != NULL:
        p = chunks
        chunks = (<uint8_t **>p)[0]
        munmap(p, CHUNK_BYTES)


cdef bint buffers_idle(lnt_buffers *b) noexcept nogil:
    # Gives the system back what nobody has taken since the last look; true when it must be looked again later.
    b.grown = 0
    if b.used + b.cached <= IDLE_KEPT_BYTES:
        return False
    if b.taken != b.taken_before:
        b.taken_before = b.taken
        return True
    buffers_free_all(b)
    return b.used + b.cached > IDLE_KEPT_BYTES


cdef void buffers_free_all(lnt_buffers *b) noexcept nogil:
    # Big buffers; the arena and the chunks too when none of them is handed out.
    cdef uint32_t k
    cdef uint8_t *p
    for k in range(BUFFER_CLASSES):
        while b.loose[k] != NULL:
            p = b.loose[k]
            b.loose[k] = (<uint8_t **>p)[0]
            b.cached -= <uint64_t>4096 << k
            munmap(p, <size_t>4096 << k)
    if b.used:
        return
    chunks_free(b)
    if b.arena == NULL:
        return
    for k in range(ARENA_CLASS, BUFFER_CLASSES):
        while b.free[k] != NULL:
            b.free[k] = (<uint8_t **>b.free[k])[0]
            b.cached -= <uint64_t>4096 << k
    munmap(b.arena, b.arena_bytes)
    b.arena = NULL
    b.arena_used = 0


cdef void trim(lnt_buffers *b) noexcept nogil:
    # Unmaps cached big buffers, biggest first, until what is cached and used fits the limit.
    cdef int k = BUFFER_CLASSES - 1
    cdef uint8_t *p
    while k > CHUNK_CLASS and b.used + b.charged + b.cached > b.limit:
        if b.loose[k] == NULL:
            k -= 1
            continue
        p = b.loose[k]
        b.loose[k] = (<uint8_t **>p)[0]
        b.cached -= <uint64_t>4096 << k
        munmap(p, <size_t>4096 << k)


cdef uint8_t *arena_take(lnt_buffers *b) noexcept nogil:
    # A huge page of the arena, or NULL when it is used up.
    if b.arena == NULL and b.arena_bytes:
        b.arena = <uint8_t *>map_huge(b.arena_bytes)
        if b.arena == NULL:
            b.arena_bytes = 0
    if b.arena_used + LNT_HUGE > b.arena_bytes:
        return NULL
    b.arena_used += LNT_HUGE
    return b.arena + b.arena_used - LNT_HUGE


cdef bint refill(lnt_buffers *b, uint8_t k) noexcept nogil:
    cdef uint64_t size = <uint64_t>4096 << k
    cdef uint64_t at = 0
    cdef uint64_t total = CHUNK_BYTES if k <= CHUNK_CLASS else size
    cdef uint8_t *p = NULL
    cdef uint8_t **head = &b.free[k]
    if k >= ARENA_CLASS and size < LNT_HUGE:
        p = arena_take(b)
    if p != NULL:
        total = LNT_HUGE
    else:
        if k <= CHUNK_CLASS:
            p = <uint8_t *>mem_mapped(total, CHUNK_BYTES)
        else:
            p = <uint8_t *>map_huge(total) if size >= LNT_HUGE else <uint8_t *>mem_mapped(total, 0)
            head = &b.loose[k]
    b.refused = p == NULL
    if p == NULL:
        return False
    while at < total:
        (<uint8_t **>(p + total - size - at))[0] = head[0]
        head[0] = p + total - size - at
        at += size
    b.cached += total
    b.grown = 1
    return True


cdef uint8_t *buffer_take(lnt_buffers *b, uint64_t length, uint8_t *size_class, bint overdraft) noexcept nogil:
    # A buffer of at least `length` bytes; NULL beyond the limit (never, short of memory, with overdraft).
    cdef uint8_t k = 0
    cdef uint64_t size
    cdef uint8_t *p
    cdef uint8_t **head
    while (<uint64_t>4096 << k) < length:
        k += 1
        if k >= BUFFER_CLASSES:
            return NULL
    size = <uint64_t>4096 << k
    if b.used + b.charged + size > b.limit and not overdraft:
        return NULL
    if LNT_EACH_ITS_OWN:
        p = <uint8_t *>mem_aligned(size)
        b.refused = p == NULL
        if p != NULL:
            b.used += size
            size_class[0] = k
        return p
    if b.free[k] == NULL and b.loose[k] == NULL:
        if not refill(b, k):
            return NULL
        trim(b)
        if b.free[k] == NULL and b.loose[k] == NULL and not refill(b, k):
            return NULL
    head = &b.free[k] if b.free[k] != NULL else &b.loose[k]
    p = head[0]
    head[0] = (<uint8_t **>p)[0]
    b.cached -= size
    b.used += size
    b.taken += 1
    size_class[0] = k
    return p


cdef void buffer_give(lnt_buffers *b, uint8_t *p, uint8_t size_class) noexcept nogil:
    cdef uint64_t size = <uint64_t>4096 << size_class
    cdef uint8_t **head = &b.free[size_class] if size_class <= CHUNK_CLASS or in_arena(b, p) else &b.loose[size_class]
    if LNT_EACH_ITS_OWN:
        b.used -= size
        free(p)
        return
    (<uint8_t **>p)[0] = head[0]
    head[0] = p
    b.used -= size
    b.cached += size
    if b.used + b.charged + b.cached > b.limit:
        trim(b)


cdef bint buffer_charge(lnt_buffers *b, uint64_t length, bint overdraft) noexcept nogil:
    # Data that lie elsewhere count as if they lay in buffers; False beyond the limit (never with overdraft).
    if b.used + b.charged + length > b.limit and not overdraft:
        return False
    b.charged += length
    if b.used + b.charged + b.cached > b.limit:
        trim(b)
    return True


cdef void buffer_uncharge(lnt_buffers *b, uint64_t length) noexcept nogil:
    b.charged -= length
