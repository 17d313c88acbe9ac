/* The five calls that streams take from the system's libzstd, by dlopen: it is on every Debian, its headers are not. */
#ifndef LNT_ZSTD_H
#define LNT_ZSTD_H
#include "../base/library.h"
#include <stddef.h>

struct lnt_zstd_api {
    void *(*createCCtx)(void);
    size_t (*freeCCtx)(void *);
    size_t (*compressCCtx)(void *, void *, size_t, const void *, size_t, int);
    void *(*createDCtx)(void);
    size_t (*freeDCtx)(void *);
    size_t (*decompressDCtx)(void *, void *, size_t, const void *, size_t);
    unsigned (*isError)(size_t);
};

static int lnt_zstd_load(struct lnt_zstd_api *api)      /* 0, or -1 when the library or a symbol is missing */
{
    static const struct lnt_symbol symbols[] = {
#define LNT_SYM(f) { "ZSTD_" #f, offsetof(struct lnt_zstd_api, f) }
        LNT_SYM(createCCtx), LNT_SYM(freeCCtx), LNT_SYM(compressCCtx), LNT_SYM(createDCtx), LNT_SYM(freeDCtx),
        LNT_SYM(decompressDCtx), LNT_SYM(isError),
#undef LNT_SYM
    };
    return lnt_library_load("libzstd.so.1", symbols, sizeof symbols / sizeof symbols[0], api);
}
#endif
