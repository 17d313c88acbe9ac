# Sessions, connections, tasks and LUNs: how they come, are found, are aborted and go; events to Python.
from core._buffers cimport buffer_bytes, buffer_give, buffer_take
from core._pdu cimport sn_lt
from core._uring cimport lnt_prep_cancel, lnt_prep_recv_multishot
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef extern from "<sys/socket.h>" nogil:
    int shutdown(int fd, int how)
    int SHUT_RDWR
cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *p, size_t n)

cdef enum:
    FAIR_BYTES = 256 << 10          # a connection that holds no buffer gets one up to this size whatever the others hold


# An index is at most 2^24; generations make a stale number harmless. 0 is never a number.
cdef uint64_t handle_of(uint32_t index, uint32_t generation) noexcept nogil:
    return <uint64_t>(generation & 0x7fffffff) << 24 | (index + 1)


# -- events ----------------------------------------------------------------------------------------------------------

cdef lnt_event *event_new(uint8_t kind, uint32_t length) noexcept nogil:
    cdef lnt_event *e = <lnt_event *>malloc(sizeof(lnt_event) + length)
    if e != NULL:
        memset(e, 0, sizeof(lnt_event))
        e.kind = kind
        e.length = length
    return e


cdef void event_post(lnt_reactor *r, lnt_event *e) noexcept nogil:
    cdef uint64_t one = 1
    cdef bint first
    if e == NULL:
        return
    e.next = NULL
    pthread_mutex_lock(&r.mutex)
    first = r.event_head == NULL
    if first:
        r.event_head = e
    else:
        r.event_tail.next = e
    r.event_tail = e
    pthread_mutex_unlock(&r.mutex)
    if first:
        write(r.event_fd, &one, 8)


# -- LUN tables ------------------------------------------------------------------------------------------------------

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
    s.lun_count += 1


cdef void lun_release(lnt_reactor *r, lnt_lun *lun) noexcept nogil:
    cdef lnt_event *e = event_new(EV_LUN_RELEASED, 0)
    cdef lnt_lun **at = &r.settle
    if lun.settling:
        while at[0] != lun:
            at = &at[0].settle_next
        at[0] = lun.settle_next
        lun.settling = 0
    if e == NULL:
        return
    e.session = lun.session.handle
    e.lun = <int32_t>lun.number
    e.object = lun
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
    lun.session.lun_count -= 1
    lun.removed = 1
    if lun.refs == 0:
        lun_release(r, lun)


# -- tasks -----------------------------------------------------------------------------------------------------------

cdef inline uint32_t itt_slot(uint32_t itt) noexcept nogil:
    return (itt ^ itt >> 8 ^ itt >> 16 ^ itt >> 24) & (ITT_HASH - 1)


