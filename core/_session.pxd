# The reactor's state: sessions, connections, tasks, LUN tables, buffers. Owned by its thread unless a field says otherwise.
from core._engine cimport lnt_pool
from core._pdu cimport AHS_BYTES_MAX, BHS_BYTES
from core._types cimport lnt_dev, lnt_io, lnt_obj, lnt_op
from core._uring cimport io_uring_buf_ring, iovec, lnt_ring, msghdr
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef unsigned long pthread_t
    int pthread_mutex_init(pthread_mutex_t *m, void *attr)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)
    int pthread_mutex_destroy(pthread_mutex_t *m)

cdef extern from *:
    uint32_t lnt_load32 "__atomic_load_n" (uint32_t *p, int order) nogil
    void lnt_store32 "__atomic_store_n" (uint32_t *p, uint32_t v, int order) nogil
    uint32_t lnt_swap32 "__atomic_exchange_n" (uint32_t *p, uint32_t v, int order) nogil
    uint32_t lnt_add32 "__atomic_add_fetch" (uint32_t *p, uint32_t v, int order) nogil
    uint32_t lnt_sub32 "__atomic_sub_fetch" (uint32_t *p, uint32_t v, int order) nogil
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int RELEASE "__ATOMIC_RELEASE"
    int RELAXED "__ATOMIC_RELAXED"
    int SEQ_CST "__ATOMIC_SEQ_CST"

cdef enum:
    LUNF_SLOW = 1
    LUNF_RO = 2
    LUNF_DSENSE = 4
    LUNF_WRITE_SLOW = 8

cdef enum:
    LUN_HASH = 64
    ITT_HASH = 256
    BUF_CLASSES = 13               # 4 KiB << 0 .. 4 KiB << 12 = 16 MiB
    BUF_SHIFT = 12
    TX_SLOTS = 64                  # PDUs of one gathered send
    RX_BUF_BYTES = 16384           # small and few: they stay in the cache
    RX_BUF_COUNT = 64
    CONNS_MAX = 4096
    SESSIONS_MAX = 4096
    IMMEDIATE_MAX = 64             # immediate commands of a session at once
    EVENTS_MAX = 256               # PDU events of a connection Python has not fetched yet
    CONTROL_PAUSE = 512            # answers waiting on a connection beyond which nothing more is read from it ...
    CONTROL_BYTES_PAUSE = 1 << 20  # ... and their data
    CONTROL_MAX = 32768            # what receive buffers that are filled already may add to that
    CONTROL_BYTES_MAX = 8 << 20
    KEPT_MAX = 256                 # responses a connection keeps until ExpStatSN acknowledges them (ErrorRecoveryLevel 1)
    HOLDS_MAX = 64                 # times one response may be queued to be sent again
    R2T_KEPT = 4                   # last R2Ts of a task that can be sent again

cdef enum:                         # low bits of a completion's user_data; the rest is a pointer
    TAG_RECV = 1
    TAG_SEND = 2
    TAG_DEVICE = 3
    TAG_WAKE = 4
    TAG_CANCEL = 5                 # nothing follows from a cancellation's own completion
    TAG_MASK = 7

cdef enum:
    RX_GROUP = 1                   # the ring of receive buffers

cdef enum:                         # why a connection closed; the order of _reactor.CLOSE_REASONS
    CLOSE_PEER = 0
    CLOSE_ERROR = 1
    CLOSE_PROTOCOL = 2
    CLOSE_DIGEST = 3
    CLOSE_KEEPALIVE = 4
    CLOSE_REQUESTED = 5
    CLOSE_STOPPED = 6

cdef enum lnt_task_state:
    T_FREE = 0
    T_DATA = 1                     # waits for its turn (CmdSN), its Data-Out or a buffer
    T_DEVICE = 2                   # op in the engine
    T_PYTHON = 3                   # event given to Python
    T_SEND = 4                     # response queued or being sent

cdef enum:                         # ASC and ASCQ of the ABORTED COMMAND a task ends with, RFC 7143 §11.4.7.2
    FAIL_UNSOLICITED = 0x0c0c      # unexpected unsolicited data
    FAIL_AMOUNT = 0x0c0d           # incorrect amount of data
    FAIL_DIGEST = 0x4705           # protocol service CRC error

