/* Copies to and from a shared mapping of the pool: what a truncated file or a full tmpfs turns into SIGBUS becomes an error. */
#ifndef LNT_MAPIO_H
#define LNT_MAPIO_H
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static __thread sigjmp_buf *lnt_copy_escape;
static struct sigaction lnt_copy_previous;

static void lnt_copy_fault(int sig, siginfo_t *info, void *context)
{
    (void)info; (void)context;
    if (lnt_copy_escape)
        siglongjmp(*lnt_copy_escape, 1);
    sigaction(sig, &lnt_copy_previous, NULL);       /* not ours: back to whoever had it; the access faults again */
}

static void lnt_copy_prepare(void)                  /* once a process */
{
    static int done;
    if (__atomic_exchange_n(&done, 1, __ATOMIC_SEQ_CST))
        return;
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = lnt_copy_fault;
    a.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGBUS, &a, &lnt_copy_previous);
}

#define LNT_AROUND 65536   /* the kernel maps the pages that exist around one that is read, in aligned windows of this size */

/* 0, or -1 after a fault. `there`: the target is mapped and its pages exist. A fault for writing would map them one by one;
 * one for reading maps their neighbours too, writable as the mapping is. */
static __attribute__((noinline)) int lnt_copy(void *to, const void *from, size_t n, int there)
{
    sigjmp_buf here;
    volatile const char *p = to, *end = p + n;
    if (sigsetjmp(here, 0)) {
        lnt_copy_escape = NULL;
        return -1;
    }
    lnt_copy_escape = &here;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    for (; there && p < end; p += LNT_AROUND - ((uintptr_t)p & (LNT_AROUND - 1)))
        (void)*p;
    memcpy(to, from, n);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    lnt_copy_escape = NULL;
    return 0;
}
#endif
