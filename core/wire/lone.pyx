"""Whether the reactor's own thread performs a sync: only where that keeps nobody else waiting.

A thread of the kernel takes a sync off the ring. For one command alone that is a thread woken to wait for the medium, and one
more to be told. Its own thread has nothing else to do. So it waits itself, once syncs have been short and nobody has said a word
during so many of them; the first that somebody speaks in sends as many behind it to the ring again, one that takes long a few.
Lives here and nowhere else: `lnt_lone`.
"""

cdef enum:
    QUIET = 16                        # syncs in a row
    SHORT_US = 1000                   # where more than one in five take longer the ring has all of them ...
    LONG = 4                          # ... as each counts against so many
    WRITTEN_BYTES = 262144            # since the last sync was asked for: more may take long


cdef bint lone_takes(lnt_lone *l, uint64_t now_us, uint64_t written_bytes, bint awaited) noexcept nogil:
    """A sync is asked for. `written_bytes`: all that the device was given so far; `awaited`: by one command, and nothing else."""
    cdef bint little = written_bytes - l.written_bytes <= WRITTEN_BYTES
    cdef bint takes = awaited and l.only and little and l.quiet >= QUIET
    l.heard = 0
    l.asked_us = now_us
    l.written_bytes = written_bytes
    l.here = takes
    l.times += takes
    return takes


cdef void lone_synced(lnt_lone *l, uint64_t now_us, bint heard) noexcept nogil:
    """It is over, whoever performed it. `heard`: somebody has spoken meanwhile and waits."""
    l.here = 0
    if heard or l.heard:
        l.quiet = 0
    elif now_us - l.asked_us > SHORT_US:
        l.quiet = l.quiet - LONG if l.quiet > LONG else 0
    elif l.quiet < QUIET:
        l.quiet += 1


cdef class Lone:
    """For tests: by a clock of theirs."""

    def takes(self, uint64_t now_us, uint64_t written_bytes, bint awaited=True, bint only=True):
        self.lone.only = only
        return lone_takes(&self.lone, now_us, written_bytes, awaited)

    def synced(self, uint64_t now_us, bint heard=False):
        lone_synced(&self.lone, now_us, heard)
