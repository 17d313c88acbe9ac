/* io_uring as the reactor uses it: liburing's ring structure (its public ABI), constants newer than this machine's kernel
 * headers, the handful of library calls we take from liburing by dlopen (liburing.py says from which), and inline ring access. */
#ifndef LNT_URING_H
#define LNT_URING_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../base/library.h"
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

struct lnt_ring_sq {
    unsigned *khead, *ktail, *kring_mask, *kring_entries, *kflags, *kdropped, *array;
    struct io_uring_sqe *sqes;
    unsigned sqe_head, sqe_tail;
    size_t ring_sz;
    void *ring_ptr;
    unsigned ring_mask, ring_entries, sqes_sz, pad;
};
struct lnt_ring_cq {
    unsigned *khead, *ktail, *kring_mask, *kring_entries, *kflags, *koverflow;
    struct io_uring_cqe *cqes;
    size_t ring_sz;
    void *ring_ptr;
    unsigned ring_mask, ring_entries, pad[2];
};
struct lnt_uring_api;
struct lnt_ring {                       /* liburing's struct io_uring, with room for what later versions append */
    struct lnt_ring_sq sq;
    struct lnt_ring_cq cq;
    unsigned flags;
    int ring_fd;
    unsigned features;
    int enter_ring_fd;
    uint8_t later[256];
    const struct lnt_uring_api *api;
};

struct lnt_uring_api {
    int (*queue_init_params)(unsigned, struct lnt_ring *, struct io_uring_params *);
    void (*queue_exit)(struct lnt_ring *);
    int (*submit)(struct lnt_ring *);
    int (*submit_and_get_events)(struct lnt_ring *);
    int (*submit_and_wait_timeout)(struct lnt_ring *, struct io_uring_cqe **, unsigned, struct __kernel_timespec *, void *);
    int (*register_ring_fd)(struct lnt_ring *);
    int (*register_files_sparse)(struct lnt_ring *, unsigned);
    int (*register_files_update)(struct lnt_ring *, unsigned, const int *, unsigned);
    struct io_uring_buf_ring *(*setup_buf_ring)(struct lnt_ring *, unsigned, int, unsigned, int *);
    int (*free_buf_ring)(struct lnt_ring *, struct io_uring_buf_ring *, unsigned, int);
};
static struct lnt_uring_api lnt_uring;   /* filled in the module that loads the library; others reach it through the ring */

static int lnt_uring_load(const char *path)    /* 0, or -1 when the library or a symbol is missing (see dlerror) */
{
    static const struct lnt_symbol symbols[] = {
#define LNT_SYM(f) { "io_uring_" #f, offsetof(struct lnt_uring_api, f) }
        LNT_SYM(queue_init_params), LNT_SYM(queue_exit), LNT_SYM(submit), LNT_SYM(submit_and_get_events),
        LNT_SYM(submit_and_wait_timeout), LNT_SYM(register_ring_fd), LNT_SYM(register_files_sparse),
        LNT_SYM(register_files_update), LNT_SYM(setup_buf_ring), LNT_SYM(free_buf_ring),
#undef LNT_SYM
    };
    return lnt_library_load(path, symbols, sizeof symbols / sizeof symbols[0], &lnt_uring);
}

static inline struct io_uring_sqe *lnt_sqe(struct lnt_ring *r)   /* zeroed; never NULL: a full queue is submitted first */
{
    struct lnt_ring_sq *q = &r->sq;
    while (q->sqe_tail - __atomic_load_n(q->khead, __ATOMIC_ACQUIRE) >= q->ring_entries)
        r->api->submit(r);
    struct io_uring_sqe *e = &q->sqes[q->sqe_tail++ & q->ring_mask];
    memset(e, 0, sizeof *e);
    return e;
}

static inline struct io_uring_cqe *lnt_cqe(struct lnt_ring *r)   /* the oldest completion or NULL */
{
    unsigned head = *r->cq.khead;
    if (head == __atomic_load_n(r->cq.ktail, __ATOMIC_ACQUIRE))
        return NULL;
    return &r->cq.cqes[head & r->cq.ring_mask];
}

