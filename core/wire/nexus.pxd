# The structs of the data plane: session, connection, task, LUN, entry of a send queue, reactor. Declarations only.
#
# A struct is made of parts. Each part is written by the one module that its comment names; everybody else reads it and calls that
# module (tests/core/test_owners.py holds this against the code). The structs refer to each other, so they are declared in one
# place. All of it belongs to the reactor's thread unless a comment says otherwise.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_obj, lnt_op
from core.wire.buffers cimport lnt_buffers
from core.wire.disk cimport lnt_disk
from core.wire.histogram cimport lnt_latency
from core.wire.inbound cimport lnt_inbound
from core.wire.pdu cimport AHS_BYTES_MAX, BHS_BYTES
from core.wire.shares cimport lnt_share, lnt_shares
from core.wire.thread cimport pthread_mutex_t, pthread_t
from core.wire.uring cimport iovec, lnt_ring, msghdr
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

# -- bounds ----------------------------------------------------------------------------------------------------------

cdef enum:
    CONNECTIONS_MAX = 4096
    SESSIONS_MAX = 4096
    IMMEDIATE_MAX = 64             # immediate commands of a session at once
    EVENTS_MAX = 256               # PDU events of a connection Python has not fetched yet
    LUN_HASH = 64
    ITT_HASH = 256
    SEND_SLOTS = 64                # PDUs of one gathered send
    HOLDS_MAX = 64                 # times one response may be queued to be sent again
    R2T_KEPT = 4                   # last R2Ts of a task that can be sent again

# -- words of a LUN and a command ------------------------------------------------------------------------------------

cdef enum:                         # lnt_lun.flags: Python writes the word, the reactor reads it
    LUNF_SLOW = 1
    LUNF_RO = 2
    LUNF_DSENSE = 4
    LUNF_WRITE_SLOW = 8

cdef enum:                         # task attribute: BHS byte 1; all but these two are SIMPLE (RFC 7143 §11.3.1)
    ATTRIBUTE_MASK = 7
    ATTRIBUTE_ORDERED = 2
    ATTRIBUTE_HEAD = 3

cdef enum:                         # ASC and ASCQ of the ABORTED COMMAND a task ends with, RFC 7143 §11.4.7.2
    FAIL_UNSOLICITED = 0x0c0c      # unexpected unsolicited data
    FAIL_AMOUNT = 0x0c0d           # incorrect amount of data
    FAIL_DIGEST = 0x4705           # protocol service CRC error

cdef enum:                         # why a connection closed; the order of reactor.CLOSE_REASONS
    CLOSE_PEER = 0
    CLOSE_ERROR = 1
    CLOSE_PROTOCOL = 2
    CLOSE_DIGEST = 3
    CLOSE_KEEPALIVE = 4
    CLOSE_REQUESTED = 5
    CLOSE_STOPPED = 6

# -- events: core/wire/mailbox.pyx. What must be heard lies in what it is about, so that it needs no memory --------------

cdef enum:                         # events for Python
    EV_COMMAND = 1
    EV_PDU = 2
    EV_CLOSED = 3
    EV_ABORTED = 4
    EV_LUN_RELEASED = 5
    EV_SESSION_CLOSED = 6
    EV_CONNECTION_FREED = 7

cdef struct lnt_event:
    lnt_event *next
    uint8_t kind
    uint8_t reason
    uint8_t part                   # it lies in what it is about, and goes with it
    uint64_t session
    uint64_t connection
    uint64_t task
    uint64_t token
    int32_t lun
    uint32_t count
    uint32_t itt
    uint32_t edtl
    void *object                   # lnt_connection, lnt_lun or lnt_session to free with the GIL
    const char *detail
    uint8_t bhs[BHS_BYTES]
    uint32_t ahs_length            # AHS behind the data
    uint32_t length                # of the data behind the struct

# -- a LUN of a session: core/wire/lun.pyx ------------------------------------------------------------------------------

cdef struct lnt_task_queue:        # core/wire/queue.pxd: tasks in order
    lnt_task *head
    lnt_task *tail
    uint8_t for_buffers            # linked by `wait_next`, else by `next`

