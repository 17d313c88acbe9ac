"""Limits that reactors share: commands and bytes a second, of a volume or a host, with a burst.

Lives here and nowhere else: `lnt_limit`. A limit is two words that say when the next command and the next byte are due (the
generic cell rate algorithm, which is a token bucket without a timer): who takes moves them on. So it is held over all sessions
and reactors, and nobody fills buckets. What is taken at once, and who waits, is core/wire/delay.pyx.
"""

cdef extern from "base/native.h" nogil:
    uint64_t lnt_mono_us()


cdef class Limit:
    def __init__(self, *, uint64_t ops_per_second=0, uint64_t bytes_per_second=0, double burst_s=0.1):
        self.change(ops_per_second=ops_per_second, bytes_per_second=bytes_per_second, burst_s=burst_s)

    def change(self, *, uint64_t ops_per_second=0, uint64_t bytes_per_second=0, double burst_s=0.1):
        cdef uint64_t now_ns = lnt_mono_us() * 1000
        if not 0 <= burst_s <= 86400:
            raise ValueError("a burst is 0 to 86400 seconds")
        lnt_limit_set(&self.limit.ops_per_second, ops_per_second)
        lnt_limit_set(&self.limit.bytes_per_second, bytes_per_second)
        lnt_limit_set(&self.limit.burst_ns, <uint64_t>(burst_s * 1e9))
        lnt_limit_set(&self.limit.next_op_ns, now_ns)       # what was promised at the rates before is void
        lnt_limit_set(&self.limit.next_byte_ns, now_ns)

    @property
    def rates(self):
        return lnt_limit_word(&self.limit.ops_per_second), lnt_limit_word(&self.limit.bytes_per_second)

    # -- for tests: by a clock of theirs --------------------------------------------------------------------------------

    def take_ops(self, uint64_t ops, uint64_t now_ns):
        return lnt_limit_take(&self.limit.next_op_ns, self.limit.ops_per_second, self.limit.burst_ns, ops, now_ns)

    def take_bytes(self, uint64_t count, uint64_t now_ns):
        return lnt_limit_take(&self.limit.next_byte_ns, self.limit.bytes_per_second, self.limit.burst_ns, count, now_ns)
