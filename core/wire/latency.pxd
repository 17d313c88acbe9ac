# How long commands take, by LUN and direction.
from core.wire.histogram cimport LATENCY_BUCKETS, LATENCY_FIRST_SHIFT, lnt_latency
from core.wire.nexus cimport lnt_lun, lnt_reactor, lnt_task
from core.wire.operations cimport DIRECTION_NONE, lnt_operations
from core.wire.pdu cimport BHS_CDB
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef extern from *:
    """
    static uint32_t lnt_latency_bucket(uint64_t us, uint32_t first_shift, uint32_t buckets)
    {
        uint32_t bits = us > 1 ? 64 - (uint32_t)__builtin_clzll(us - 1) : 0;    /* the least power of two not below it */
        uint32_t bucket = bits > first_shift ? bits - first_shift : 0;
        return bucket < buckets ? bucket : buckets - 1;
    }
    static void lnt_publish(void **at, void *made) { __atomic_store_n(at, made, __ATOMIC_RELEASE); }
    static void *lnt_published(void **at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
    """
    uint32_t lnt_latency_bucket(uint64_t us, uint32_t first_shift, uint32_t buckets) nogil
    void lnt_publish(void **at, void *made) nogil
    void *lnt_published(void **at) nogil

cdef lnt_latency *latency_begin(lnt_lun *lun) noexcept nogil
cdef bint latency_add(lnt_latency *into, lnt_lun *lun) noexcept nogil

cdef inline uint8_t direction_of(lnt_task *t) noexcept nogil:
    return lnt_operations[t.bhs[BHS_CDB]].direction

cdef inline void latency_answered(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # The last PDU of its answer is built. Only the reactor's thread counts; whoever reads may see the last one or not.
    cdef uint8_t direction = direction_of(t)
    cdef lnt_latency *latency
    cdef uint64_t took_us
    if direction == DIRECTION_NONE or t.lun == NULL:
        return
    latency = t.lun.latency if t.lun.latency != NULL else latency_begin(t.lun)
    if latency == NULL:
        return
    took_us = r.answer_us - t.arrived_us if r.answer_us > t.arrived_us else 0
    latency.counts[direction][lnt_latency_bucket(took_us, LATENCY_FIRST_SHIFT, LATENCY_BUCKETS)] += 1
    latency.sum_us[direction] += took_us
