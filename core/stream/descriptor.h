/* Reading and writing a descriptor that somebody else has, too: it waits in poll, so that a second descriptor can end the wait,
 * and never in the call itself. */
#ifndef LNT_DESCRIPTOR_H
#define LNT_DESCRIPTOR_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static inline int lnt_is_regular(int fd)
{
    struct stat st;
    return !fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

static inline int lnt_wait_for(int fd, int cancel, short events)   /* 0, or -errno; -ECANCELED: told to end */
{
    struct pollfd p[2] = { { .fd = fd, .events = events }, { .fd = cancel, .events = POLLIN } };
    while (poll(p, 2, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return p[1].revents ? -ECANCELED : 0;
}

/* Bytes read, 0 at the end, or -errno. */
static inline ssize_t lnt_take(int fd, int cancel, int regular, void *buf, size_t n)
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
        int rc = lnt_wait_for(fd, cancel, POLLIN);
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
        ssize_t put = regular ? write(fd, buf, n) : pwritev2(fd, &v, 1, -1, RWF_NOWAIT);
        if (put >= 0) {
            buf = (const char *)buf + put;
            n -= (size_t)put;
            continue;
        }
        if (errno == EOPNOTSUPP || errno == EINVAL) {
            regular = 1;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        int rc = lnt_wait_for(fd, cancel, POLLOUT);
        if (rc)
            return rc;
    }
    return 0;
}
#endif
