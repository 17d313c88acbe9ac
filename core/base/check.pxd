# Assertions of the native core: `lnt_assert` always, `lnt_check` where the core is built with its checks (core/base/check.h).
# Of the block core each message begins with the invariant that it holds (docs/concurrency.md, "Invariants").
cdef extern from "base/check.h" nogil:
    void lnt_assert(bint holds, const char *what)
    void lnt_check(bint holds, const char *what)
