"""What a reactor tells Python: a named tuple for each kind of event, made in `core/wire/reactor.pyx` and nowhere else."""

from typing import NamedTuple


class CommandEvent(NamedTuple):
    """A SCSI command the reactor may not decide, with all its Data-Out. Answer with `Reactor.complete(task, ...)`."""

    task: int
    session: int
    conn: int
    lun: int            # decoded LUN number; -1 if the 8 bytes are not a single-level address (see bhs[8:16])
    itt: int            # Initiator Task Tag
    cdb: bytes          # 16 bytes, or longer with an extended-CDB AHS
    data_out: bytes     # at most max(EDTL, 0) bytes; shorter when the initiator declared more than max_transfer_bytes
    edtl: int           # Expected Data Transfer Length
    flags: int          # byte 1 of the BHS (F 80h, R 40h, W 20h, ATTR in the low 3 bits)
    bhs: bytes          # all 48 bytes


class PduEvent(NamedTuple):
    """A PDU that is not I/O, in CmdSN order unless immediate: TMF, Text, Logout, SNACK. Answer with `send_pdu`."""

    session: int
    conn: int
    opcode: int         # without the immediate bit
    bhs: bytes
    data: bytes


class ClosedEvent(NamedTuple):
    """The connection is gone: its socket is closed and its tasks are terminated; `complete` on them is ignored."""

    session: int
    conn: int
    reason: str         # one of CLOSE_REASONS
    detail: str         # for the log; never contains initiator data


class AbortedEvent(NamedTuple):
    """The task set named by `Reactor.abort(token, ...)` is quiescent: no response and no write of it will follow."""

    token: int
    count: int          # type: ignore[assignment]  # how many tasks were aborted (or found, with query=True)
    victims: tuple[tuple[int, int], ...] = ()   # (connection, initiator task tag) of each, with tell=True


class LunReleasedEvent(NamedTuple):
    """A LUN removed by `set_lun(..., None)` (or replaced) has no I/O in flight any more and its handle is closed."""

    session: int
    lun: int
    object_id: int


class SessionClosedEvent(NamedTuple):
    """A session removed by `remove_session` is quiescent: no I/O in flight, all handles closed, number invalid."""

    session: int


Event = CommandEvent | PduEvent | ClosedEvent | AbortedEvent | LunReleasedEvent | SessionClosedEvent
