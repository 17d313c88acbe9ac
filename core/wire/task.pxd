# Tasks: slots, tags, buffers, their end.
from core.wire.lun cimport lun_ref
from core.wire.nexus cimport lnt_connection, lnt_lun, lnt_reactor, lnt_session, lnt_task
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef bint tasks_init(lnt_reactor *r, uint32_t slots) noexcept nogil
cdef void tasks_drop(lnt_reactor *r) noexcept nogil
cdef lnt_task *task_new(lnt_reactor *r, lnt_connection *c) noexcept nogil
cdef lnt_task *task_by_itt(lnt_session *s, uint32_t itt) noexcept nogil
cdef void task_hash(lnt_task *t) noexcept nogil
cdef void task_answered(lnt_task *t) noexcept nogil
cdef void task_wait(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_drop_buffer(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef bint task_buffer(lnt_reactor *r, lnt_task *t, uint64_t length, bint overdraft) noexcept nogil
cdef bint task_lies(lnt_reactor *r, lnt_task *t, const uint8_t *at) noexcept nogil
cdef bint task_copies(lnt_reactor *r, lnt_task *t, const uint8_t *at, uint32_t length) noexcept nogil
cdef bint task_grow_buffer(lnt_reactor *r, lnt_task *t, uint32_t length) noexcept nogil
cdef bint task_charge(lnt_reactor *r, lnt_task *t, uint32_t length, bint overdraft) noexcept nogil
cdef uint64_t task_held(lnt_task *t) noexcept nogil
cdef void task_drop_data(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_leave_lun(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_free(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_abort(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_check(lnt_task *t) noexcept nogil
cdef lnt_task *task_of(lnt_reactor *r, uint64_t handle) noexcept nogil
cdef lnt_task *task_waiters(lnt_reactor *r) noexcept nogil

cdef inline void task_join_lun(lnt_task *t, lnt_lun *lun) noexcept nogil:
    # NULL: the LUN is not mapped.
    t.lun = lun
    if lun != NULL:
        lun_ref(lun)