cdef struct lnt_lun:
    lnt_lun *next                  # hash chain
    lnt_obj *obj
    uint64_t object_id
    uint32_t number
    uint32_t flags                 # written by Python at any time
    uint32_t refs                  # tasks
    uint8_t removed
    uint64_t fast_reads
    uint64_t fast_writes
    uint64_t fast_other
    uint64_t slow
    uint64_t read_bytes
    uint64_t write_bytes
    uint64_t errors
    lnt_session *session
    # the nexus's commands on it as a task set (SAM-5 §8)
    uint32_t enabled               # tasks that may run and have not ended
    uint8_t barrier                # one of them is ORDERED: nothing that came after it runs
    uint8_t settling               # in the reactor's list of sets whose dormant tasks may have become free
    lnt_task *dormant_head         # tasks that wait for an ORDERED one, or are one
    lnt_task *dormant_tail
    lnt_lun *settle_next

cdef struct lnt_session:
    uint64_t handle
    uint32_t exp_cmd_sn
    uint32_t max_cmd_sn
    uint32_t window
    uint32_t first_burst
    uint32_t max_burst
    uint32_t max_r2t
    uint8_t initial_r2t
    uint8_t immediate_data
    uint8_t recovery               # ErrorRecoveryLevel
    uint8_t removing
    uint8_t plug_set               # commands up to plug_before that have not arrived are aborted as they come
    uint32_t plug_before
    int32_t plug_lun               # -1: any
    uint32_t plug_itt
    uint8_t plug_any_itt
    uint32_t numbered              # tasks with a CmdSN, alive
    uint32_t immediates
    uint32_t conns
    uint32_t lun_count
    uint32_t task_count
    lnt_task *early                # arrived ahead of their CmdSN
    lnt_lun *luns[LUN_HASH]
    lnt_task *by_itt[ITT_HASH]
    lnt_session *next
    lnt_reactor *reactor

cdef enum:
    ATTRIBUTE_MASK = 7             # of BHS byte 1; all but these two are SIMPLE
    ATTRIBUTE_ORDERED = 2
    ATTRIBUTE_HEAD = 3

cdef enum:
    TX_TASK = 0
    TX_PDU = 1
    TX_AGAIN = 2                   # what `of` sent, or a part of it, once more

cdef struct lnt_tx:                # one entry of a connection's send queue
    lnt_tx *next
    lnt_task *task                 # TX_TASK: embedded in it
    uint8_t kind
    uint8_t close                  # close the connection when sent
    uint8_t kept                   # in the connection's list of responses that are not acknowledged
    uint8_t status                 # TX_AGAIN: the response too, after the data
    uint16_t holds                 # being sent, or queued to be sent again
    void *heap                     # frees data, or NULL
    uint32_t length
    uint32_t stat_sn               # of a response that was kept
    uint32_t sn                    # TX_AGAIN: the next DataSN ...
    uint32_t sn_end                # ... and where to stop
    lnt_tx *of
    uint8_t *data
    uint8_t bhs[BHS_BYTES]

cdef struct lnt_r2t:               # what an R2T asked for
    uint32_t offset
    uint32_t length

cdef struct lnt_again:             # what ErrorRecoveryLevel 1 and 2 remember of a task
    uint32_t segment               # MaxRecvDataSegmentLength of its Data-In
    uint32_t base_sn               # DataSN of the byte at base_offset; those before were acknowledged
    uint32_t base_offset
    uint32_t acked_sn              # acknowledged by DataACK, up to this DataSN ...
    uint32_t acked_offset          # ... which begins here
    uint32_t snack_tag
    uint16_t recoveries            # recovery R2Ts
    uint8_t mixed                  # the segment length changed while it was sent
    uint8_t dropped                # its Data-In is no longer held
    lnt_r2t r2ts[R2T_KEPT]

