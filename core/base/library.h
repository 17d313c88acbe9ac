/* Functions of a library that is looked for at run time: its headers need not be there to build, nor the library to run without
 * what it is for. */
#ifndef LNT_LIBRARY_H
#define LNT_LIBRARY_H
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

struct lnt_symbol {
    const char *name;
    size_t at;                  /* where its pointer lies in the table of calls */
};

/* Fill a table of calls. 0, or -1 when the library or one of its symbols is missing (see dlerror). */
static inline int lnt_library_load(const char *library, const struct lnt_symbol *symbols, size_t n, void *calls)
{
    void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return -1;
    for (size_t i = 0; i < n; i++) {
        void *f = dlsym(lib, symbols[i].name);      /* also what the library itself stands on */
        if (!f)
            return -1;
        memcpy((char *)calls + symbols[i].at, &f, sizeof f);
    }
    return 0;
}
#endif
