"""Task sets with an ORDERED or HEAD OF QUEUE task in them: who may run, who waits, who runs next (SAM-5 §8.6, §8.7).

Lives here and nowhere else: `lnt_lun.task_set`, a task's `ordered`, `enabled` and `dormant`, and the reactor's list of sets to
settle. Only the nexus's own tasks count: in what order those of two nexuses came, neither can tell.
"""
from core.wire.nexus cimport ATTRIBUTE_HEAD
from core.wire.queue cimport queue_put, queue_remove
from libc.stdint cimport uint8_t


cdef void enable(lnt_task *t) noexcept nogil:
    t.dormant = 0
    t.enabled = 1
    t.lun.task_set.enabled += 1
    if t.flags & ATTRIBUTE_MASK == ATTRIBUTE_ORDERED:
        t.lun.task_set.barrier = 1


cdef void task_set_add(lnt_task *t) noexcept nogil:
    # Enables a task unless an ORDERED one is in its way, or it is one and others are in its own (SAM-5 §8.7).
    cdef lnt_lun *lun = t.lun
    cdef uint8_t attribute = t.flags & ATTRIBUTE_MASK
    if attribute == ATTRIBUTE_HEAD or not (lun.task_set.barrier or lun.task_set.dormant.head != NULL or
                                           (attribute == ATTRIBUTE_ORDERED and lun.task_set.enabled)):
        enable(t)
        return
    t.dormant = 1
    queue_put(&lun.task_set.dormant, t)


cdef void task_set_leave(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # An enabled or dormant task leaves; those that waited for it are looked at when the turn settles.
    cdef lnt_lun *lun = t.lun
    if t.enabled:
        t.enabled = 0
        lun.task_set.enabled -= 1
        if t.flags & ATTRIBUTE_MASK == ATTRIBUTE_ORDERED:
            lun.task_set.barrier = 0
    else:
        t.dormant = 0
        queue_remove(&lun.task_set.dormant, t)
    if lun.task_set.dormant.head != NULL and not lun.task_set.settling:
        lun.task_set.settling = 1
        lun.task_set.settle_next = r.settle
        r.settle = lun


cdef lnt_lun *task_set_to_settle(lnt_reactor *r) noexcept nogil:
    # The next LUN whose set something left; NULL: there is none.
    cdef lnt_lun *lun = r.settle
    if lun != NULL:
        r.settle = lun.task_set.settle_next
        lun.task_set.settling = 0
    return lun


cdef lnt_task *task_set_next(lnt_lun *lun) noexcept nogil:
    # Enables and returns the dormant task that may run now; NULL: none may.
    cdef lnt_task *t = lun.task_set.dormant.head
    if t == NULL or lun.task_set.barrier or (t.flags & ATTRIBUTE_MASK == ATTRIBUTE_ORDERED and lun.task_set.enabled):
        return NULL
    queue_remove(&lun.task_set.dormant, t)
    enable(t)
    return t


cdef void task_set_forget(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    # The LUN goes.
    cdef lnt_lun **at = &r.settle
    if not lun.task_set.settling:
        return
    while at[0] != lun:
        at = &at[0].task_set.settle_next
    at[0] = lun.task_set.settle_next
    lun.task_set.settling = 0