cdef struct lnt_task_set:          # core/wire/task_set.pyx: the nexus's commands on one LUN (SAM-5 §8)
    uint32_t enabled               # tasks that may run and have not ended
    uint8_t barrier                # one of them is ORDERED: nothing that came after it runs
    uint8_t settling               # in the reactor's list of sets whose dormant tasks may have become free
    lnt_task_queue dormant         # tasks that wait for an ORDERED one, or are one
    lnt_lun *settle_next

cdef struct lnt_limit:             # core/wire/limit.pyx: what a volume, or a host, may do; reactors share it, each word is atomic
    uint64_t ops_per_second        # 0: any
    uint64_t bytes_per_second      # 0: any
    uint64_t burst_ns              # how much of what was not used may be used later
    uint64_t next_op_ns            # when the next command is due ...
    uint64_t next_byte_ns          # ... and the next byte

cdef enum:
    LIMITS = 2                     # of the volume and of the host

cdef struct lnt_delay:             # core/wire/delay.pyx: commands that wait until limits let them begin
    lnt_limit *limits[LIMITS]      # NULL: none
    uint8_t active                 # there is one
    uint8_t listed                 # in the reactor's list of LUNs whose commands wait
    lnt_lun *next
    lnt_lun **at                   # where that list points to it
    lnt_task_queue queue           # those that wait ...
    uint32_t count
    uint64_t bytes                 # ... they transfer
    uint64_t granted_ops           # taken from the limits and not used yet ...
    uint64_t granted_bytes
    uint64_t due_ns                # ... and when they may be

cdef struct lnt_lun_counters:      # each by the module that decides: core/wire/command.pyx, core/wire/handover.pyx
    uint64_t fast_reads
    uint64_t fast_writes
    uint64_t fast_other
    uint64_t slow
    uint64_t read_bytes
    uint64_t write_bytes
    uint64_t errors
    uint64_t delayed               # commands that limits made wait ...
    uint64_t delayed_us            # ... and for how long in all

cdef struct lnt_lun:
    lnt_lun *next                  # hash chain
    lnt_obj *obj
    lnt_session *session
    uint64_t object_id
    uint32_t number
    uint32_t flags                 # written by Python at any time
    uint32_t refs                  # tasks
    uint8_t removed
    lnt_task_set task_set
    lnt_lun_counters counters
    lnt_delay delay
    lnt_latency *latency           # core/wire/latency.pyx: NULL until its first command is answered
    lnt_event released

# -- a session: core/wire/lifecycle.pyx -----------------------------------------------------------------------------------

cdef struct lnt_negotiated:        # core/wire/reactor.pyx, before the thread knows the session (RFC 7143 §13)
    uint32_t first_burst_length
    uint32_t max_burst_length
    uint32_t max_outstanding_r2t
    uint8_t initial_r2t
    uint8_t immediate_data
    uint8_t error_recovery_level

cdef struct lnt_plug:              # commands that task management aborted before they came
    uint8_t is_set
    uint8_t any_itt
    uint32_t before                # CmdSN
    uint32_t itt
    int32_t lun                    # -1: any

cdef struct lnt_numbering:         # core/wire/numbering.pyx: CmdSN and the command window (RFC 7143 §4.2.2.1)
    uint32_t exp_cmd_sn
    uint32_t max_cmd_sn
    uint32_t window                # commands it may have open at once
    uint32_t numbered              # tasks with a CmdSN that hold a place in the window
    uint32_t lent                  # tasks that limits make wait and that let go of theirs
    uint32_t immediates
    lnt_task *early                # arrived ahead of their CmdSN, in its order
    lnt_plug plug

cdef struct lnt_session:
    uint64_t handle
    lnt_session *next
    lnt_reactor *reactor
    lnt_negotiated negotiated
    lnt_numbering numbering
    uint8_t removing
    lnt_share *share               # core/wire/share.pyx
    uint32_t connections
    uint32_t task_count            # core/wire/task.pyx
    lnt_task *by_itt[ITT_HASH]     # core/wire/task.pyx
    lnt_lun *luns[LUN_HASH]        # core/wire/lun.pyx
    lnt_event ended

# -- an entry of a connection's send queue: core/wire/send.pyx -----------------------------------------------------------

cdef enum:
    SEND_TASK = 0                  # a task's Data-In and its response
    SEND_PDU = 1
    SEND_AGAIN = 2                 # what `again` sent, or a part of it, once more

