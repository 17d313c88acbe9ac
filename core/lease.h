/* The lease a pool is served under, as native threads look at it: one word, the instant after which nothing may be answered or
 * written any more (docs/ownership.md). The word is written by whoever renews the ownership record. */
#ifndef LNT_LEASE_H
#define LNT_LEASE_H
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LNT_SOCKETS_MAX 65536
#define LNT_EXIT_LOST 75        /* EX_TEMPFAIL: a supervisor may start it again, which finds the new owner */

static inline uint64_t lnt_boot_us(void)    /* also counts while the machine sleeps or the process is stopped */
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* Hangs up on everybody: every socket of the process. A process whose medium hangs cannot end, nor close a thing, before that
 * lets go of its threads; its initiators need not wait for it. */
static __attribute__((cold, noinline, unused)) void lnt_hang_up(void)
{
    struct rlimit most = { LNT_SOCKETS_MAX, LNT_SOCKETS_MAX };
    getrlimit(RLIMIT_NOFILE, &most);
    for (int fd = 3; (rlim_t)fd < most.rlim_cur && fd < LNT_SOCKETS_MAX; fd++)
        shutdown(fd, SHUT_RDWR);
}

/* Ends the process, at once and with nothing flushed: what it has planned to write or say must not happen. Initiators meet a lost
 * path and no error. What was acknowledged is in the journal, as after any kill. */
static __attribute__((noreturn, cold, noinline, unused)) void lnt_end(const char *text)
{
    lnt_hang_up();
    if (write(2, text, strlen(text)) < 0) { /* nobody listens */ }
    _exit(LNT_EXIT_LOST);
}

static __attribute__((noreturn, cold, noinline, unused)) void lnt_lease_lost(void)
{
    lnt_end("lunette: ERROR: the pool's ownership was not renewed in time (stopped, suspended, or its medium hung): it may have "
            "another owner, so this process ends without another answer or write\n");
}

static __attribute__((noreturn, cold, noinline, unused)) void lnt_fenced(void)
{
    lnt_end("lunette: ERROR: the cluster refuses this gateway, since another one has taken the pool over: this process ends "
            "without another answer or write\n");
}

static inline void lnt_lease_prove(const uint64_t *until_us)    /* 0: the pool needs no lease */
{
    uint64_t until = __atomic_load_n(until_us, __ATOMIC_ACQUIRE);
    if (__builtin_expect(until != 0, 0) && lnt_boot_us() >= until)
        lnt_lease_lost();
}
#endif
