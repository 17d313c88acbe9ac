"""Whether the kernel holds writes into the page cache back: then the ring's worker threads wait instead of the reactor.

Lives here and nowhere else: `lnt_throttle`. An inline write that took long and made its thread wait is a sign of it, unless the
device is punching a hole meanwhile. That write waited for the lock of the file, as any other will, by whatever thread. It costs
all of them more if they go to the ring for that.
"""

cdef enum:
    SLOW_PAUSE_US = 10000             # for so long worker threads wait ...
    SLOW_PAUSE_MAX_US = 200000        # ... and twice as long, up to this, where the next one is soon throttled, too


cdef void throttle_wrote(lnt_throttle *t, uint64_t began_us, uint64_t ended_us, bint waited, bint punching) noexcept nogil:
    """An inline write has ended. `waited`: its thread slept; `punching`: a discard is under way."""
    cdef bint again
    if ended_us - began_us <= SLOW_WRITE_US or punching or not waited:
        return
    # A sync that was in its way is soon over; what the kernel holds back it holds back again.
    again = ended_us < t.over_us + 2 * t.pause_us
    t.pause_us = min(2 * t.pause_us, <uint64_t>SLOW_PAUSE_MAX_US) if again else SLOW_PAUSE_US
    t.until_us = t.over_us = ended_us + t.pause_us
    t.times += 1


cdef class Throttle:
    """For tests: by a clock of theirs."""

    def wrote(self, uint64_t began_us, uint64_t ended_us, bint waited, bint punching):
        throttle_wrote(&self.throttle, began_us, ended_us, waited, punching)

    def throttled(self, uint64_t now_us):
        return throttled(&self.throttle, now_us)
