"""Receive buffers: memory that the kernel fills with what comes on any connection, until nobody reads it any more.

A buffer is held while it is parsed, and by each WRITE whose data lie in it as they came: those are copied once, to where they
belong (core/wire/task). Half of the buffers may be held at a time; beyond that data are copied out, so that no command that waits
keeps others from being received. Lives here and nowhere else: `lnt_inbound`.
"""
from core.base.check cimport lnt_assert
from core.base.memory cimport mem_mapped
from core.wire.uring cimport lnt_buf_give
from libc.errno cimport ENOMEM
from libc.string cimport memset

cdef extern from *:
    """
    #include <stddef.h>
    #include <sys/mman.h>
    #ifdef __SANITIZE_ADDRESS__     /* who reads what the kernel may be filling is seen */
    #include <sanitizer/asan_interface.h>
    #define LNT_POISON(at, n) __asan_poison_memory_region(at, n)
    #define LNT_UNPOISON(at, n) __asan_unpoison_memory_region(at, n)
    #else
    #define LNT_POISON(at, n) ((void)(at))
    #define LNT_UNPOISON(at, n) ((void)(at))
    #endif
    """
    void LNT_POISON(void *at, size_t n) nogil
    void LNT_UNPOISON(void *at, size_t n) nogil
    int munmap(void *p, size_t n) nogil


cdef inline uint8_t *buffer_at(lnt_inbound *b, uint32_t number) noexcept nogil:
    return b.memory + <size_t>number * INBOUND_BYTES


cdef inline uint32_t number_of(lnt_inbound *b, const uint8_t *at) noexcept nogil:
    return <uint32_t>((at - b.memory) // INBOUND_BYTES)


cdef void give(lnt_inbound *b, uint32_t number) noexcept nogil:
    LNT_POISON(buffer_at(b, number), INBOUND_BYTES)
    lnt_buf_give(b.given, INBOUND_BUFFERS, buffer_at(b, number), INBOUND_BYTES, <unsigned short>number)


cdef int inbound_open(lnt_inbound *b, lnt_ring *ring) noexcept nogil:
    """All of them are the kernel's. 0 or -errno."""
    cdef int rc = 0
    cdef uint32_t i
    memset(b, 0, sizeof(lnt_inbound))
    b.ring = ring
    b.memory = <uint8_t *>mem_mapped(<size_t>INBOUND_BYTES * INBOUND_BUFFERS, 0)
    b.given = ring.api.setup_buf_ring(ring, INBOUND_BUFFERS, INBOUND_GROUP, 0, &rc)
    if b.memory == NULL or b.given == NULL:
        return rc if rc < 0 else -ENOMEM
    for i in range(INBOUND_BUFFERS):
        give(b, i)
    return 0


cdef void inbound_close(lnt_inbound *b) noexcept nogil:
    """With the ring: nobody holds one."""
    if b.given != NULL:
        b.ring.api.free_buf_ring(b.ring, b.given, INBOUND_BUFFERS, INBOUND_GROUP)
        b.given = NULL
    if b.memory != NULL:
        LNT_UNPOISON(b.memory, <size_t>INBOUND_BYTES * INBOUND_BUFFERS)
        munmap(b.memory, <size_t>INBOUND_BYTES * INBOUND_BUFFERS)
        b.memory = NULL


cdef uint8_t *inbound_arrived(lnt_inbound *b, uint32_t number) noexcept nogil:
    """The kernel has filled it: where it begins. It is held until it is let go of."""
    lnt_assert(b.holds[number] == 0, "the kernel fills what nobody holds")
    b.holds[number] = 1
    b.out += 1
    LNT_UNPOISON(buffer_at(b, number), INBOUND_BYTES)
    return buffer_at(b, number)


cdef bint inbound_hold(lnt_inbound *b, const uint8_t *at) noexcept nogil:
    """Hold the buffer that `at` lies in once more. False: too many are held, or it is none of them (what a login left over)."""
    if b.out > INBOUND_HELD_MAX or not b.memory <= at < b.memory + <size_t>INBOUND_BYTES * INBOUND_BUFFERS:
        return False
    b.held += 1
    b.holds[number_of(b, at)] += 1
    return True


cdef void inbound_let_go(lnt_inbound *b, const uint8_t *at) noexcept nogil:
    """Of the buffer that `at` lies in. The last one gives it to the kernel."""
    cdef uint32_t number = number_of(b, at)
    lnt_assert(b.holds[number] > 0, "only what is held is let go of")
    b.holds[number] -= 1
    if b.holds[number] == 0:
        b.out -= 1
        give(b, number)