cdef struct lnt_send:
    lnt_send *next
    lnt_task *task                 # SEND_TASK: embedded in it
    lnt_send *again                # SEND_AGAIN: whose PDUs
    uint8_t kind
    uint8_t close                  # close the connection when sent
    uint8_t status                 # SEND_AGAIN: the response too, after the data
    uint8_t kept                   # in the connection's list of responses that are not acknowledged (core/wire/kept.pyx)
    uint16_t holds                 # being sent, or queued to be sent again
    uint32_t stat_sn               # of a response that was kept
    uint32_t data_sn               # SEND_AGAIN: the next DataSN ...
    uint32_t data_sn_end           # ... and where to stop
    uint32_t length
    uint8_t *data
    void *heap                     # frees data, or NULL
    uint8_t bhs[BHS_BYTES]

# -- a task: core/wire/task.pyx ---------------------------------------------------------------------------------------------
#
# What may stand together (task_check in core/wire/task.pyx asserts it where the core is built with its checks):
#
# | state    | early | ordered | deferred      | receiving | waiting | delayed      | enabled or dormant  | aborted          |
# |----------|-------|---------|---------------|-----------|---------|--------------|---------------------|------------------|
# | T_FREE   | 0     |         |               |           | 0       | 0            | neither             |                  |
# | T_DATA   | 1     | 0       | if receiving  | any       | 0       | 0            | neither             | any              |
# | T_DATA   | 0     | 1       | 0             | any       | any     | 0            | one, if it has a LUN| 0                |
# | T_DATA   | 0     | 1       | 0             | 0         | 0       | 1            | enabled             | 0                |
# | T_DEVICE | 0     | 1       | 0             | 0         | 0       | 0            | enabled             | any              |
# | T_PYTHON | 0     | 1       | 0             | 0         | 0       | 0            | enabled, with a LUN | 0                |
# | T_SEND   | 0     | any     | 0             | any       | 0       | 0            | neither             | 0                |

cdef enum lnt_task_state:
    T_FREE = 0
    T_DATA = 1                     # waits for its turn (CmdSN), its Data-Out or a buffer
    T_DEVICE = 2                   # op in the engine
    T_PYTHON = 3                   # event given to Python
    T_SEND = 4                     # response queued or being sent

cdef struct lnt_data_out:          # core/wire/data_out.pyx: what the initiator sends (RFC 7143 §11.7, §11.8)
    uint32_t want                  # bytes to gather
    uint32_t got                   # bytes received in order
    uint32_t sequence_end          # offset where the current sequence ends
    uint32_t data_sn               # next DataSN in it
    uint32_t r2t_base              # offset of the first solicited byte
    uint32_t r2t_next              # next offset to solicit
    uint32_t r2t_sn                # next R2TSN
    uint32_t r2t_done              # sequences completed
    uint32_t r2t_again             # where the next R2T, a recovery R2T, ends; 0: none is due
    uint8_t unsolicited            # unsolicited Data-Out may still come
    uint8_t receiving              # a payload is being received into it
    uint8_t gap                    # Data-Out of the current sequence was lost

cdef struct lnt_data_in:           # core/wire/data_in.pxd: what it is sent (RFC 7143 §11.7)
    uint8_t *data
    void *heap                     # frees data, or NULL
    uint32_t left
    uint32_t offset
    uint32_t data_sn
    uint32_t burst_left

cdef struct lnt_answer:            # core/wire/answer.pyx: the SCSI Response (RFC 7143 §11.4)
    uint8_t status
    uint8_t response
    uint8_t sense_length
    uint8_t residual_flags
    uint32_t residual

cdef struct lnt_r2t:               # what an R2T asked for
    uint32_t offset
    uint32_t length