cdef struct lnt_task:
    lnt_op op
    lnt_tx tx
    lnt_session *session
    lnt_conn *conn
    lnt_lun *lun
    lnt_task *itt_next
    lnt_task *conn_next
    lnt_task *conn_prev
    lnt_task *next                 # whichever list its state says
    lnt_task *wait_next            # buffer wait queue
    uint32_t index
    uint32_t generation
    uint8_t state
    uint8_t aborted
    uint8_t ordered                # its CmdSN's turn has come
    uint8_t immediate
    uint8_t flags                  # BHS byte 1
    uint8_t kind                   # FAST_...; 0: Python decides
    uint8_t fua
    uint8_t is_pdu                 # not a SCSI command: a PDU that came before its CmdSN's turn
    uint8_t early                  # in the session's list of those
    uint8_t hashed
    uint8_t waiting                # in the buffer wait queue
    uint8_t enabled                # counts in its LUN's task set
    uint8_t dormant                # waits there
    uint8_t status
    uint8_t response
    uint8_t unsolicited            # unsolicited Data-Out may still come
    uint8_t receiving              # a Data-Out payload is being received into it
    uint8_t deferred               # takes its turn when its payload has proven intact (ErrorRecoveryLevel 1)
    uint8_t gap                    # Data-Out of the current sequence was lost
    uint16_t fail                  # ASC << 8 | ASCQ of the ABORTED COMMAND it ends with; 0: none
    uint32_t itt
    uint32_t cmd_sn
    uint32_t edtl
    uint64_t offset                # fast: bytes in the object
    uint32_t expected              # fast: bytes the CDB transfers
    uint32_t want                  # Data-Out bytes to gather
    uint32_t got                   # Data-Out bytes received in order
    uint32_t sequence_end          # offset where the current Data-Out sequence ends
    uint32_t data_sn               # next DataSN in it
    uint32_t r2t_next              # next offset to solicit
    uint32_t r2t_sn                # next R2TSN
    uint32_t r2t_done              # sequences completed
    uint32_t r2t_base              # offset of the first solicited byte
    uint32_t r2t_again             # where the next R2T, a recovery R2T, ends; 0: none is due
    uint8_t *buf
    uint8_t buf_class
    uint8_t sense_length
    uint8_t residual_flags
    uint8_t counted                # holds a place in the command window
    uint32_t residual
    void *send_heap                # frees send_data, or NULL
    uint8_t *send_data
    uint32_t send_left
    uint32_t send_offset
    uint32_t send_sn
    uint32_t burst_left
    uint8_t *ahs                   # malloc'ed AHS, or NULL
    uint32_t ahs_length
    uint8_t lun_field[8]
    uint8_t bhs[BHS_BYTES]
    uint8_t sense[256]             # 2-byte length first
    lnt_again again                # zero at ErrorRecoveryLevel 1 and 2 only

cdef enum:
    C_OPEN = 1
    C_CLOSING = 2                  # shut down; waits for its requests
    C_DEAD = 3

cdef enum:
    RX_HEADER = 0
    RX_PAYLOAD = 1

