"""Reads in waves, for a device that ends everything it has at once: half of them wait while it works on the others.

Such a device (virtio disks of some virtual machine monitors) takes from its queue until that is empty, and tells of all
ends then. Given all there is, it would have nothing to do until the answers are sent and the next commands have come. So it
has a wave; when that ends it is given what has come meanwhile, before anything is answered. Not writes: they are over
sooner than new ones come.

Whether a device is one of those is seen by when it ends what it had: all in a small part of the time since it ended the
last before. One that tells of each end as it comes has all it can get. Lives here and nowhere else: `lnt_waves`. Figures:
docs/performance.md.
"""
from libc.string cimport memset

cdef enum:
    BURST = 8                         # fewer requests than this tell nothing
    SHORT = 4                         # a burst is whole if the time before was so many times as long
    TRUST = 8                         # whole bursts, until it is believed ...
    TRUST_MOST = 16
    DOUBT = 4                         # ... and what one that is not takes from them
    DEPTH = 16                        # with fewer under way two waves have too little each
    FORGET = 64                       # after so many bursts ...
    FORGOTTEN = 16                    # ... the depth falls by such a part


cdef void waves_open(lnt_waves *w) noexcept nogil:
    memset(w, 0, sizeof(lnt_waves))
    w.most = NO_BOUND


cdef inline void burst_begins(lnt_waves *w, uint64_t now_us) noexcept nogil:
    # A device of that kind has nothing to do now but what it is given from here on.
    w.burst = w.ending = w.at_device + w.ended
    w.began_us = now_us
    w.given = 0
    w.bursts += 1
    if w.bursts % FORGET == 0:
        w.depth -= w.depth // FORGOTTEN
    w.depth = max(w.depth, w.burst + w.waiting)


cdef inline void burst_is_over(lnt_waves *w, uint64_t now_us) noexcept nogil:
    if w.burst >= BURST:
        if (now_us - w.began_us) * SHORT <= w.began_us - w.over_us:
            w.trust = min(w.trust + 1, <uint32_t>TRUST_MOST)
        else:
            w.trust = w.trust - DOUBT if w.trust > DOUBT else 0
    w.ending = 0
    w.over_us = now_us
    w.most = (w.depth + 1) // 2 if w.trust >= TRUST and w.depth >= DEPTH else <uint32_t>NO_BOUND


cdef void waves_turn(lnt_waves *w, uint64_t now_us) noexcept nogil:
    """What ended since the last turn has been told: waves_next has what that lets begin."""
    if not w.ended:
        return
    if w.ending == 0:
        burst_begins(w, now_us)
    if w.ended < w.ending:
        w.ending -= w.ended
    else:
        burst_is_over(w, now_us)
    w.ended = 0
    if w.at_device == 0:
        w.given = 0


cdef lnt_io *waves_next(lnt_waves *w) noexcept nogil:
    """A read that has waited and that the device may have now, or NULL."""
    cdef lnt_io *io = w.first
    if io == NULL or w.given >= w.most:
        return NULL
    w.first = io.next
    if w.first == NULL:
        w.last = NULL
    io.next = NULL
    w.waiting -= 1
    w.at_device += 1
    w.given += 1
    return io


cdef class Waves:
    """For tests: what a reactor's device keeps of it, by a clock of theirs."""

    def __cinit__(self):
        waves_open(&self.waves)

    @property
    def at_device(self):
        return self.waves.at_device

    @property
    def waiting(self):
        return self.waves.waiting

    def give(self, bint may_wait):
        self.made += 1
        return waves_give(&self.waves, &self.requests[self.made % 64], may_wait)

    def ended(self, uint32_t count, uint64_t now_us):
        cdef uint32_t _number
        for _number in range(count):
            waves_ended(&self.waves)
        waves_turn(&self.waves, now_us)
        while waves_next(&self.waves) != NULL:
            pass
