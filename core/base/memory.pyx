"""Every allocation of the native core: here and nowhere else, so that tests can let each of them fail in turn.

Running out of memory is a limit like others (docs/durability.md, "Memory"): what an operation needs it asks for before it changes
anything, and fails alone with `no_memory` when it does not get it; work in the background keeps what it has and tries again.
"""
from libc.stdlib cimport calloc, malloc, realloc

cdef extern from "<stdatomic.h>" nogil:
    """
    #include <stdint.h>
    #include <stdlib.h>
    #include <sys/mman.h>

    static void *lnt_alloc_aligned(size_t bytes)
    {
        void *p = NULL;
        return posix_memalign(&p, 4096, (bytes + 4095) & ~(size_t)4095) ? NULL : p;
    }

    static void *lnt_map(size_t n, size_t grain)
    {
        uint8_t *p = mmap(0, n + grain, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at;
        if (p == MAP_FAILED || !grain)
            return p == MAP_FAILED ? 0 : p;
        at = (uint8_t *)(((uintptr_t)p + grain - 1) & ~(uintptr_t)(grain - 1));
        if (at > p)
            munmap(p, at - p);
        if (p + grain > at)
            munmap(at + n, p + grain - at);
        return at;
    }

    static _Atomic long lnt_fail_after = -1;     /* so many more allocations succeed; -1: all */
    static _Atomic long lnt_fail_count = 0;      /* and then so many fail */
    static _Atomic long lnt_failures = 0;

    static int lnt_denied(void)
    {
        if (__builtin_expect(atomic_load_explicit(&lnt_fail_after, memory_order_relaxed) < 0, 1)) return 0;
        if (atomic_fetch_sub(&lnt_fail_after, 1) > 0) return 0;
        atomic_store(&lnt_fail_after, 0);
        if (atomic_fetch_sub(&lnt_fail_count, 1) <= 0) {
            atomic_store(&lnt_fail_after, -1);
            return 0;
        }
        atomic_fetch_add(&lnt_failures, 1);
        return 1;
    }

    static long lnt_fail_set(long after, long count)
    {
        atomic_store(&lnt_fail_after, -1);
        atomic_store(&lnt_fail_count, count);
        atomic_store(&lnt_fail_after, after);
        return atomic_exchange(&lnt_failures, 0);
    }
    """
    void *lnt_alloc_aligned(size_t)
    void *lnt_map(size_t, size_t)
    int lnt_denied()
    long lnt_fail_set(long after, long count)


cdef void *mem_new(size_t size_bytes) noexcept nogil:
    return NULL if lnt_denied() else malloc(size_bytes)


cdef void *mem_zeroed(size_t size_bytes) noexcept nogil:
    return NULL if lnt_denied() else calloc(1, size_bytes)


cdef void *mem_aligned(size_t size_bytes) noexcept nogil:
    """At the start of a page, whole pages, for O_DIRECT."""
    return NULL if lnt_denied() else lnt_alloc_aligned(size_bytes)


cdef void *mem_mapped(size_t size_bytes, size_t grain_bytes) noexcept nogil:
    """Zeroed pages of the system's own, to be given back by munmap, at a multiple of `grain_bytes` (0: of a page)."""
    return NULL if lnt_denied() else lnt_map(size_bytes, grain_bytes)


cdef void *mem_wider(void *old, size_t size_bytes) noexcept nogil:
    return NULL if lnt_denied() else realloc(old, size_bytes)


cdef int mem_widen(void **array, size_t size_bytes) noexcept nogil:
    """Give an array more room, where it is or elsewhere. 0: there is none, and it stays as it is."""
    cdef void *wider = mem_wider(array[0], size_bytes)
    if wider == NULL:
        return 0
    array[0] = wider
    return 1


def fail(long after, long count=1):
    return lnt_fail_set(after, count)
