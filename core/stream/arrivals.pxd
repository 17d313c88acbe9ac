# Frames of a stream as they arrive: read from a descriptor and verified on a thread of its own, ahead of whoever takes them.
from core.stream.frame cimport lnt_stream_header, lnt_stream_order
from core.stream.packing cimport lnt_packer
from core.wire.thread cimport pthread_cond_t, pthread_mutex_t, pthread_t
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    ARRIVED_MOST = 512             # frames

cdef struct lnt_arrived:           # a frame, verified; when `rc` is not 0, what ended the stream: nothing follows
    lnt_stream_header h
    uint8_t *raw                   # its table, then its payload, which begins on a page
    uint64_t end                   # of the room, when it is let go of
    int rc                         # of layout.ERRORS, or -errno

cdef struct lnt_arrivals:          # zeroed before it is opened
    int fd
    int cancel
    int regular
    int stop_fd                    # ends a wait for the descriptor
    bint running
    bint stopping
    pthread_t thread
    pthread_mutex_t lock
    pthread_cond_t came
    pthread_cond_t went
    uint8_t *room                  # bodies, unpacked, one behind the other in a ring
    uint64_t written               # bytes of the ring that were ever taken ...
    uint64_t freed                 # ... and given back
    lnt_arrived *frames
    uint64_t frames_in
    uint64_t frames_out
    # the thread's own
    uint8_t *input
    uint64_t first
    uint64_t last                  # what of the input is not taken yet
    uint8_t *stored                # a body that is to be unpacked
    lnt_packer packer
    lnt_stream_order order

cdef int arrivals_open(lnt_arrivals *a, int fd, int cancel) noexcept nogil
cdef void arrivals_close(lnt_arrivals *a) noexcept nogil
cdef lnt_arrived *arrivals_wait(lnt_arrivals *a) noexcept nogil
cdef lnt_arrived *arrivals_look(lnt_arrivals *a, uint32_t ahead) noexcept nogil
cdef void arrivals_free(lnt_arrivals *a, uint32_t n) noexcept nogil
