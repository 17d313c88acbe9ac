# A nexus's commands on one LUN as a task set (SAM-5 §8): SIMPLE tasks pay a compare and a count.
from core.wire.nexus cimport ATTRIBUTE_MASK, ATTRIBUTE_ORDERED, lnt_lun, lnt_reactor, lnt_task

cdef void task_set_add(lnt_task *t) noexcept nogil
cdef void task_set_leave(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef lnt_lun *task_set_to_settle(lnt_reactor *r) noexcept nogil
cdef lnt_task *task_set_next(lnt_lun *lun) noexcept nogil
cdef void task_set_forget(lnt_reactor *r, lnt_lun *lun) noexcept nogil

cdef inline void task_turn(lnt_task *t) noexcept nogil:
    # Its CmdSN's turn has come: it enters the task set (SAM-5 §8.6).
    cdef lnt_lun *lun = t.lun
    t.ordered = 1
    if lun == NULL or t.aborted or t.is_pdu:
        return
    if t.flags & ATTRIBUTE_MASK >= ATTRIBUTE_ORDERED or lun.task_set.barrier or lun.task_set.dormant.head != NULL:
        task_set_add(t)
    else:
        t.enabled = 1
        lun.task_set.enabled += 1

cdef inline void task_ended(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # It is answered, or goes without: it leaves the task set.
    if t.enabled and t.lun.task_set.dormant.head == NULL and not t.lun.task_set.barrier:
        t.enabled = 0
        t.lun.task_set.enabled -= 1
    elif t.enabled or t.dormant:
        task_set_leave(r, t)