cdef struct lnt_conn:
    uint64_t handle
    lnt_session *session
    lnt_conn *next
    int fd
    uint32_t file                  # index in the registered files
    uint32_t cid
    uint8_t state
    uint8_t header_digest
    uint8_t data_digest
    uint8_t recv_armed
    uint8_t paused                 # it does not read its answers: nothing more is read from it
    uint8_t sending                # a sendmsg is in the ring
    uint8_t dirty                  # in the reactor's flush list
    uint8_t close_reason
    uint8_t recovery               # ErrorRecoveryLevel of its session
    uint8_t bulk                   # wants its payload received directly
    uint8_t starved                # recv ended for want of buffers
    uint32_t ring_refs
    uint32_t stat_sn
    uint32_t exp_stat_sn           # what the initiator has acknowledged (kept at ErrorRecoveryLevel 1)
    uint32_t max_send
    uint32_t max_recv
    uint32_t pending_events        # atomic: PDU events not fetched yet
    uint32_t control_count
    uint32_t control_bytes
    uint64_t buffered              # bytes of task buffers
    uint64_t kept_buffered         # those of them that only wait for an acknowledgement
    uint64_t kept_bytes            # the same with data on the heap
    uint32_t kept_count
    lnt_tx *kept_head              # responses in the order of their StatSN
    lnt_tx *kept_tail
    uint32_t task_count
    lnt_task *tasks
    lnt_conn *dirty_next
    lnt_conn *bulk_next
    # keepalive
    uint64_t nop_interval_us
    uint64_t nop_timeout_us
    uint64_t last_rx_us
    uint64_t nop_sent_us
    uint32_t nop_ttt
    # receive
    uint8_t rx_state
    uint8_t drop                   # the PDU being received is ignored when complete
    uint32_t header_have
    uint8_t *dst                   # where the payload goes; NULL: nowhere
    uint32_t dst_left
    uint32_t data_left
    uint32_t trail_left
    uint32_t trail_have
    uint32_t data_length
    uint32_t crc
    lnt_task *rx_task
    uint8_t *rx_data               # malloc'ed payload of a PDU without a task
    # send
    lnt_tx *tx_head
    lnt_tx *tx_tail
    uint32_t slots
    uint32_t iov_at
    uint32_t iov_count
    uint8_t close_after_batch
    msghdr msg
    # counters
    uint64_t rx_bytes
    uint64_t tx_bytes
    uint64_t rx_pdus
    uint64_t tx_pdus
    uint64_t digest_errors
    uint64_t rejects
    uint64_t snacks
    uint64_t resent                # PDUs sent again
    uint64_t recovery_r2ts
    uint8_t trail[8]
    uint8_t header[BHS_BYTES + AHS_BYTES_MAX + 4]
    lnt_task *sent_task[TX_SLOTS]  # released when the batch is sent
    lnt_tx *sent_tx[TX_SLOTS]
    iovec iov[TX_SLOTS * 2 + 1]
    uint8_t arena[TX_SLOTS * 64]   # headers, pads and digests of the batch, one after the other

cdef struct lnt_abort:
    lnt_abort *next
    uint64_t token
    uint64_t session               # 0: any
    uint64_t conn
    uint64_t object_id
    uint64_t exclude_session
    int32_t lun                    # -1: any
    uint32_t itt
    uint32_t before_cmd_sn
    uint8_t any_itt
    uint8_t any_cmd_sn
    uint8_t query
    uint8_t device                 # counts what is in the engine, and is over when that is; aborts nothing
    uint8_t has_missing
    uint8_t tell                   # list what was aborted
    uint32_t missing_cmd_sn
    uint32_t count
    uint64_t *victims              # (connection, initiator task tag) of each

cdef enum:                         # events for Python
    EV_COMMAND = 1
    EV_PDU = 2
    EV_CLOSED = 3
    EV_ABORTED = 4
    EV_LUN_RELEASED = 5
    EV_SESSION_CLOSED = 6
    EV_CONN_FREED = 7

cdef struct lnt_event:
    lnt_event *next
    uint8_t kind
    uint8_t reason
    uint64_t session
    uint64_t conn
    uint64_t task
    uint64_t token
    int32_t lun
    uint32_t count
    uint32_t itt
    uint32_t edtl
    void *object                   # lnt_conn, lnt_lun or lnt_session to free with the GIL
    const char *detail
    uint8_t bhs[BHS_BYTES]
    uint32_t ahs_length            # AHS behind the data
    uint32_t length                # of the data behind the struct

cdef enum:                         # commands from Python
    IN_SESSION = 1
    IN_SESSION_REMOVE = 2
    IN_CONN = 3
    IN_CONN_CLOSE = 4
    IN_LUN = 5
    IN_LUN_REMOVE = 6
    IN_COMPLETE = 7
    IN_SEND = 8
    IN_ABORT = 9
    IN_STOP = 10
    IN_MAX_SEND = 11

cdef struct lnt_inbox:
    lnt_inbox *next
    uint8_t kind
    uint8_t status
    uint8_t response
    uint8_t close
    uint64_t handle                # session, connection or task
    void *object
    uint32_t number
    int32_t out_length             # COMPLETE: Data-Out bytes used, -1: all
    uint32_t sense_length
    uint32_t length
    uint8_t bhs[BHS_BYTES]
    uint8_t sense[252]

