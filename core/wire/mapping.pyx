"""Files of memory that are mapped here, each once, whoever reads it.

Lives here and nowhere else: which file is mapped where. With a mapping of its own for each thread the kernel would enter and
clear each page once more, which takes longer than to copy what is in it.
"""
from core.base.memory cimport mem_zeroed
from core.wire.thread cimport pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock
from libc.stdint cimport uint32_t
from libc.stdlib cimport free

cdef extern from *:
    """
    #include <pthread.h>
    #include <sys/mman.h>
    #include <sys/stat.h>
    static pthread_mutex_t lnt_mappings_lock = PTHREAD_MUTEX_INITIALIZER;
    static int lnt_identify(int fd, unsigned long *device, unsigned long *inode)
    {
        struct stat st;
        if (fstat(fd, &st))
            return -1;
        *device = (unsigned long)st.st_dev;
        *inode = (unsigned long)st.st_ino;
        return 0;
    }
    static void *lnt_map(int fd, size_t n)
    {
        void *at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return at == MAP_FAILED ? NULL : at;
    }
    """
    pthread_mutex_t lnt_mappings_lock
    int lnt_identify(int fd, unsigned long *device, unsigned long *inode) nogil
    void *lnt_map(int fd, size_t n) nogil
    int munmap(void *at, size_t n) nogil

cdef struct lnt_mapping:
    lnt_mapping *next
    unsigned long device
    unsigned long inode
    size_t n
    void *at
    uint32_t users

cdef lnt_mapping *mappings = NULL     # under the lock


cdef void *mapping_take(int fd, size_t n) noexcept nogil:
    """Where the first n bytes of a file are mapped; NULL: they cannot be. `mapping_give` lets go of it."""
    cdef unsigned long device = 0, inode = 0
    cdef lnt_mapping *m
    if lnt_identify(fd, &device, &inode):
        return NULL
    pthread_mutex_lock(&lnt_mappings_lock)
    m = mappings
    while m != NULL and (m.device != device or m.inode != inode or m.n != n):
        m = m.next
    if m == NULL:
        m = mapping_new(fd, n)
        if m != NULL:
            m.device, m.inode = device, inode
    if m != NULL:
        m.users += 1
    pthread_mutex_unlock(&lnt_mappings_lock)
    return m.at if m != NULL else NULL


cdef lnt_mapping *mapping_new(int fd, size_t n) noexcept nogil:
    global mappings
    cdef lnt_mapping *m = <lnt_mapping *>mem_zeroed(sizeof(lnt_mapping))
    if m == NULL:
        return NULL
    m.at = lnt_map(fd, n)
    if m.at == NULL:
        free(m)
        return NULL
    m.n = n
    m.next = mappings
    mappings = m
    return m


cdef void mapping_give(void *at) noexcept nogil:
    """The last one to let go of it unmaps it."""
    global mappings
    cdef lnt_mapping **to = &mappings
    cdef lnt_mapping *m
    pthread_mutex_lock(&lnt_mappings_lock)
    while to[0].at != at:
        to = &to[0].next
    m = to[0]
    m.users -= 1
    if m.users == 0:
        to[0] = m.next
        munmap(m.at, m.n)
        free(m)
    pthread_mutex_unlock(&lnt_mappings_lock)
