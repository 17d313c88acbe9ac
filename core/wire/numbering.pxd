# Command numbering: whose turn a CmdSN is, and how many commands a session may have open (RFC 7143 §4.2.2.1).
from core.wire.nexus cimport lnt_abort, lnt_session, lnt_task
from core.wire.pdu cimport BHS_CMD_SN, BHS_OPCODE, OPCODE_IMMEDIATE, get_be32, sn_le, sn_lt
from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef enum lnt_place:
    PLACE_NOW = 0                     # its turn (or immediate)
    PLACE_EARLY = 1                   # inside the window, others are missing
    PLACE_DROP = 2                    # outside the window, or being received: ignored without a trace

cdef bint numbering_insert(lnt_session *s, lnt_task *t) noexcept nogil
cdef lnt_task *numbering_next(lnt_session *s) noexcept nogil
cdef void numbering_remove(lnt_task *t) noexcept nogil
cdef void numbering_plug(lnt_session *s, lnt_abort *a) noexcept nogil
cdef bint numbering_plugged(lnt_session *s, lnt_task *t) noexcept nogil

cdef inline void numbering_init(lnt_session *s, uint32_t exp_cmd_sn, uint32_t window) noexcept nogil:
    s.numbering.exp_cmd_sn = exp_cmd_sn
    s.numbering.window = window
    s.numbering.max_cmd_sn = exp_cmd_sn + window - 1

cdef inline uint32_t window_end(lnt_session *s) noexcept nogil:
    # MaxCmdSN: room for what is not taken by tasks; it never goes back (RFC 7143 §4.2.2.1).
    cdef uint32_t room = s.numbering.window - s.numbering.numbered if s.numbering.window > s.numbering.numbered else 0
    cdef uint32_t end = s.numbering.exp_cmd_sn + room - 1
    if <int32_t>(end - s.numbering.max_cmd_sn) > 0:
        s.numbering.max_cmd_sn = end
    return s.numbering.max_cmd_sn

cdef inline lnt_place numbering_place(lnt_session *s, const uint8_t *h) noexcept nogil:
    # The command window is enforced here: a CmdSN outside [ExpCmdSN, MaxCmdSN] is dropped.
    cdef uint32_t cmd_sn = get_be32(h + BHS_CMD_SN)
    if h[BHS_OPCODE] & OPCODE_IMMEDIATE:
        return PLACE_NOW
    if cmd_sn == s.numbering.exp_cmd_sn and sn_le(cmd_sn, s.numbering.max_cmd_sn):
        return PLACE_NOW if s.numbering.early == NULL or s.numbering.early.cmd_sn != cmd_sn else PLACE_DROP
    if sn_lt(cmd_sn, s.numbering.exp_cmd_sn) or not sn_le(cmd_sn, s.numbering.max_cmd_sn):
        return PLACE_DROP
    return PLACE_EARLY

cdef inline bint numbering_advance(lnt_session *s, const uint8_t *h) noexcept nogil:
    # A PDU took its turn. True when others may have waited for it.
    if h[BHS_OPCODE] & OPCODE_IMMEDIATE:
        return False
    s.numbering.exp_cmd_sn += 1
    return s.numbering.early != NULL or s.numbering.plug.is_set

cdef inline void numbering_count(lnt_task *t) noexcept nogil:
    # It holds a place in the window, or one of the few for immediate commands.
    t.counted = 1
    if t.immediate:
        t.session.numbering.immediates += 1
    else:
        t.session.numbering.numbered += 1

cdef inline void numbering_release(lnt_task *t) noexcept nogil:
    if not t.counted:
        return
    t.counted = 0
    if t.immediate:
        t.session.numbering.immediates -= 1
    else:
        t.session.numbering.numbered -= 1

cdef inline void numbering_lend(lnt_task *t) noexcept nogil:
    # It waits for a limit, not for us: it lets go of its place, so that commands on other LUNs find one. No more than a
    # window's worth of commands do so.
    if t.counted and not t.immediate and t.session.numbering.lent < t.session.numbering.window:
        numbering_release(t)
        t.lent = 1
        t.session.numbering.lent += 1

cdef inline bint numbering_opens(lnt_task *t) noexcept nogil:
    # By letting go of its place it opens a window that its initiator takes for full: nobody tells it so before an answer is sent.
    return t.lent and t.cmd_sn == t.session.numbering.max_cmd_sn

cdef inline void numbering_return(lnt_task *t) noexcept nogil:
    # Its wait is over. For a while the session may have more open than its window.
    if t.lent:
        t.lent = 0
        t.session.numbering.lent -= 1
        numbering_count(t)

cdef inline void numbering_forget(lnt_task *t) noexcept nogil:
    # The task goes before its turn; its CmdSN stays due.
    if t.early:
        numbering_remove(t)
