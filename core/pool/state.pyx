"""What every part of a pool's Python half has: the engine's memory, handles on objects, names, keys, what was started."""
import errno

from core.errors import PoolError
from core.pool.info import object_info

from core.base.layout cimport L_SLOT_BYTES
from core.base.memory cimport mem_aligned, mem_zeroed
from core.base.native cimport lnt_mono_us, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from core.base.object cimport lnt_object
from core.base.schedule cimport spare_requests_free
from core.catalog.slots cimport object_store
from core.log.journal cimport journal_free
from core.objects cimport object_find, object_release
from core.ops.transfer cimport spare_pieces_free
from core.pages.cache cimport cache_free
from core.ops.order cimport order_free
from core.pages.damage cimport damage_free
from core.space.dropped cimport drops_free
from core.space.holes cimport punch_free
from libc.stdint cimport uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int, int)
    int EFD_NONBLOCK
    int EFD_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int, const void *, size_t)
    int close(int)


cdef void pool_done(lnt_op *op) noexcept nogil:
    """Any device's thread: hand a finished operation to Python, without the GIL."""
    cdef lnt_admin *a = <lnt_admin *>op
    cdef mailbox *m = <mailbox *>op.owner
    cdef uint64_t one = 1
    pthread_mutex_lock(&m.lock)
    a.next = m.first
    m.first = a
    pthread_mutex_unlock(&m.lock)
    write(m.fd, &one, 8)          # it only wakes the reader, and a full counter wakes it as well


cdef inline size_t super_pad() noexcept nogil:
    """Bytes before a pool's struct that bring its superblock buffer to a page's start, as O_DIRECT wants it."""
    cdef lnt_pool *p = <lnt_pool *>4096  # where a page starts: only the member's offset counts
    return -<size_t>p.checkpoint.super_buf & 4095


cdef lnt_pool *pool_new() noexcept nogil:
    cdef uint8_t *raw = <uint8_t *>mem_aligned(super_pad() + sizeof(lnt_pool))
    if raw == NULL:
        return NULL
    memset(raw, 0, super_pad() + sizeof(lnt_pool))
    return <lnt_pool *>(raw + super_pad())


cdef class PoolState:
    """What every part of a pool's Python half has: the engine's memory, handles on objects, names, keys, what was started."""

    def __cinit__(self, *args, **kwargs):
        self.completion_fd = -1
        self.next_token = 1

    def __init__(self):
        self.ops, self.early, self.ids, self.keys, self.claimed = {}, [], {}, {}, set()
        self.keys_outcomes, self.keys_changing, self.keys_waiting = {}, set(), []
        self.unsubmitted = 0
        self.p = pool_new()
        self.q = <lnt_queue_device *>mem_zeroed(sizeof(lnt_queue_device))
        self.mail = <mailbox *>mem_zeroed(sizeof(mailbox))
        if self.p == NULL or self.q == NULL or self.mail == NULL:
            raise MemoryError
        pthread_mutex_init(&self.p.lock, NULL)
        pthread_mutex_init(&self.mail.lock, NULL)
        self.mail.fd = self.completion_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self.completion_fd < 0:
            raise OSError(errno.EMFILE, "no descriptor is left to wake the control plane with (ulimit -n)")

    def __dealloc__(self):
        self.release()

    cdef void release(self):
        """Free native memory; the pool is gone for good."""
        cdef lnt_pool *p = self.p
        cdef uint64_t i
        cdef lnt_object *o
        cdef lnt_object *onext
        if p != NULL:
            if p.cache.hash != NULL:
                cache_free(p)
            journal_free(p)
            if p.objects_by_id != NULL:
                for i in range(p.objects_mask + 1):
                    o = p.objects_by_id[i]
                    while o != NULL:
                        onext = o.hash_next
                        free(o)
                        o = onext
            free(p.objects_by_id)
            free(p.run_used)
            free(p.run_busy)
            free(p.medium.zones)
            free(p.summary_dirty)
            punch_free(p)
            order_free(p)
            damage_free(p)
            free(p.slot_kind)
            free(p.catalog_page_rounds)
            free(p.zeros)
            free(p.scratch)
            spare_requests_free(p)
            spare_pieces_free(p)
            drops_free(p)
            free(p.background_op)
            free(p.checkpoint_op)
            free(p.checkpoint.order)
            free(p.cache.frozen)
            free(p.checkpoint.homes)
            free(p.checkpoint.buf)
            free(p.checkpoint.directory)
            free(p.checkpoint.pending)
            pthread_mutex_destroy(&p.lock)
            free(<uint8_t *>p - super_pad())
            self.p = NULL
        if self.q != NULL:
            free(self.q)
            self.q = NULL
        free(self.side)
        self.side = NULL
        free(self.mail)
        self.mail = NULL
        if self.completion_fd >= 0:
            close(self.completion_fd)
            self.completion_fd = -1

    cdef lnt_pool *open_pool(self) except NULL:
        if self.p == NULL:
            raise PoolError("closed", "the pool is closed")
        return self.p

    cdef lnt_obj *open_handle(self, uint64_t object_id):
        cdef lnt_object *o
        pthread_mutex_lock(&self.p.lock)
        o = object_find(self.p, object_id)
        if o != NULL:
            o.pub.handles += 1
        pthread_mutex_unlock(&self.p.lock)
        return <lnt_obj *>o

    cdef void close_handle(self, lnt_obj *obj):
        if self.p == NULL:
            return
        pthread_mutex_lock(&self.p.lock)
        object_release(self.p, <lnt_object *>obj)
        pthread_mutex_unlock(&self.p.lock)

    def info(self, uint64_t object_id):
        cdef lnt_pool *p = self.open_pool()
        cdef lnt_object *o
        cdef uint8_t[512] slot
        pthread_mutex_lock(&p.lock)
        o = object_find(p, object_id)
        if o != NULL:
            object_store(p, o, slot)
        pthread_mutex_unlock(&p.lock)
        return object_info((<const char *>slot)[:L_SLOT_BYTES], self.serial_mask) if o != NULL else None

    cdef uint64_t clock_us(self) except? 77:
        """The time of a turn that is given none, and of the open."""
        return lnt_mono_us() if self.clock is None else self.clock()
