"""CmdSN: the order of a session's commands and its command window (RFC 7143 §4.2.2.1, §11.6.1).

The window is enforced in `numbering.pxd` (`numbering_place`, `window_end`); here are what came ahead of its turn, and what was
aborted before it came. Lives here and nowhere else: `lnt_session.numbering`, and a task's `early` and `counted`. This module does
not know what a command does when its turn comes.
"""
from core.wire.pdu cimport lun_number


cdef bint numbering_insert(lnt_session *s, lnt_task *t) noexcept nogil:
    # Keeps the list of early tasks sorted by CmdSN; False for a number that is already there.
    cdef lnt_task **at = &s.numbering.early
    while at[0] != NULL and sn_lt(at[0].cmd_sn, t.cmd_sn):
        at = &at[0].next
    if at[0] != NULL and at[0].cmd_sn == t.cmd_sn:
        return False
    t.next = at[0]
    at[0] = t
    t.early = 1
    return True


cdef lnt_task *numbering_next(lnt_session *s) noexcept nogil:
    # Takes the early task whose turn has come out of the list and counts its CmdSN as received; NULL: there is none.
    cdef lnt_task *t = s.numbering.early
    if t != NULL and t.cmd_sn == s.numbering.exp_cmd_sn and not t.deferred:
        s.numbering.early = t.next
        t.early = 0
        s.numbering.exp_cmd_sn += 1
        return t
    if s.numbering.plug.is_set and not sn_lt(s.numbering.exp_cmd_sn, s.numbering.plug.before):
        s.numbering.plug.is_set = 0
    return NULL


cdef void numbering_remove(lnt_task *t) noexcept nogil:
    cdef lnt_task **at = &t.session.numbering.early
    while at[0] != NULL and at[0] != t:
        at = &at[0].next
    if at[0] == t:
        at[0] = t.next


cdef void numbering_plug(lnt_session *s, lnt_abort *a) noexcept nogil:
    # Commands before the request's own CmdSN that have not come yet are aborted as they come.
    if not sn_lt(s.numbering.exp_cmd_sn, a.before_cmd_sn):
        return
    s.numbering.plug.is_set = 1
    s.numbering.plug.before = a.before_cmd_sn
    s.numbering.plug.lun = a.lun
    s.numbering.plug.itt = a.itt
    s.numbering.plug.any_itt = a.any_itt


cdef bint numbering_plugged(lnt_session *s, lnt_task *t) noexcept nogil:
    # True for a command that task management aborted before it arrived.
    if not s.numbering.plug.is_set or t.immediate or not sn_lt(t.cmd_sn, s.numbering.plug.before):
        return False
    if s.numbering.plug.lun >= 0 and lun_number(t.lun_field) != s.numbering.plug.lun:
        return False
    return s.numbering.plug.any_itt or s.numbering.plug.itt == t.itt
