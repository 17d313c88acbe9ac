/* The device whose thread this is: set when a thread attaches. */
#ifndef LNT_TLS_H
#define LNT_TLS_H
static __thread void *lnt_tls_dev;
static inline void *lnt_tls_get(void) { return lnt_tls_dev; }
static inline void lnt_tls_set(void *dev) { lnt_tls_dev = dev; }
#endif
