/* Assertions of the native core. `lnt_assert` is always there: what it guards is cheap and its failure would be silent damage.
 * `lnt_check` is there where the core is built with its checks (LUNETTE_SANITIZE: the fuzzers' core, on which crash lives run, too), and costs nothing else. */
#ifndef LNT_CHECK_H
#define LNT_CHECK_H
#include <stdio.h>
#include <stdlib.h>

static inline void lnt_assert(int holds, const char *what)
{
    if (__builtin_expect(!holds, 0)) {
        fprintf(stderr, "lunette: broken invariant: %s\n", what);
        abort();
    }
}
#define lnt_static_assert(holds) ((void)sizeof(char[(holds) ? 1 : -1]))     /* by the compiler; it costs nothing */
#ifdef LNT_CHECKED
#define LNT_CHECKS 1
#define lnt_check lnt_assert
#else
#define LNT_CHECKS 0
#define lnt_check(holds, what) ((void)0)
#endif
#endif
