# Small things from C: a lock, little-endian access, clocks (core/base/native.h).
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, const void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_mutex_destroy(pthread_mutex_t *)

cdef extern from "native.h" nogil:
    uint64_t lnt_get_le64(const void *)
    uint32_t lnt_get_le32(const void *)
    uint16_t lnt_get_le16(const void *)
    void lnt_put_le64(void *, uint64_t)
    void lnt_put_le32(void *, uint32_t)
    void lnt_put_le16(void *, uint16_t)
    uint64_t lnt_mono_us()
    void lnt_soon(const void *at)
    void lnt_soon_written(void *at)
    void lnt_node_unpack(uint64_t *, const uint8_t *, int)
    void lnt_node_pack(uint8_t *, const uint64_t *, int)
    void lnt_count_unpack(uint32_t *, const uint8_t *, int)
    void lnt_count_pack(uint8_t *, const uint32_t *, int)
