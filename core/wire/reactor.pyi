"""The data plane: one native thread, one io_uring, many full-feature connections (docs/architecture.md)."""

from typing import TypedDict

from typing_extensions import Buffer

from core.pool.engine import Pool
from core.wire.events import AbortedEvent as AbortedEvent
from core.wire.events import ClosedEvent as ClosedEvent
from core.wire.events import CommandEvent as CommandEvent
from core.wire.events import Event as Event
from core.wire.events import LunReleasedEvent as LunReleasedEvent
from core.wire.events import PduEvent as PduEvent
from core.wire.events import SessionClosedEvent as SessionClosedEvent
from core.wire.limit import Limit

# Flag word of a (session, LUN). Python writes it, the reactor only reads it; a change takes effect at once.
LUNF_SLOW: int          # every command goes to Python (unit attention, reservation, LUN leaving)
LUNF_RO: int            # write-protected: the reactor itself answers writes with DATA PROTECT 27h/00h
LUNF_DSENSE: int        # the reactor builds descriptor-format sense (control mode page, D_SENSE)
LUNF_WRITE_SLOW: int    # commands that write go to Python, READ stays fast (another's write-exclusive reservation)

DIRECTIONS: tuple[str, ...]             # what commands do to the medium: read, write, unmap, sync
LATENCY_BOUNDS_US: tuple[int, ...]      # of the buckets of a histogram; the last bucket has none

# peer (it closed), error (socket error), protocol (it broke the protocol), digest (header digest), keepalive
# (NOP-In unanswered), requested (close_connection, remove_session, close=True), stopped (the reactor stops)
CLOSE_REASONS: tuple[str, ...]

class ConnectionStats(TypedDict):
    session: int
    conn: int
    cid: int
    rx_bytes: int
    tx_bytes: int
    rx_pdus: int
    tx_pdus: int
    tasks: int              # now
    digest_errors: int
    rejects: int
    snacks: int             # ErrorRecoveryLevel 1: SNACK requests
    resent: int             # PDUs sent again
    recovery_r2ts: int
    kept: int               # responses not acknowledged yet
    kept_bytes: int         # and the data held with them

class LunStats(TypedDict):
    """Sum over all sessions of this reactor (objects) or one (session, LUN) (luns)."""

    session: int            # 0 in "objects"
    lun: int                # -1 in "objects"
    object_id: int
    fast_reads: int
    fast_writes: int
    fast_other: int         # SYNCHRONIZE CACHE, TEST UNIT READY
    slow: int               # commands given to Python
    read_bytes: int
    write_bytes: int
    errors: int             # commands that did not end in GOOD (natively answered ones)
    delayed: int            # commands that limits made wait
    delayed_us: int         # and for how long in all
    in_flight: int          # commands that are not answered yet

class ReactorStats(TypedDict):
    connections: list[ConnectionStats]
    luns: list[LunStats]
    objects: list[LunStats]
    loop: dict[str, int]    # wakeups, cqes, sends, device_reads, device_writes, buffer_bytes, tasks ...