cdef struct lnt_kept_task:         # core/wire/kept.pyx: what ErrorRecoveryLevel 1 remembers of a task
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
    lnt_send send
    lnt_session *session
    lnt_connection *connection
    lnt_lun *lun
    lnt_task *itt_next
    lnt_task *connection_next
    lnt_task *connection_prev
    lnt_task *next                 # whichever list its state says
    lnt_task *wait_next            # buffer wait queue
    uint32_t index
    uint32_t generation
    uint8_t state
    uint8_t aborted
    uint8_t is_pdu                 # not a SCSI command: a PDU that came before its CmdSN's turn
    uint8_t flags                  # BHS byte 1
    uint8_t immediate
    uint8_t ordered                # core/wire/task_set.pyx: its CmdSN's turn has come
    uint8_t enabled                # core/wire/task_set.pyx: counts in its LUN's task set
    uint8_t dormant                # core/wire/task_set.pyx: waits there
    uint8_t early                  # core/wire/numbering.pyx: in the session's list of those
    uint8_t counted                # core/wire/numbering.pyx: holds a place in the command window
    uint8_t lent                   # core/wire/numbering.pyx: let go of its place until its wait is over
    uint8_t delayed                # core/wire/delay.pyx: limits make it wait ...
    uint8_t admitted               # ... or did, or had not to
    uint8_t deferred               # takes its turn when its payload has proven intact (ErrorRecoveryLevel 1)
    uint8_t hashed
    uint8_t waiting                # in the buffer wait queue
    uint8_t kind                   # FAST_...; 0: Python decides
    uint8_t fua
    uint16_t fail                  # ASC << 8 | ASCQ of the ABORTED COMMAND it ends with; 0: none
    uint64_t delayed_us            # core/wire/delay.pyx: when its wait began ...
    uint64_t delayed_held          # ... and the bytes of data that it holds
    uint64_t arrived_us            # core/wire/task.pyx: the turn that its header came in
    uint32_t itt
    uint32_t cmd_sn
    uint32_t edtl
    uint32_t expected              # fast: bytes the CDB transfers
    uint64_t offset                # fast: bytes in the object
    uint8_t *buffer
    uint8_t buffer_class
    uint8_t lying                  # `buffer` is where its data arrived, in a receive buffer that it holds
    uint32_t charged               # bytes that Python holds for it, or has answered: they count as buffers do
    uint32_t ahs_length
    uint8_t *ahs                   # the AHS on the heap, or NULL
    lnt_data_out out
    lnt_data_in data_in
    lnt_answer answer
    uint8_t lun_field[8]
    uint8_t bhs[BHS_BYTES]
    uint8_t sense[256]             # 2-byte length first; not cleared for each task
    lnt_kept_task kept             # zero at ErrorRecoveryLevel 1 only

# -- a connection: core/wire/connection.pyx ------------------------------------------------------------------------------

cdef enum lnt_connection_state:
    CONNECTION_OPEN = 1
    CONNECTION_CLOSING = 2         # shut down; waits for its requests
    CONNECTION_DEAD = 3

cdef enum lnt_receive_state:
    RECEIVE_HEADER = 0
    RECEIVE_PAYLOAD = 1

cdef struct lnt_keepalive:         # core/wire/keepalive.pyx: NOP-In (RFC 7143 §11.19)
    uint64_t interval_us
    uint64_t timeout_us
    uint64_t sent_us
    uint32_t ttt

cdef struct lnt_payload:           # core/wire/payload.pxd: where the data segment being received goes
    uint8_t *to                    # NULL: nowhere
    uint32_t left
    const uint8_t *lies            # not NULL: all of it stands here until the PDU is complete
    lnt_task *task
    uint8_t *heap                  # payload on the heap of a PDU without a task
    uint8_t drop                   # the PDU is ignored when it is complete

cdef struct lnt_receive:           # core/wire/receive.pyx: the PDU being received
    uint8_t state
    uint8_t bulk                   # wants its payload received directly
    uint32_t header_have
    uint32_t data_left
    uint32_t trail_left
    uint32_t trail_have
    uint32_t data_length
    const uint8_t *behind          # the header, where it stands in a receive buffer ...
    uint32_t ahead                 # ... stand so many bytes more
    uint32_t crc
    lnt_connection *bulk_next
    uint8_t trail[8]
    uint8_t header[BHS_BYTES + AHS_BYTES_MAX + 4]

cdef struct lnt_outgoing:          # core/wire/send.pyx: the queue, and the batch that is on its way
    lnt_send *head
    lnt_send *tail
    uint32_t control_count         # answers without a task that wait ...
    uint32_t control_bytes         # ... and their data
    uint32_t slots
    uint32_t iov_at
    uint32_t iov_count
    uint8_t dirty                  # in the reactor's list of those to flush
    uint8_t sending                # a sendmsg is in the ring
    lnt_connection *dirty_next
    lnt_task *sent_task[SEND_SLOTS]    # released when the batch is sent
    lnt_send *sent[SEND_SLOTS]
    msghdr msg
    iovec iov[SEND_SLOTS * 2 + 1]
    uint8_t arena[SEND_SLOTS * 64]  # headers, pads and digests of the batch, one after the other