cdef lnt_task *task_new(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # NULL when all slots are taken. Everything but index, generation and the op's private words is zero.
    cdef lnt_task *t = r.free_tasks
    cdef uint32_t index, generation
    if t == NULL:
        return NULL
    r.free_tasks = t.next
    index = t.index
    generation = t.generation
    memset(<uint8_t *>t + sizeof(t.op), 0, <size_t>(<uint8_t *>&t.sense[0] - <uint8_t *>t) - sizeof(t.op))
    t.index = index
    t.generation = generation
    t.state = T_DATA
    t.session = c.session
    t.conn = c
    t.tx.task = t
    if c.recovery:
        memset(&t.again, 0, sizeof(t.again))
    t.conn_next = c.tasks
    if c.tasks != NULL:
        c.tasks.conn_prev = t
    c.tasks = t
    c.task_count += 1
    c.session.task_count += 1
    r.live_tasks += 1
    return t


cdef lnt_task *task_by_itt(lnt_session *s, uint32_t itt) noexcept nogil:
    cdef lnt_task *t = s.by_itt[itt_slot(itt)]
    while t != NULL and t.itt != itt:
        t = t.itt_next
    return t


cdef void task_hash(lnt_task *t) noexcept nogil:
    cdef uint32_t k = itt_slot(t.itt)
    t.itt_next = t.session.by_itt[k]
    t.session.by_itt[k] = t
    t.hashed = 1


cdef void task_answered(lnt_task *t) noexcept nogil:
    # Its last PDU is built: the tag may be used again and its place in the window is free.
    cdef lnt_task **at
    if t.hashed:
        at = &t.session.by_itt[itt_slot(t.itt)]
        while at[0] != t:
            at = &at[0].itt_next
        at[0] = t.itt_next
        t.hashed = 0
    if t.counted:
        t.counted = 0
        if t.immediate:
            t.session.immediates -= 1
        else:
            t.session.numbered -= 1


cdef void unlink_waiting(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_task *w = r.wait_head
    cdef lnt_task *before = NULL
    while w != NULL and w != t:
        before = w
        w = w.wait_next
    if w == NULL:
        return
    if before == NULL:
        r.wait_head = t.wait_next
    else:
        before.wait_next = t.wait_next
    if r.wait_tail == t:
        r.wait_tail = before
    t.waiting = 0


# -- task sets -------------------------------------------------------------------------------------------------------

cdef void task_enable(lnt_task *t) noexcept nogil:
    t.dormant = 0
    t.enabled = 1
    t.lun.enabled += 1
    if t.flags & ATTRIBUTE_MASK == ATTRIBUTE_ORDERED:
        t.lun.barrier = 1


cdef void task_queue(lnt_task *t) noexcept nogil:
    # Enables a task unless an ORDERED one is in its way, or it is one and others are in its own (SAM-5 §8.7). Only the nexus's
    # own tasks count: in what order those of two nexuses came, neither can tell.
    cdef lnt_lun *lun = t.lun
    cdef uint8_t attribute = t.flags & ATTRIBUTE_MASK
    if attribute != ATTRIBUTE_HEAD and (lun.barrier or lun.dormant_head != NULL or
                                        (attribute == ATTRIBUTE_ORDERED and lun.enabled)):
        t.dormant = 1
        t.next = NULL
        if lun.dormant_tail != NULL:
            lun.dormant_tail.next = t
        else:
            lun.dormant_head = t
        lun.dormant_tail = t
        return
    task_enable(t)


cdef void task_leave(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_lun *lun = t.lun
    cdef lnt_task *before = NULL
    cdef lnt_task *w
    if t.enabled:
        t.enabled = 0
        lun.enabled -= 1
        if t.flags & ATTRIBUTE_MASK == ATTRIBUTE_ORDERED:
            lun.barrier = 0
    else:
        t.dormant = 0
        w = lun.dormant_head
        while w != t:
            before = w
            w = w.next
        if before != NULL:
            before.next = t.next
        else:
            lun.dormant_head = t.next
        if lun.dormant_tail == t:
            lun.dormant_tail = before
    if lun.dormant_head != NULL and not lun.settling:
        lun.settling = 1
        lun.settle_next = r.settle
        r.settle = lun


cdef void task_drop_buffer(lnt_reactor *r, lnt_task *t) noexcept nogil:
    if t.buf != NULL:
        t.conn.buffered -= buffer_bytes(t.buf_class)
        buffer_give(&r.buffers, t.buf, t.buf_class)
        t.buf = NULL


cdef void task_leave_lun(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_lun *lun = t.lun
    t.lun = NULL
    if lun != NULL:
        lun_unref(r, lun)


cdef void task_free(lnt_reactor *r, lnt_task *t) noexcept nogil:
    cdef lnt_conn *c = t.conn
    cdef lnt_task **at
    task_answered(t)
    task_ended(r, t)
    if t.early:
        at = &t.session.early
        while at[0] != NULL and at[0] != t:
            at = &at[0].next
        if at[0] == t:
            at[0] = t.next
    if t.waiting:
        unlink_waiting(r, t)
    if c.rx_task == t:                      # the rest of its payload goes nowhere
        c.rx_task = NULL
        c.dst = NULL
        c.dst_left = 0
    task_drop_buffer(r, t)
    task_leave_lun(r, t)
    if t.ahs != NULL:
        free(t.ahs)
    if t.send_heap != NULL:
        free(t.send_heap)
    if t.conn_prev != NULL:
        t.conn_prev.conn_next = t.conn_next
    else:
        c.tasks = t.conn_next
    if t.conn_next != NULL:
        t.conn_next.conn_prev = t.conn_prev
    c.task_count -= 1
    t.session.task_count -= 1
    r.live_tasks -= 1
    if t.aborted or r.aborts != NULL:
        r.abort_check = 1
    if c.state != C_OPEN:
        r.reap_conns = 1
    t.state = T_FREE
    t.generation += 1
    t.next = r.free_tasks
    r.free_tasks = t


cdef void task_abort(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # No response will follow. What is in the engine is waited for; what is being answered is past aborting.
    if t.state == T_SEND or t.state == T_FREE:
        return
    t.aborted = 1
    if t.early:
        if not t.receiving:                 # it keeps its place in the numbering until its turn comes
            task_drop_buffer(r, t)
    elif t.state != T_DEVICE:
        task_free(r, t)


cdef bint task_buffer(lnt_reactor *r, lnt_task *t, uint64_t length, bint overdraft) noexcept nogil:
    # Gives the task a buffer, within the connection's and the reactor's bound unless overdraft.
    cdef lnt_conn *c = t.conn
    cdef bint first = c.buffered == c.kept_buffered and length <= FAIR_BYTES
    if not overdraft and c.buffered != c.kept_buffered and c.buffered + length > r.buffers.conn_limit:
        return False
    t.buf = buffer_take(&r.buffers, length, &t.buf_class, overdraft or first)
    if t.buf == NULL:
        return False
    c.buffered += buffer_bytes(t.buf_class)
    return True


cdef void task_wait(lnt_reactor *r, lnt_task *t) noexcept nogil:
    if t.waiting:
        return
    t.waiting = 1
    t.wait_next = NULL
    if r.wait_tail != NULL:
        r.wait_tail.wait_next = t
    else:
        r.wait_head = t
    r.wait_tail = t


# -- connections -----------------------------------------------------------------------------------------------------

cdef void conn_arm(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    lnt_prep_recv_multishot(r.ring, <int>c.file, RX_GROUP, 0, <uintptr_t>c | TAG_RECV)
    c.recv_armed = 1
    c.ring_refs += 1


cdef void conn_pause(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # It sends more than it takes. What it has sent stays in its socket; keepalive ends it if it takes nothing at all.
    if not c.paused:
        c.paused = 1
        r.pauses += 1
        if c.recv_armed:
            lnt_prep_cancel(r.ring, <uintptr_t>c | TAG_RECV, TAG_CANCEL)


cdef void conn_resume(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    c.paused = 0
    if c.state == C_OPEN and not c.recv_armed:
        conn_arm(r, c)


cdef void conn_close(lnt_reactor *r, lnt_conn *c, uint8_t reason, const char *detail) noexcept nogil:
    # Safe anywhere in the loop: the socket is shut, the rest happens in conn_teardown between turns.
    cdef lnt_event *e
    if c.state != C_OPEN:
        return
    c.state = C_CLOSING
    c.close_reason = reason
    r.reap_conns = 1
    shutdown(c.fd, SHUT_RDWR)
    e = event_new(EV_CLOSED, 0)
    if e != NULL:
        e.session = c.session.handle
        e.conn = c.handle
        e.reason = reason
        e.detail = detail
        event_post(r, e)


# -- responses that are kept (ErrorRecoveryLevel 1) --------------------------------------------------------------------

cdef void tx_free(lnt_reactor *r, lnt_tx *x) noexcept nogil:
    # A PDU of its own: not a task's.
    free(x.heap)
    x.next = r.free_tx
    r.free_tx = x


cdef uint64_t kept_size(lnt_tx *x) noexcept nogil:
    # Bytes that a kept response holds beyond itself.
    cdef uint64_t n
    if x.kind != TX_TASK:
        return x.length
    n = buffer_bytes(x.task.buf_class) if x.task.buf != NULL else 0
    return n + (<lnt_inbox *>x.task.send_heap).length if x.task.send_heap != NULL else n


cdef void tx_drop_data(lnt_reactor *r, lnt_tx *x) noexcept nogil:
    # A kept response of a task lets go of its data; only the response can be sent again.
    cdef lnt_task *t = x.task
    cdef lnt_conn *c = t.conn
    cdef uint64_t n = kept_size(x)
    c.kept_bytes -= n
    r.kept_bytes -= n
    if t.buf != NULL:
        c.kept_buffered -= buffer_bytes(t.buf_class)
        task_drop_buffer(r, t)
    free(t.send_heap)
    t.send_heap = NULL
    t.again.dropped = 1


cdef void tx_unkeep(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # The oldest kept response is acknowledged, or given up. It is gone once nothing of it is being sent.
    cdef lnt_tx *x = c.kept_head
    cdef uint64_t n = kept_size(x)
    c.kept_head = x.next
    if c.kept_head == NULL:
        c.kept_tail = NULL
    x.kept = 0
    c.kept_count -= 1
    c.kept_bytes -= n
    r.kept_bytes -= n
    if x.kind == TX_TASK:
        r.kept_tasks -= 1
        if x.task.buf != NULL:
            c.kept_buffered -= buffer_bytes(x.task.buf_class)
    tx_gone(r, x)


cdef void tx_gone(lnt_reactor *r, lnt_tx *x) noexcept nogil:
    # Frees a response that is neither kept nor being sent.
    if x.kept or x.holds:
        return
    if x.kind == TX_TASK:
        task_free(r, x.task)
    else:
        tx_free(r, x)


cdef void tx_let_go(lnt_reactor *r, lnt_tx *x) noexcept nogil:
    # One PDU that is no task's was sent, or will never be.
    cdef lnt_tx *of = x.of
    if x.kind == TX_AGAIN:
        tx_free(r, x)
        x = of
    if x.holds:
        x.holds -= 1
    tx_gone(r, x)


cdef void teardown_sends(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # What is queued, sent or kept goes; tasks are left to conn_teardown.
    cdef lnt_task *t = c.tasks
    cdef lnt_tx *x
    cdef uint32_t i
    while t != NULL:
        t.tx.holds = 0xffff
        t = t.conn_next
    while c.tx_head != NULL:
        x = c.tx_head
        c.tx_head = x.next
        if x.kind != TX_TASK:
            tx_let_go(r, x)
    c.tx_tail = NULL
    for i in range(c.slots):
        if c.sent_tx[i] != NULL:
            tx_let_go(r, c.sent_tx[i])
    c.slots = 0
    while c.kept_head != NULL:
        tx_unkeep(r, c)


cdef bint conn_teardown(lnt_reactor *r, lnt_conn *c) noexcept nogil:
    # Terminates what a closing connection still holds; True when nothing refers to it any more.
    cdef lnt_task *t
    cdef lnt_task *following
    if c.rx_data != NULL:
        free(c.rx_data)
        c.rx_data = NULL
    if not c.sending:
        teardown_sends(r, c)
    t = c.tasks
    while t != NULL:
        following = t.conn_next
        if t.state == T_SEND:
            if not c.sending:
                task_free(r, t)
        elif t.early:
            task_free(r, t)
        else:
            task_abort(r, t)
        t = following
    return c.task_count == 0 and c.ring_refs == 0 and not c.dirty and not c.bulk


# -- task management -------------------------------------------------------------------------------------------------

cdef bint abort_matches(lnt_abort *a, lnt_task *t) noexcept nogil:
    if t.is_pdu or (a.device and t.state != T_DEVICE):
        return False
    if a.session and t.session.handle != a.session:
        return False
    if a.exclude_session and t.session.handle == a.exclude_session:
        return False
    if a.conn and t.conn.handle != a.conn:
        return False
    if a.lun >= 0 and (t.lun == NULL or t.lun.number != <uint32_t>a.lun):
        return False
    if a.object_id and (t.lun == NULL or t.lun.object_id != a.object_id):
        return False
    if not a.any_itt and t.itt != a.itt:
        return False
    # An immediate command carries the CmdSN of the next one: it is older than the request if it is not above it.
    if not a.any_cmd_sn and not (sn_lt(t.cmd_sn, a.before_cmd_sn) or (t.immediate and t.cmd_sn == a.before_cmd_sn)):
        return False
    return True


cdef void abort_start(lnt_reactor *r, lnt_abort *a) noexcept nogil:
    # Takes ownership of `a`. Aborts or counts, and remembers it until quiescent.
    cdef uint32_t i
    cdef lnt_task *t
    cdef lnt_session *s
    if a.tell:
        a.victims = <uint64_t *>malloc(r.live_tasks * 16 + 16)
    for i in range(r.max_tasks):
        t = &r.tasks[i]
        if t.state == T_FREE or t.state == T_SEND or (t.aborted and (a.query or a.tell)):
            continue
        if abort_matches(a, t):
            if a.victims != NULL:
                a.victims[2 * a.count] = t.conn.handle
                a.victims[2 * a.count + 1] = t.itt
            a.count += 1
            if not a.query and not a.device:
                task_abort(r, t)
    if a.session and not a.any_cmd_sn and not a.query and not a.device:
        s = r.sessions
        while s != NULL and s.handle != a.session:
            s = s.next
        if s != NULL and sn_lt(s.exp_cmd_sn, a.before_cmd_sn):
            s.plug_set = 1
            s.plug_before = a.before_cmd_sn
            s.plug_lun = a.lun
            s.plug_itt = a.itt
            s.plug_any_itt = a.any_itt
    a.next = r.aborts
    r.aborts = a
    r.abort_check = 1


cdef bint abort_pending(lnt_reactor *r, lnt_abort *a) noexcept nogil:
    cdef uint32_t i
    cdef lnt_task *t
    if a.query:
        return False
    for i in range(r.max_tasks):
        t = &r.tasks[i]
        if t.state != T_FREE and (a.device or t.aborted and not t.early) and abort_matches(a, t):
            return True
    return False


cdef void aborts_check(lnt_reactor *r) noexcept nogil:
    # Tells Python about every abort whose task set has become quiescent.
    cdef lnt_abort **at = &r.aborts
    cdef lnt_abort *a
    cdef lnt_event *e
    r.abort_check = 0
    while at[0] != NULL:
        a = at[0]
        if abort_pending(r, a):
            at = &a.next
            continue
        at[0] = a.next
        e = event_new(EV_ABORTED, a.count * 16 if a.victims != NULL else 0)
        if e != NULL:
            e.token = a.token
            e.count = a.count
            if a.victims != NULL:
                memcpy(<uint8_t *>(e + 1), a.victims, e.length)
            event_post(r, e)
        free(a.victims)
        free(a)
