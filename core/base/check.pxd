# Assertions of the native core: `lnt_assert` always, `lnt_check` where the core is built with its checks (core/base/check.h).
# Of the block core each message begins with the invariant that it holds (docs/concurrency.md, "Invariants").
# What calls a function to find it out stands behind `if LNT_CHECKS`: Cython evaluates arguments where C drops the check.
cdef extern from "base/check.h" nogil:
    enum:
        LNT_CHECKS            # 1 where the core is built with its checks
    void lnt_static_assert(bint holds)
    void lnt_assert(bint holds, const char *what)
    void lnt_check(bint holds, const char *what)