static inline int lnt_cq_overflowed(struct lnt_ring *r)   /* completions wait in the kernel for room */
{
    return (__atomic_load_n(r->sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW) != 0;
}

static inline void lnt_cqe_seen(struct lnt_ring *r)
{
    __atomic_store_n(r->cq.khead, *r->cq.khead + 1, __ATOMIC_RELEASE);
}

static inline void lnt_prep_rw(struct lnt_ring *r, int op, int file, void *buf, unsigned len, uint64_t off, uint64_t tag)
{
    struct io_uring_sqe *e = lnt_sqe(r);
    e->opcode = op; e->fd = file; e->flags = IOSQE_FIXED_FILE; e->addr = (uintptr_t)buf; e->len = len; e->off = off;
    e->user_data = tag;
}

static inline void lnt_prep_fdatasync(struct lnt_ring *r, int file, uint64_t tag)
{
    struct io_uring_sqe *e = lnt_sqe(r);
    e->opcode = IORING_OP_FSYNC; e->fd = file; e->flags = IOSQE_FIXED_FILE; e->fsync_flags = IORING_FSYNC_DATASYNC;
    e->user_data = tag;
}

static inline void lnt_prep_fallocate(struct lnt_ring *r, int file, int mode, uint64_t off, uint64_t len, uint64_t tag)
{
    struct io_uring_sqe *e = lnt_sqe(r);
    e->opcode = IORING_OP_FALLOCATE; e->fd = file; e->flags = IOSQE_FIXED_FILE; e->len = mode; e->off = off; e->addr = len;
    e->user_data = tag;
}

static inline void lnt_prep_recv_multishot(struct lnt_ring *r, int file, int group, int flags, uint64_t tag)
{
    struct io_uring_sqe *e = lnt_sqe(r);
    e->opcode = IORING_OP_RECV; e->fd = file; e->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    e->ioprio = IORING_RECV_MULTISHOT | flags; e->buf_group = group; e->user_data = tag;
}

static inline void lnt_prep_cancel(struct lnt_ring *r, uint64_t target, uint64_t tag)   /* the request with that tag */
{
    struct io_uring_sqe *e = lnt_sqe(r);
    e->opcode = IORING_OP_ASYNC_CANCEL; e->fd = -1; e->addr = target; e->user_data = tag;
}

static inline void lnt_prep_sendmsg(struct lnt_ring *r, int file, struct msghdr *m, int flags, uint64_t tag)
{
    struct io_uring_sqe *e = lnt_sqe(r);
    e->opcode = IORING_OP_SENDMSG; e->fd = file; e->flags = IOSQE_FIXED_FILE; e->addr = (uintptr_t)m; e->len = 1;
    e->msg_flags = flags; e->user_data = tag;
}

static inline void lnt_prep_read_fd(struct lnt_ring *r, int fd, void *buf, unsigned len, uint64_t tag)
{
    struct io_uring_sqe *e = lnt_sqe(r);
    e->opcode = IORING_OP_READ; e->fd = fd; e->addr = (uintptr_t)buf; e->len = len; e->off = (uint64_t)-1; e->user_data = tag;
}

static inline void lnt_buf_give(struct io_uring_buf_ring *br, unsigned entries, void *p, unsigned len, unsigned short bid)
{
    struct io_uring_buf *b = &br->bufs[br->tail & (entries - 1)];
    b->addr = (uintptr_t)p; b->len = len; b->bid = bid;
    __atomic_store_n(&br->tail, (unsigned short)(br->tail + 1), __ATOMIC_RELEASE);
}

static inline int lnt_ring_open(struct lnt_ring *r, unsigned sq, unsigned cq)
{
    struct io_uring_params p;
    memset(&p, 0, sizeof p);
    memset(r, 0, sizeof *r);
    p.cq_entries = cq;
    p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
            | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL;
    r->api = &lnt_uring;
    return lnt_uring.queue_init_params(sq, r, &p);
}

static inline int lnt_ring_submit(struct lnt_ring *r)   /* what is prepared; no system call where nothing is */
{
    return r->api->submit(r);
}

static inline unsigned lnt_ring_start(struct lnt_ring *r, unsigned n)   /* submit what is prepared by n, but the last n: calls */
{
    struct lnt_ring_sq *q = &r->sq;
    unsigned all = q->sqe_tail, calls = 0;
    int taken = 1;
    for (; taken > 0 && all - q->sqe_head > n; calls++) {
        q->sqe_tail = q->sqe_head + n;      /* so far the library submits */
        taken = r->api->submit(r);
        q->sqe_tail = all;
    }
    return calls;
}

static inline int lnt_ring_pump(struct lnt_ring *r)   /* submit and collect, without waiting */
{
    return r->api->submit_and_get_events(r);
}

static inline int lnt_ring_wait(struct lnt_ring *r, unsigned wait_nr, uint64_t timeout_us)   /* UINT64_MAX: no timeout */
{
    struct __kernel_timespec ts = { .tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000 };
    struct io_uring_cqe *cqe;
    return r->api->submit_and_wait_timeout(r, &cqe, wait_nr, timeout_us == UINT64_MAX ? NULL : &ts, NULL);
}
#endif
