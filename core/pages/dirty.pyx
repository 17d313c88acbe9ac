"""Arrays of dirty pages, put in the order of their ids: neighbours of the medium come together. Owns nothing."""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

cdef enum:
    DIGIT_BITS = 11
    DIGITS = 2048


cdef void dirty_sort(lnt_dirty *these, lnt_dirty *others, uint64_t n, uint64_t ids) noexcept nogil:
    """By their ids, all of them below `ids`: digit by digit, to `others` and back."""
    cdef uint32_t[DIGITS] starts
    cdef uint32_t total, before
    cdef uint64_t i, shift = 0
    cdef lnt_dirty *source = these
    cdef lnt_dirty *to = others
    while n > 1 and ids >> shift:
        memset(starts, 0, sizeof(starts))
        for i in range(n):
            starts[source[i].id >> shift & (DIGITS - 1)] += 1
        total = 0
        for i in range(DIGITS):
            before = total
            total += starts[i]
            starts[i] = before
        for i in range(n):
            to[starts[source[i].id >> shift & (DIGITS - 1)]] = source[i]
            starts[source[i].id >> shift & (DIGITS - 1)] += 1
        source, to = to, source
        shift += DIGIT_BITS
    if source != these:
        memcpy(these, source, n * sizeof(lnt_dirty))
