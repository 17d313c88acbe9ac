# SCSI commands on the data plane: planned at their header, stepped as data and buffers come, executed, answered.
from core._session cimport lnt_inbox, lnt_reactor, lnt_task
from libc.stdint cimport uint8_t, uint32_t

cdef void command_plan(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_step(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void dormant_step(lnt_reactor *r) noexcept nogil
cdef void waiting_step(lnt_reactor *r) noexcept nogil
cdef void command_complete(lnt_reactor *r, lnt_task *t, lnt_inbox *m) noexcept nogil
cdef void command_sense(lnt_task *t, uint8_t key, uint32_t asc_ascq) noexcept nogil
cdef void pdu_to_python(lnt_reactor *r, lnt_task *t) noexcept nogil
