# The LUNs that a session sees.
from core.wire.nexus cimport lnt_lun, lnt_reactor, lnt_session
from core.wire.thread cimport ACQUIRE, lnt_load32
from libc.stdint cimport uint32_t

cdef lnt_lun *lun_find(lnt_session *s, int number) noexcept nogil
cdef void lun_insert(lnt_session *s, lnt_lun *lun) noexcept nogil
cdef void lun_unref(lnt_reactor *r, lnt_lun *lun) noexcept nogil
cdef void lun_remove(lnt_reactor *r, lnt_lun *lun) noexcept nogil

cdef inline void lun_ref(lnt_lun *lun) noexcept nogil:
    lun.refs += 1

cdef inline uint32_t lun_flags(lnt_lun *lun) noexcept nogil:
    # LUNF_...: Python writes the word at any time.
    return lnt_load32(&lun.flags, ACQUIRE)
