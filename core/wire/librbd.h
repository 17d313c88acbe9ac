/* librbd's asynchronous calls (rbd/librbd.h), found at run time: nothing of Ceph is needed to build or to serve other pools. */
#ifndef LNT_LIBRBD_H
#define LNT_LIBRBD_H
#include "../base/library.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

typedef void (*lnt_rbd_callback)(void *completion, void *arg);

struct lnt_rbd_api {
    int (*aio_create_completion)(void *arg, lnt_rbd_callback done, void **completion);
    ssize_t (*aio_get_return_value)(void *completion);
    void (*aio_release)(void *completion);
    int (*aio_read)(void *image, uint64_t at, size_t length, char *buf, void *completion);
    int (*aio_write)(void *image, uint64_t at, size_t length, const char *buf, void *completion);
    int (*aio_discard)(void *image, uint64_t at, uint64_t length, void *completion);
    int (*aio_flush)(void *image, void *completion);
    int (*aio_compare_and_write)(void *image, uint64_t at, size_t length, const char *compare, const char *buf, void *completion,
                                 uint64_t *mismatch, int flags);
};
static struct lnt_rbd_api lnt_rbd;

static inline int lnt_rbd_load(const char *library)     /* 0, or -1 when the library or one of its calls is missing */
{
    static const struct lnt_symbol symbols[] = {
#define LNT_SYM(f) { "rbd_" #f, offsetof(struct lnt_rbd_api, f) }
        LNT_SYM(aio_create_completion), LNT_SYM(aio_get_return_value), LNT_SYM(aio_release), LNT_SYM(aio_read),
        LNT_SYM(aio_write), LNT_SYM(aio_discard), LNT_SYM(aio_flush), LNT_SYM(aio_compare_and_write),
#undef LNT_SYM
    };
    return lnt_library_load(library, symbols, sizeof symbols / sizeof symbols[0], &lnt_rbd);
}
#endif
