# SCSI commands on the data plane.
from core.wire.nexus cimport lnt_reactor, lnt_task
from libc.stdint cimport uint64_t, uint8_t

cdef void command_plan(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef bint command_takes(lnt_reactor *r, lnt_task *t, const uint8_t *at) noexcept nogil
cdef void task_step(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void dormant_step(lnt_reactor *r) noexcept nogil
cdef void delayed_step(lnt_reactor *r) noexcept nogil
cdef void waiting_step(lnt_reactor *r) noexcept nogil
cdef void submit(lnt_reactor *r, lnt_task *t, uint8_t kind, uint64_t offset, uint64_t length) noexcept nogil
