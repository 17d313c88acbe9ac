# Limits of a volume or a host: so many commands, so many bytes a second, with a burst.
from core.wire.nexus cimport lnt_limit
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    /* Takes `amount` of what flows at `rate` a second: when it is due. A rate of 0 is none, and all is due. The word `next_ns`
       says when the next is due; what was not used for longer than the burst is lost. Threads take without a lock. */
    static uint64_t lnt_limit_take(uint64_t *next_ns, uint64_t rate, uint64_t burst_ns, uint64_t amount, uint64_t now_ns)
    {
        uint64_t next, due, floor = now_ns > burst_ns ? now_ns - burst_ns : 0;
        if (!rate)
            return 0;
        next = __atomic_load_n(next_ns, __ATOMIC_RELAXED);
        do
            due = next > floor ? next : floor;
        while (!__atomic_compare_exchange_n(next_ns, &next, due + (uint64_t)((unsigned __int128)amount * 1000000000 / rate), 0,
                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED));
        return due;
    }
    static uint64_t lnt_limit_word(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
    static void lnt_limit_set(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
    """
    uint64_t lnt_limit_take(uint64_t *next_ns, uint64_t rate, uint64_t burst_ns, uint64_t amount, uint64_t now_ns) nogil
    uint64_t lnt_limit_word(const uint64_t *word) nogil
    void lnt_limit_set(uint64_t *word, uint64_t value) nogil

cdef class Limit:
    cdef lnt_limit limit
