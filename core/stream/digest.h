/* SHA-256 of the system's libcrypto, by dlopen: it is on every Debian, its headers are not. */
#ifndef LNT_DIGEST_H
#define LNT_DIGEST_H
#include <dlfcn.h>
#include <stddef.h>

typedef unsigned char *(*lnt_sha256_fn)(const unsigned char *, size_t, unsigned char *);

static lnt_sha256_fn lnt_sha256_load(void)      /* NULL: the library is missing */
{
    void *lib = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    return lib ? (lnt_sha256_fn)dlsym(lib, "SHA256") : NULL;
}
#endif