cdef struct lnt_kept:              # core/wire/kept.pyx: responses until ExpStatSN acknowledges them (RFC 7143 §4.2.2.2)
    lnt_send *head                 # in the order of their StatSN
    lnt_send *tail
    uint32_t count
    uint32_t exp_stat_sn           # what the initiator has acknowledged
    uint64_t bytes                 # they hold, with data on the heap
    uint64_t buffered              # those of them that tasks hold

cdef struct lnt_traffic:           # counters, each by the module that does it
    uint64_t rx_bytes
    uint64_t tx_bytes
    uint64_t rx_pdus
    uint64_t tx_pdus
    uint64_t digest_errors
    uint64_t rejects
    uint64_t snacks
    uint64_t resent                # PDUs sent again
    uint64_t recovery_r2ts

cdef struct lnt_connection:
    uint64_t handle
    lnt_session *session
    lnt_connection *next
    int fd
    uint32_t file                  # index in the registered files
    uint32_t cid
    uint8_t state
    uint8_t header_digest
    uint8_t data_digest
    uint8_t recovery               # ErrorRecoveryLevel of its session
    uint8_t armed                  # a receive is in the ring
    uint8_t paused, neighbour      # it does not read its answers: nothing is read from it; it is on this machine
    uint32_t ring_refs
    uint32_t stat_sn               # core/wire/send.pyx
    uint32_t max_send              # MaxRecvDataSegmentLength of the initiator ...
    uint32_t max_recv              # ... and ours
    uint32_t pending_events        # atomic: PDU events not fetched yet
    uint32_t task_count            # core/wire/task.pyx
    lnt_task *tasks                # core/wire/task.pyx
    uint64_t buffered              # core/wire/task.pyx: bytes of task buffers, and what tasks are charged
    uint64_t last_heard_us         # it sent something, or took what it was sent
    lnt_keepalive keepalive
    lnt_payload payload
    lnt_receive receive
    lnt_outgoing outgoing
    lnt_kept kept
    lnt_traffic traffic
    lnt_event closed
    lnt_event freed

# -- task management: core/wire/abort.pyx --------------------------------------------------------------------------------

cdef struct lnt_abort:
    lnt_abort *next
    uint64_t token
    uint64_t session               # 0: any
    uint64_t connection
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
    uint64_t *victims              # (connection, initiator task tag) of each, with `tell`; Python made room for all there can be
    lnt_event done

# -- messages between Python and the thread: core/wire/mailbox.pyx ------------------------------------------------------

cdef enum:                         # requests of Python
    IN_SESSION = 1
    IN_SESSION_REMOVE = 2
    IN_CONNECTION = 3
    IN_CONNECTION_CLOSE = 4
    IN_LUN = 5
    IN_LUN_REMOVE = 6
    IN_COMPLETE = 7
    IN_SEND = 8
    IN_ABORT = 9
    IN_STOP = 10
    IN_MAX_SEND = 11
    IN_LIMITS = 12
    IN_LIMIT_CHANGED = 13
    IN_KINDS = 14

cdef struct lnt_request:
    lnt_request *next
    uint8_t kind
    uint8_t status
    uint8_t response
    uint8_t close
    uint8_t spare                  # one of those that are kept for when there is no memory
    uint64_t handle                # session, connection or task
    void *object
    lnt_limit *limits[LIMITS]      # IN_LIMITS
    uint32_t number
    int32_t out_length             # IN_COMPLETE: Data-Out bytes used, -1: all
    uint32_t sense_length
    uint32_t length
    uint8_t bhs[BHS_BYTES]
    uint8_t sense[252]

cdef struct lnt_mailbox:           # its lock is a leaf; nothing else here is touched by two threads
    pthread_mutex_t mutex
    lnt_request *request_head
    lnt_request *request_tail
    lnt_request *spare             # without data: what must be asked is asked when there is no memory, too
    lnt_event *event_head
    lnt_event *event_tail
    int wake_fd
    int event_fd
    uint32_t wake_pending          # atomic
    uint64_t wake_value

