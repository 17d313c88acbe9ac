/* Reading and writing a descriptor that somebody else has, too: it waits in poll, so that a second descriptor can end the wait,
 * and never in the call itself. */
#ifndef LNT_DESCRIPTOR_H
#define LNT_DESCRIPTOR_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static inline int lnt_is_regular(int fd)
{
    struct stat st;
    return !fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

static inline int lnt_alarm(void)           /* a descriptor that becomes readable for good when it is rung */
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static inline void lnt_ring_alarm(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, 8) < 0)
        return;                             /* rung already */
}

static inline void lnt_large_pipe(int fd)   /* what is no pipe, or may not be larger, stays as it is */
{
    fcntl(fd, F_SETPIPE_SZ, 1 << 20);
}

/* 0, or -errno; -ECANCELED: `cancel` or `stop` (-1: none) was rung. */
static inline int lnt_wait_for(int fd, int cancel, int stop, short events)
{
    struct pollfd p[3] = { { .fd = fd, .events = events }, { .fd = cancel, .events = POLLIN }, { .fd = stop, .events = POLLIN } };
    while (poll(p, 3, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return p[1].revents || p[2].revents ? -ECANCELED : 0;
}

/* Bytes read, 0 at the end, or -errno. */
static inline ssize_t lnt_take(int fd, int cancel, int stop, int regular, void *buf, size_t n)
{
    struct iovec v = { .iov_base = buf, .iov_len = n };
    for (;;) {
        ssize_t got = regular ? read(fd, buf, n) : preadv2(fd, &v, 1, -1, RWF_NOWAIT);
        if (got >= 0)
            return got;
        if (errno == EOPNOTSUPP || errno == EINVAL) {
            regular = 1;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        int rc = lnt_wait_for(fd, cancel, stop, POLLIN);
        if (rc)
            return rc;
    }
}

/* Bytes written of what `v` says, at least one, or -errno. `regular`: known to be written by a call that may wait. */
static inline ssize_t lnt_give_some(int fd, int cancel, int *regular, const struct iovec *v, int n)
{
    for (;;) {
        ssize_t put = *regular ? writev(fd, v, n) : pwritev2(fd, v, n, -1, RWF_NOWAIT);
        if (put >= 0)
            return put;
        if (!*regular && (errno == EOPNOTSUPP || errno == EINVAL)) {
            *regular = 1;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        int rc = lnt_wait_for(fd, cancel, -1, POLLOUT);
        if (rc)
            return rc;
    }
}

/* 0 when all is written, or -errno. */
static inline int lnt_give(int fd, int cancel, const void *buf, size_t n)
{
    int regular = lnt_is_regular(fd);
    while (n) {
        struct iovec v = { .iov_base = (void *)buf, .iov_len = n };
        ssize_t put = lnt_give_some(fd, cancel, &regular, &v, 1);
        if (put < 0)
            return (int)put;
        buf = (const char *)buf + put;
        n -= (size_t)put;
    }
    return 0;
}

static inline int lnt_rest(int cancel, int ms)      /* 0, or -ECANCELED */
{
    struct pollfd p = { .fd = cancel, .events = POLLIN };
    return poll(&p, 1, ms) > 0 ? -ECANCELED : 0;
}
#endif
