# What threads share: a mutex, a condition, a thread, and atomic words (C11 memory orders by their compiler names).
from libc.stdint cimport uint32_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef unsigned long pthread_t
    int pthread_mutex_init(pthread_mutex_t *m, void *attr)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)
    int pthread_mutex_destroy(pthread_mutex_t *m)
    int pthread_cond_init(pthread_cond_t *c, void *attr)
    int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
    int pthread_cond_signal(pthread_cond_t *c)
    int pthread_cond_destroy(pthread_cond_t *c)
    int pthread_create(pthread_t *t, void *attr, void *(*f)(void *) noexcept nogil, void *arg)
    int pthread_join(pthread_t t, void **result)

cdef extern from *:
    uint32_t lnt_load32 "__atomic_load_n" (uint32_t *p, int order) nogil
    void lnt_store32 "__atomic_store_n" (uint32_t *p, uint32_t v, int order) nogil
    uint32_t lnt_swap32 "__atomic_exchange_n" (uint32_t *p, uint32_t v, int order) nogil
    uint32_t lnt_add32 "__atomic_add_fetch" (uint32_t *p, uint32_t v, int order) nogil
    uint32_t lnt_sub32 "__atomic_sub_fetch" (uint32_t *p, uint32_t v, int order) nogil
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int RELEASE "__ATOMIC_RELEASE"
    int SEQ_CST "__ATOMIC_SEQ_CST"
