# Hashing of numbers: where tables of a power of two of places keep what belongs to a key.
from libc.stdint cimport uint64_t

cdef inline uint64_t hash_spread(uint64_t key) noexcept nogil:
    """All bits of the key, multiplied into the upper ones of the result (by the golden ratio; D. E. Knuth, TAOCP 3, 6.4)."""
    return key * <uint64_t>0x9E3779B97F4A7C15

cdef inline uint64_t hash_slot(uint64_t key, int bits) noexcept nogil:
    """The key's place in a table of 2^bits."""
    return hash_spread(key) >> (64 - bits)
