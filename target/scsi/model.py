"""What goes into and comes out of a SCSI command: nexus, command, result, status, gate (SAM-5 §4, §5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag


class Status(IntEnum):
    """Status codes (SAM-5 §5.3.1)."""

    GOOD = 0x00
    CHECK_CONDITION = 0x02
    CONDITION_MET = 0x04
    BUSY = 0x08
    RESERVATION_CONFLICT = 0x18
    TASK_SET_FULL = 0x28
    ACA_ACTIVE = 0x30
    TASK_ABORTED = 0x40


class TaskAttribute(IntEnum):
    """Task attributes as iSCSI encodes them (RFC 7143 §11.3.1.1)."""

    UNTAGGED = 0
    SIMPLE = 1
    ORDERED = 2
    HEAD_OF_QUEUE = 3
    ACA = 4


class Gate(IntFlag):
    """Why the native path may not decide alone for one (nexus, logical unit); 0 means that it may."""

    OPEN = 0
    ATTENTION = 1        # a unit attention is pending for this nexus: every command
    RESERVED = 2         # a reservation forbids this nexus reads and writes
    WRITE_PROTECTED = 4  # snapshot or software write protect: writes
    WRITE_THROUGH = 8    # WCE is 0: every write must be durable when it is answered
    NOT_READY = 16       # stopped, being erased, or the port's access state forbids media access: every command
    RESERVED_WRITES = 64  # a reservation forbids this nexus writes
    DESCRIPTOR = 32      # D_SENSE is 1: errors that the native path reports itself would have the wrong format


# With one of these set even READ needs Python; the rest concern writes or only the form of an error.
SLOW_READS = Gate.ATTENTION | Gate.RESERVED | Gate.NOT_READY
SLOW_WRITES = SLOW_READS | Gate.RESERVED_WRITES | Gate.WRITE_PROTECTED | Gate.WRITE_THROUGH


@dataclass(frozen=True, slots=True)
class ITNexus:
    """An initiator port bound to a target port (SAM-5 §4.8). Equal across logins of the same initiator port.

    `initiator_name` is the iSCSI name, `isid` its 6 bytes, `target_port` the relative target port identifier.
    """

    initiator_name: str
    isid: bytes
    target_port: int = 1


@dataclass(frozen=True, slots=True)
class Command:
    """One SCSI command with everything the initiator sent for it.

    `lun` is the 8-byte LUN field of the PDU as a big-endian integer (`lun.encode` makes one from a number);
    `cdb` may be padded to 16 bytes; `expected_bytes` is the Expected Data Transfer Length of its direction
    (None: not known; the length the CDB defines is assumed).
    """

    lun: int
    cdb: bytes
    data_out: bytes = b""
    expected_bytes: int | None = None
    attribute: TaskAttribute = TaskAttribute.SIMPLE


@dataclass(frozen=True, slots=True)
class Result:
    """The answer. `sense` has no length prefix; `data_in` is never longer than the CDB's allocation length.

    `transfer_bytes` is what the CDB asked to move in its direction: the residual is against this.
    """

    status: int
    sense: bytes = b""
    data_in: bytes = b""
    transfer_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the Block Limits page states and that the handlers enforce."""

    transfer_bytes: int = 8 << 20
    optimal_transfer_bytes: int = 1 << 20
    compare_and_write_bytes: int = 64 << 10
    unmap_blocks: int = 0xFFFFFFFF
    unmap_descriptors: int = 256
    write_same_bytes: int = 16 << 20
    verify_bytes: int = 1 << 30
    parameter_list_bytes: int = 64 << 10
    allocation_unit_bytes: int = 4096        # the pool's
    registrations: int = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a logical unit is, for ever. `serial` is 32 hex digits; every other name derives from it."""

    serial: str
    kind: str = "volume"
    revision: str = "0001"
    vendor: str = "LUNETTE"

    def __post_init__(self) -> None:
        if len(self.serial) != 32 or any(digit not in "0123456789abcdefABCDEF" for digit in self.serial):
            raise ValueError("a serial is 32 hex digits")


@dataclass(slots=True)
class IOStatistics:
    """Counts for the General Statistics and Performance log page (SPC-4 §7.3.8); times in milliseconds."""

    read_commands: int = 0
    write_commands: int = 0
    read_blocks: int = 0
    written_blocks: int = 0
    read_ms: int = 0
    write_ms: int = 0
    extra: dict[str, int] = field(default_factory=dict)