cdef struct lnt_buffers:
    uint8_t *free[BUF_CLASSES]     # of chunks and the arena, linked through their first word
    uint8_t *loose[BUF_CLASSES]    # mapped one by one, linked likewise
    uint8_t *arena                 # physically contiguous where the system has huge pages
    uint64_t arena_used
    uint64_t arena_bytes
    uint64_t limit
    uint64_t used                  # bytes handed out
    uint64_t cached                # bytes on the free lists
    uint64_t conn_limit

cdef struct lnt_disk:              # lnt_dev over the ring
    lnt_dev dev
    lnt_ring *ring
    uint32_t file                  # registered index
    int fd
    uint8_t inline_io              # memory-backed files: plain system calls
    uint8_t page_cache             # buffered files: writes go to it at once, and so do reads of what it holds
    uint8_t small_folios           # new parts of the file are written in small pieces (docs/performance.md)
    uint8_t cached                 # how well those have found lately, 0..16
    lnt_io *inline_head
    lnt_io *inline_tail
    lnt_io *done_head              # completed, the engine is to be told
    lnt_io *done_tail
    uint8_t *map                   # memory-backed files: all of it
    uint64_t map_bytes
    uint64_t slow_until_us
    uint64_t throttled
    uint32_t in_flight
    uint64_t reads
    uint64_t writes
    uint64_t syncs
    uint64_t read_bytes
    uint64_t write_bytes

cdef struct lnt_reactor:
    lnt_pool *pool
    lnt_ring *ring
    lnt_disk disk
    lnt_buffers buffers
    lnt_task *tasks                # max_tasks of them
    uint32_t max_tasks
    uint32_t live_tasks
    lnt_task *free_tasks
    uint64_t kept_bytes            # of all connections
    uint32_t kept_tasks
    lnt_tx *free_tx
    lnt_session *sessions
    lnt_conn *conns
    lnt_conn **conn_table          # CONNS_MAX, by the index in a handle
    lnt_conn *dirty
    lnt_conn *bulk
    lnt_lun *settle                # task sets to look at
    lnt_task *wait_head            # tasks that wait for a buffer
    lnt_task *wait_tail
    lnt_op *submit_head            # ops to submit this turn
    lnt_op *submit_tail
    lnt_abort *aborts
    uint8_t abort_check
    uint8_t reap_conns             # some connection may be ready to be freed
    uint8_t stopping
    uint8_t stop_seen
    uint32_t max_transfer
    uint64_t now_us
    uint64_t timer_us              # next keepalive deadline
    uint64_t engine_us             # next lnt_dev_run
    uint64_t poll_us
    int cpu
    int fd                         # the pool's
    int inline_io
    uint32_t nop_count
    uint32_t engine_due            # atomic
    # receive buffers
    io_uring_buf_ring *rx_ring
    uint8_t *rx_mem
    # mailboxes (own lock)
    pthread_mutex_t mutex
    lnt_inbox *inbox_head
    lnt_inbox *inbox_tail
    lnt_event *event_head
    lnt_event *event_tail
    int wake_fd
    int event_fd
    uint32_t wake_pending          # atomic
    uint64_t wake_value
    pthread_t thread
    int32_t started                # 0 no, 1 running, <0 -errno
    # counters
    uint64_t wakeups
    uint64_t cqes
    uint64_t sends
    uint64_t async_sends
    uint64_t turns
    uint64_t pdus             # received on all connections
    uint64_t paced_pdus       # the same when the last turn ended
    uint64_t paced_sends      # sends when the last turn ended
    uint32_t pdu_mean         # PDUs a turn, in sixteenths
    uint32_t behind           # answers an initiator heard in this turn has not taken yet: the least of them
    uint64_t gathers          # pauses taken for more commands to come
    uint32_t spin_chances     # turns after which spinning might pay
    uint32_t spin_score       # how well spinning has paid lately, 0..16+
    uint64_t direct_recvs
    uint64_t starved
    uint64_t pauses