class Reactor:
    """One thread that owns its connections. Every method may be called from any Python thread and never waits on I/O.

    Session, connection and task numbers are opaque, never 0, and become invalid when their object goes; calls with an
    invalid number are ignored unless stated otherwise (they race with the peer by nature).
    """

    event_fd: int       # readable when `events` has something

    def __init__(self, pool: Pool, *, cpu: int | None = None, poll_us: int = 0, max_transfer_bytes: int = 8 << 20,
                 buffer_bytes: int = 256 << 20, max_tasks: int = 8192, inline_io: bool | None = None) -> None:
        """poll_us: spin this long before sleeping (0: never). max_transfer_bytes: as in the Block Limits VPD page;
        bigger READs and WRITEs go to Python. buffer_bytes: bound on the data buffers of all connections. cpu: pin the thread.
        inline_io: run device reads and writes inline instead of through io_uring (None: decide by file system)."""
    def start(self) -> None:
        """Create the thread and attach its device to the pool. OSError when io_uring is not available."""
    def stop(self) -> None:
        """Close all connections, wait for I/O in flight, end the thread, detach from the pool. Idempotent."""

    def add_session(self, *, exp_cmd_sn: int, max_cmd_window: int = 128, initial_r2t: bool = True,
                    immediate_data: bool = True, first_burst_length: int = 65536, max_burst_length: int = 262144,
                    max_outstanding_r2t: int = 1, tsih: int = 0, error_recovery_level: int = 0, host: int = 0) -> int:
        """A session (I_T nexus) after login. exp_cmd_sn: the next CmdSN expected. Keys as negotiated (RFC 7143 §13).
        error_recovery_level: from 1 on responses and their data are kept until ExpStatSN acknowledges them, at most 256
        responses and a quarter of the buffers a connection may have; one R2T is outstanding. host: sessions of one number
        take turns with those of others as one (0: by itself)."""
    def session_numbers(self, session: int) -> tuple[int, int]:
        """(ExpCmdSN, MaxCmdSN) at this moment, for the login of a connection that joins. KeyError: no such session."""
    def remove_session(self, session: int) -> None:
        """Close its connections, terminate its tasks, release its LUNs; SessionClosedEvent follows."""
    def add_connection(self, session: int, fd: int, *, cid: int, stat_sn: int, leftover: bytes = b"",
                       header_digest: bool = False, data_digest: bool = False,
                       max_send_data_segment_length: int = 8192, max_recv_data_segment_length: int = 262144,
                       nop_interval_s: float = 0.0, nop_timeout_s: float = 5.0) -> int:
        """Take over a logged-in socket: the reactor owns `fd` from now on and closes it (detach it first).

        stat_sn: the next StatSN to use. leftover: bytes read beyond the last login PDU. max_send_...: what the
        initiator declared; max_recv_...: what we declared. nop_interval_s: ping after so long without a PDU (0: never).
        KeyError: no such session (fd is then still the caller's).
        """
    def set_max_send(self, conn: int, length: int) -> None:
        """The initiator declared another MaxRecvDataSegmentLength: Data-In built from now on keeps to it, queued or not."""
    def close_connection(self, conn: int) -> None:
        """Close at once; ClosedEvent with reason "requested" follows."""

    def set_lun(self, session: int, lun: int, object_id: int | None, flags: int = 0, *, volume_limit: Limit | None = None,
                host_limit: Limit | None = None) -> bool:
        """Map, replace or (None) remove. False when the object or the session does not exist.

        What touches the medium waits for both limits; flushes, task management and all else never wait."""
    def set_lun_limits(self, session: int, lun: int, *, volume_limit: Limit | None = None,
                       host_limit: Limit | None = None) -> None:
        """Other limits from now on. What waits begins as they say, all of it without any."""
    def limit_changed(self, limit: Limit) -> None:
        """A limit of some LUNs was changed: what waits for it is reckoned anew."""
    def set_lun_flags(self, session: int, lun: int, flags: int) -> None: ...
    def lun_flags(self, session: int, lun: int) -> int | None: ...

    def events(self) -> list[Event]:
        """All pending events, in the order they happened; resets event_fd."""
    def complete(self, task: int, status: int, sense: bytes = b"", data_in: Buffer = b"", *,
                 data_out_length: int | None = None, response: int = 0) -> None:
        """Answer a CommandEvent. `sense` is the sense data itself (its 2-byte length is added here). The residual is
        computed from EDTL and len(data_in), or data_out_length for a command that writes (None: all of EDTL was used).
        response: the iSCSI response code (RFC 7143 §11.4.3), 0 = completed at target."""
    def send_pdu(self, conn: int, bhs: bytes, data: bytes = b"", *, close: bool = False) -> None:
        """Queue a PDU behind what is already queued on the connection. StatSN, ExpCmdSN, MaxCmdSN, DataSegmentLength,
        padding and digests are filled in; StatSN advances as the opcode demands. close: close once it is sent."""
    def abort(self, token: int, *, session: int | None = None, lun: int | None = None, itt: int | None = None,
              object_id: int | None = None, conn: int | None = None, before_cmd_sn: int | None = None,
              exclude_session: int | None = None, query: bool = False, device: bool = False,
              missing_cmd_sn: int | None = None, tell: bool = False) -> None:
        """Terminate, without responses, the tasks that match every argument given; AbortedEvent(token) when quiescent.

        before_cmd_sn: only commands with a lower CmdSN (a TMF concerns what was numbered before it; of the named
        session), and commands below it that have not arrived yet count as aborted when they do. query: only count.
        device: abort nothing; what counts is in the engine now, of removed sessions too, and the event follows when that is over.
        missing_cmd_sn: when nothing matches, and this CmdSN lies in the named session's window and has not come, it counts
        as received and as the one task aborted (RFC 7143 §11.6.1). tell: the event lists what was aborted (and not yet was).
        """
    def stats(self) -> ReactorStats: ...
    def latencies(self) -> dict[int, dict[str, tuple[list[int], int]]]:
        """Object id -> direction -> (answered commands by bucket, sum of microseconds), of objects that were used.

        A bucket holds what took longer than the bound before and at most its own of LATENCY_BOUNDS_US; the last has no bound.
        """
    def forget_object(self, object_id: int) -> None:
        """The object is deleted: what its LUNs counted goes. LUNs of it that are still to be released count anew."""