# -- the reactor: core/wire/loop.pyx ----------------------------------------------------------------------------------------

cdef struct lnt_task_pool:         # core/wire/task.pyx
    lnt_task *slots                # `max` of them; what nobody has had yet costs no memory
    lnt_task *free                 # of the first `used`
    uint32_t used                  # slots that a task has had
    uint32_t max
    uint32_t live
    lnt_task_queue waiting         # for a buffer
    uint32_t holders               # connections whose tasks hold data

cdef struct lnt_kept_total:        # core/wire/kept.pyx: of all connections
    uint64_t bytes
    uint32_t tasks

cdef struct lnt_delays:            # core/wire/delay.pyx: of all LUNs
    lnt_lun *first                 # whose commands wait
    uint32_t count                 # commands that wait ...
    uint64_t held_bytes            # ... and what they hold
    uint64_t run_us                # when they were looked at last ...
    uint64_t wake_us               # ... and are next

cdef struct lnt_pacing:            # core/wire/pacing.pyx
    uint64_t seen_pdus, seen_sends, seen_given, seen_requests    # PDUs, sends, requests, what these pay, when the last turn ended
    uint64_t credit_us             # so long a busy device may be watched
    uint64_t watches, watched_us   # how often it was, and how long in all
    uint64_t gathers, spins        # pauses taken for more commands to come; times it stayed awake for the next one
    uint32_t behind, lag           # answers an initiator heard in this turn, or last, has not taken yet: the least of them
    uint32_t pdu_mean              # PDUs a turn, in sixteenths
    uint32_t here                  # of HERE_COMMANDS: lone commands to come before nobody is taken to share this core
    uint32_t spin_chances, spin_score    # turns after which spinning might pay; how well it has paid lately, 0..16+

cdef struct lnt_loop_counters:     # each by the module that does it
    uint64_t turns
    uint64_t wakeups
    uint64_t starts                # submissions of a few requests while more of the same turn were to come
    uint64_t cqes
    uint64_t pdus                  # received on all connections
    uint64_t sends
    uint64_t async_sends
    uint64_t direct_receives
    uint64_t starved               # receives that ended for want of buffers
    uint64_t pauses
    uint64_t shared                # reads and writes that waited for a later turn, their host's share being used up

cdef struct lnt_reactor:
    lnt_pool *pool
    uint64_t *lease_us             # the pool's: after which nothing may be answered or written (core/lease.h)
    lnt_ring *ring
    lnt_disk disk
    lnt_inbound inbound
    lnt_buffers buffers
    lnt_mailbox mailbox
    lnt_task_pool tasks
    lnt_kept_total kept
    lnt_pacing pacing
    lnt_delays delays
    lnt_shares shares
    lnt_loop_counters counters
    lnt_send *free_sends           # core/wire/kept.pyx
    lnt_session *sessions          # core/wire/lifecycle.pyx
    lnt_connection *connections    # core/wire/lifecycle.pyx
    lnt_connection **connection_table  # CONNECTIONS_MAX, by the index in a handle
    lnt_connection *dirty          # core/wire/send.pyx
    lnt_connection *bulk           # core/wire/receive.pyx
    lnt_lun *settle                # core/wire/task_set.pyx: task sets to look at
    lnt_op *submit_head            # core/wire/share.pyx: ops to submit this turn
    lnt_op *submit_tail
    lnt_abort *aborts              # core/wire/abort.pyx
    uint8_t abort_check
    uint8_t reap                   # some connection may be ready to be freed
    uint8_t stopping
    uint32_t max_transfer
    uint32_t nop_count
    uint32_t engine_due            # atomic
    uint64_t now_us
    uint64_t answer_us             # core/wire/loop.pyx: when the answers that are being built were due to be sent
    uint64_t keepalive_us          # next keepalive deadline
    uint64_t idle_us               # when it is looked next whether buffers are idle
    uint64_t engine_us             # next lnt_dev_run
    uint64_t poll_us
    int cpu
    int fd                         # the pool's; -1: it is an image of librbd's
    void *image
    uint64_t object_bytes
    int inline_io
    pthread_t thread
    int32_t started                # 0 no, 1 running, <0 -errno
