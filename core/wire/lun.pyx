"""The LUNs that a session sees, by number, and how long each is held (RFC 7143 §4.6.4; SAM-5 §4.7).

Lives here and nowhere else: `lnt_session.luns`, a LUN's references and its end. A LUN that was removed goes to Python, which made
it, when its last task has ended.
"""
from core.wire.delay cimport delay_limits
from core.wire.mailbox cimport event_of, event_post
from core.wire.nexus cimport EV_LUN_RELEASED, LUN_HASH, lnt_event
from core.wire.task_set cimport task_set_forget
from libc.stdint cimport int32_t


cdef lnt_lun *lun_find(lnt_session *s, int number) noexcept nogil:
    cdef lnt_lun *lun
    if number < 0:
        return NULL
    lun = s.luns[number & (LUN_HASH - 1)]
    while lun != NULL and lun.number != <uint32_t>number:
        lun = lun.next
    return lun


cdef void lun_insert(lnt_session *s, lnt_lun *lun) noexcept nogil:
    lun.session = s
    lun.next = s.luns[lun.number & (LUN_HASH - 1)]
    s.luns[lun.number & (LUN_HASH - 1)] = lun


cdef void lun_release(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    cdef lnt_event *e = event_of(&lun.released, EV_LUN_RELEASED, lun)
    task_set_forget(r, lun)
    e.session = lun.session.handle
    e.lun = <int32_t>lun.number
    event_post(r, e)


cdef void lun_unref(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    lun.refs -= 1
    if lun.removed and lun.refs == 0:
        lun_release(r, lun)


cdef void lun_remove(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    cdef lnt_lun **at = &lun.session.luns[lun.number & (LUN_HASH - 1)]
    while at[0] != NULL and at[0] != lun:
        at = &at[0].next
    if at[0] == NULL:
        return
    at[0] = lun.next
    lun.removed = 1
    delay_limits(r, lun, NULL, NULL)    # what waits need not wait for a LUN that goes
    if lun.refs == 0:
        lun_release(r, lun)