cdef uint64_t handle_of(uint32_t index, uint32_t generation) noexcept nogil

cdef lnt_event *event_new(uint8_t kind, uint32_t length) noexcept nogil
cdef void event_post(lnt_reactor *r, lnt_event *e) noexcept nogil

cdef lnt_lun *lun_find(lnt_session *s, int number) noexcept nogil
cdef void lun_insert(lnt_session *s, lnt_lun *lun) noexcept nogil
cdef void lun_unref(lnt_reactor *r, lnt_lun *lun) noexcept nogil
cdef void lun_remove(lnt_reactor *r, lnt_lun *lun) noexcept nogil

cdef lnt_task *task_new(lnt_reactor *r, lnt_conn *c) noexcept nogil
cdef void task_free(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef lnt_task *task_by_itt(lnt_session *s, uint32_t itt) noexcept nogil
cdef void task_hash(lnt_task *t) noexcept nogil
cdef void task_answered(lnt_task *t) noexcept nogil
cdef void task_abort(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef bint task_buffer(lnt_reactor *r, lnt_task *t, uint64_t length, bint overdraft) noexcept nogil
cdef void task_drop_buffer(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_queue(lnt_task *t) noexcept nogil
cdef void task_enable(lnt_task *t) noexcept nogil
cdef void task_leave(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_wait(lnt_reactor *r, lnt_task *t) noexcept nogil
cdef void task_leave_lun(lnt_reactor *r, lnt_task *t) noexcept nogil

cdef void tx_free(lnt_reactor *r, lnt_tx *x) noexcept nogil
cdef void tx_drop_data(lnt_reactor *r, lnt_tx *x) noexcept nogil
cdef void tx_unkeep(lnt_reactor *r, lnt_conn *c) noexcept nogil
cdef void tx_gone(lnt_reactor *r, lnt_tx *x) noexcept nogil
cdef void tx_let_go(lnt_reactor *r, lnt_tx *x) noexcept nogil
cdef uint64_t kept_size(lnt_tx *x) noexcept nogil

cdef void conn_arm(lnt_reactor *r, lnt_conn *c) noexcept nogil
cdef void conn_pause(lnt_reactor *r, lnt_conn *c) noexcept nogil
cdef void conn_resume(lnt_reactor *r, lnt_conn *c) noexcept nogil
cdef void conn_close(lnt_reactor *r, lnt_conn *c, uint8_t reason, const char *detail) noexcept nogil
cdef bint conn_teardown(lnt_reactor *r, lnt_conn *c) noexcept nogil

cdef void abort_start(lnt_reactor *r, lnt_abort *a) noexcept nogil
cdef void aborts_check(lnt_reactor *r) noexcept nogil

cdef inline void task_turn(lnt_task *t) noexcept nogil:
    # Its CmdSN's turn has come: it enters the task set (SAM-5 §8.6).
    cdef lnt_lun *lun = t.lun
    t.ordered = 1
    if lun == NULL or t.aborted or t.is_pdu:
        return
    if t.flags & ATTRIBUTE_MASK >= ATTRIBUTE_ORDERED or lun.barrier or lun.dormant_head != NULL:
        task_queue(t)
    else:
        t.enabled = 1
        lun.enabled += 1

cdef inline void task_ended(lnt_reactor *r, lnt_task *t) noexcept nogil:
    # It is answered, or goes without: it leaves the task set.
    if t.enabled and t.lun.dormant_head == NULL and not t.lun.barrier:
        t.enabled = 0
        t.lun.enabled -= 1
    elif t.enabled or t.dormant:
        task_leave(r, t)

cdef inline uint32_t window_end(lnt_session *s) noexcept nogil:
    # MaxCmdSN: room for what is not taken by tasks; it never goes back (RFC 7143 §4.2.2.1).
    cdef uint32_t room = s.window - s.numbered if s.window > s.numbered else 0
    cdef uint32_t end = s.exp_cmd_sn + room - 1
    if <int32_t>(end - s.max_cmd_sn) > 0:
        s.max_cmd_sn = end
    return s.max_cmd_sn
