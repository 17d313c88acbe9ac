# io_uring for Cython: what uring.h defines (ring access inline, liburing's calls dlopened from the library of liburing.py).
from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef extern from "wire/uring.h" nogil:
    struct io_uring_cqe:
        uint64_t user_data
        int32_t res
        uint32_t flags
    struct io_uring_buf_ring:
        pass
    struct msghdr:
        void *msg_name
        unsigned msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    struct iovec:
        void *iov_base
        size_t iov_len
    struct lnt_ring
    struct lnt_uring_api:
        void (*queue_exit)(lnt_ring *) noexcept nogil
        int (*submit)(lnt_ring *) noexcept nogil
        int (*submit_and_get_events)(lnt_ring *) noexcept nogil
        int (*register_ring_fd)(lnt_ring *) noexcept nogil
        int (*register_files_sparse)(lnt_ring *, unsigned) noexcept nogil
        int (*register_files_update)(lnt_ring *, unsigned, const int *, unsigned) noexcept nogil
        io_uring_buf_ring *(*setup_buf_ring)(lnt_ring *, unsigned, int, unsigned, int *) noexcept nogil
        int (*free_buf_ring)(lnt_ring *, io_uring_buf_ring *, unsigned, int) noexcept nogil
    struct lnt_ring:
        const lnt_uring_api *api
    lnt_uring_api lnt_uring
    int lnt_uring_load(const char *path)
    int lnt_ring_open(lnt_ring *r, unsigned sq, unsigned cq)
    int lnt_ring_wait(lnt_ring *r, unsigned wait_nr, uint64_t timeout_us)
    io_uring_cqe *lnt_cqe(lnt_ring *r)
    int lnt_cq_overflowed(lnt_ring *r)
    int lnt_ring_submit(lnt_ring *r)
    unsigned lnt_ring_start(lnt_ring *r, unsigned n)
    int lnt_ring_pump(lnt_ring *r)
    void lnt_cqe_seen(lnt_ring *r)
    void lnt_prep_rw(lnt_ring *r, int op, int file, void *buf, unsigned len, uint64_t off, uint64_t tag)
    void lnt_prep_fdatasync(lnt_ring *r, int file, uint64_t tag)
    void lnt_prep_fallocate(lnt_ring *r, int file, int mode, uint64_t off, uint64_t len, uint64_t tag)
    void lnt_prep_recv_multishot(lnt_ring *r, int file, int group, int flags, uint64_t tag)
    void lnt_prep_cancel(lnt_ring *r, uint64_t target, uint64_t tag)
    void lnt_prep_sendmsg(lnt_ring *r, int file, msghdr *m, int flags, uint64_t tag)
    void lnt_prep_read_fd(lnt_ring *r, int fd, void *buf, unsigned len, uint64_t tag)
    void lnt_buf_give(io_uring_buf_ring *br, unsigned entries, void *p, unsigned len, unsigned short bid)
    int IORING_OP_READ
    int IORING_OP_READV
    int IORING_OP_WRITE
    uint32_t IORING_CQE_F_BUFFER
    uint32_t IORING_CQE_F_MORE
    int IORING_CQE_BUFFER_SHIFT
