# Frames of a stream that leave: written to a descriptor on a thread of its own, behind whoever makes them.
from core.base.types cimport iovec
from core.wire.thread cimport pthread_cond_t, pthread_mutex_t, pthread_t
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    DEPARTURE_BYTES = 4 << 20                   # of data in a batch
    DEPARTURE_HEADS_BYTES = DEPARTURE_BYTES + (1 << 20)
    DEPARTURE_PARTS = 16384
    DEPARTURES = 3                              # batches: one that is made, one that is written, one between

cdef struct lnt_departure:         # a batch of frames
    uint8_t *data                  # blocks, as they were read
    uint8_t *heads                 # headers, tables, bodies that are packed or have no blocks
    uint64_t heads_used
    iovec *parts                   # of both, in the order of the stream
    uint32_t n_parts

cdef struct lnt_departures:        # zeroed before it is opened
    int fd
    int cancel
    int regular
    uint64_t limit_bytes           # a second; 0: as fast as it goes
    bint running
    bint closing
    pthread_t thread
    pthread_mutex_t lock
    pthread_cond_t made
    pthread_cond_t written
    lnt_departure[DEPARTURES] batches
    uint64_t batches_made
    uint64_t batches_written
    uint64_t length                # of all that were made, bytes
    int rc                         # -errno of the first write that failed: nothing is written after it
    bint waited                    # whether the last batch had to be waited for: the other end is the slower one
    uint64_t due_us                # when the limit allows the next write

cdef int departures_open(lnt_departures *d, int fd, int cancel, uint64_t limit_bytes) noexcept nogil
cdef void departures_close(lnt_departures *d) noexcept nogil
cdef lnt_departure *departures_room(lnt_departures *d) noexcept nogil
cdef void departures_go(lnt_departures *d) noexcept nogil
cdef int departures_wait(lnt_departures *d) noexcept nogil
cdef void departure_add(lnt_departure *b, uint8_t *at, uint64_t n) noexcept nogil
