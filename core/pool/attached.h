/* The device whose thread this is: set when a thread attaches. */
#ifndef LNT_ATTACHED_H
#define LNT_ATTACHED_H
static __thread void *lnt_attached_dev;
static inline void *lnt_attached(void) { return lnt_attached_dev; }
static inline void lnt_attach(void *dev) { lnt_attached_dev = dev; }
#endif
