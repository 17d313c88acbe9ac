"""Sense data, fixed and descriptor, and the exceptions that carry it (SPC-4 §4.5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from target.scsi.backend import BackendError
from target.scsi.fields import Field
from target.scsi.model import Status


class SenseKey(IntEnum):
    """Sense keys (SPC-4 §4.5.6)."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    MISCOMPARE = 0xE


@dataclass(frozen=True, slots=True)
class Sense:
    """One sense condition. `asc` is (additional sense code << 8) | qualifier.

    `information` and `command_specific` are up to 64 bits; `field` is (in CDB, byte, bit or None);
    `progress` is 0..65535; `copy_segment` is (segment number, field byte or None) of a copy that aborted.
    """

    key: SenseKey
    asc: int
    information: int | None = None
    command_specific: int | None = None
    field: tuple[bool, int, int | None] | None = None
    progress: int | None = None
    deferred: bool = False

    def specific(self) -> bytes | None:
        """The 3 sense-key specific bytes (SPC-4 §4.5.2.4), or None."""
        if self.field is not None:
            in_cdb, byte, bit = self.field
            head = 0x80 | (0x40 if in_cdb else 0) | (0x08 | bit if bit is not None else 0)
            return bytes([head]) + min(byte, 0xFFFF).to_bytes(2, "big")
        if self.progress is not None:
            return b"\x80" + self.progress.to_bytes(2, "big")
        return None

    def encode(self, descriptor: bool = False) -> bytes:
        """The bytes of the control mode page's chosen format."""
        return self._descriptor() if descriptor else self._fixed()

    def _fixed(self) -> bytes:
        out = bytearray(18)
        out[0] = 0x71 if self.deferred else 0x70
        out[2] = self.key
        if self.information is not None and self.information < 1 << 32:
            out[0] |= 0x80
            out[3:7] = self.information.to_bytes(4, "big")
        out[7] = 10
        if self.command_specific is not None:
            out[8:12] = (self.command_specific & 0xFFFFFFFF).to_bytes(4, "big")
        out[12:14] = self.asc.to_bytes(2, "big")
        specific = self.specific()
        if specific is not None:
            out[15:18] = specific
        return bytes(out)

    def _descriptor(self) -> bytes:
        body = b""
        if self.information is not None:
            body += b"\x00\x0a\x80\x00" + self.information.to_bytes(8, "big")
        if self.command_specific is not None:
            body += b"\x01\x0a\x00\x00" + self.command_specific.to_bytes(8, "big")
        specific = self.specific()
        if specific is not None:
            body += b"\x02\x06\x00\x00" + specific + b"\x00"
        head = bytes([0x73 if self.deferred else 0x72, self.key]) + self.asc.to_bytes(2, "big")
        return head + b"\x00\x00\x00" + bytes([len(body)]) + body


class ScsiError(Exception):
    """Ends a command with a status other than GOOD."""

    def __init__(self, status: Status, sense: Sense | None = None) -> None:
        super().__init__(f"{status.name} {sense}" if sense else status.name)
        self.status = status
        self.sense = sense


class CheckCondition(ScsiError):
    """Ends a command with CHECK CONDITION and this sense."""

    def __init__(self, sense: Sense) -> None:
        super().__init__(Status.CHECK_CONDITION, sense)


def illegal(asc: int) -> CheckCondition:
    """ILLEGAL REQUEST without a field pointer."""
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, asc))


def invalid_cdb(byte: int, bit: int | None = None) -> CheckCondition:
    """INVALID FIELD IN CDB, pointing at it; `bit` is the highest bit of the field."""
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, INVALID_FIELD_IN_CDB, field=(True, byte, bit)))


def invalid_parameter(byte: int, bit: int | None = None, asc: int | None = None) -> CheckCondition:
    """INVALID FIELD IN PARAMETER LIST (or another code), pointing into the parameter list."""
    code = INVALID_FIELD_IN_PARAMETER_LIST if asc is None else asc
    return CheckCondition(Sense(SenseKey.ILLEGAL_REQUEST, code, field=(False, byte, bit)))


def invalid_field(field: Field, at: int = 0, asc: int | None = None) -> CheckCondition:
    """As `invalid_parameter`, at a field of what begins `at` bytes into the parameter list."""
    return invalid_parameter(at + field.offset, field.bit, asc)


NO_ADDITIONAL_SENSE = 0x0000
LOGICAL_UNIT_NOT_READY = 0x0400
INITIALIZING_COMMAND_REQUIRED = 0x0402
FORMAT_IN_PROGRESS = 0x0404
ASYMMETRIC_ACCESS_TRANSITION = 0x040A
LOGICAL_UNIT_STANDBY = 0x040B
SET_TARGET_PORT_GROUPS_FAILED = 0x670A
LOGICAL_UNIT_UNAVAILABLE = 0x040C
COMMUNICATION_TIMEOUT = 0x0801
SANITIZE_IN_PROGRESS = 0x041B
INVALID_INFORMATION_UNIT = 0x0E03
WRITE_ERROR = 0x0C00
UNRECOVERED_READ_ERROR = 0x1100
PARAMETER_LIST_LENGTH_ERROR = 0x1A00
MISCOMPARE_DURING_VERIFY = 0x1D00
INVALID_COMMAND_OPERATION_CODE = 0x2000
LBA_OUT_OF_RANGE = 0x2100
INVALID_FIELD_IN_CDB = 0x2400
LOGICAL_UNIT_NOT_SUPPORTED = 0x2500
INVALID_FIELD_IN_PARAMETER_LIST = 0x2600
INVALID_RELEASE_OF_PERSISTENT_RESERVATION = 0x2604
TOO_MANY_TARGET_DESCRIPTORS = 0x2606
UNSUPPORTED_TARGET_DESCRIPTOR = 0x2607
TOO_MANY_SEGMENT_DESCRIPTORS = 0x2608
UNSUPPORTED_SEGMENT_DESCRIPTOR = 0x2609
INLINE_DATA_LENGTH_EXCEEDED = 0x260B
COPY_TARGET_DEVICE_NOT_REACHABLE = 0x0D02
TOKEN_UNKNOWN = 0x2304
TOKEN_EXPIRED = 0x2307
WRITE_PROTECTED = 0x2700
SOFTWARE_WRITE_PROTECTED = 0x2702
SPACE_ALLOCATION_FAILED = 0x2707
SANITIZE_FAILED = 0x3103
INTERNAL_TARGET_FAILURE = 0x4400
SYSTEM_RESOURCE_FAILURE = 0x5500
INSUFFICIENT_REGISTRATION_RESOURCES = 0x5504

# The backend's status codes as sense: the only place where one becomes the other.
CODE_SENSE: dict[str, tuple[SenseKey, int]] = {
    "io_read": (SenseKey.MEDIUM_ERROR, UNRECOVERED_READ_ERROR),
    "io_write": (SenseKey.MEDIUM_ERROR, WRITE_ERROR),
    "checksum": (SenseKey.MEDIUM_ERROR, UNRECOVERED_READ_ERROR),
    "no_space": (SenseKey.DATA_PROTECT, SPACE_ALLOCATION_FAILED),
    "read_only": (SenseKey.DATA_PROTECT, WRITE_PROTECTED),
    "protected": (SenseKey.DATA_PROTECT, WRITE_PROTECTED),
    "range": (SenseKey.ILLEGAL_REQUEST, LBA_OUT_OF_RANGE),
    "gone": (SenseKey.ILLEGAL_REQUEST, LOGICAL_UNIT_NOT_SUPPORTED),
    "not_found": (SenseKey.ILLEGAL_REQUEST, LOGICAL_UNIT_NOT_SUPPORTED),
    "miscompare": (SenseKey.MISCOMPARE, MISCOMPARE_DURING_VERIFY),
    "aborted": (SenseKey.ABORTED_COMMAND, NO_ADDITIONAL_SENSE),
    "unanswered": (SenseKey.ABORTED_COMMAND, COMMUNICATION_TIMEOUT),
    "busy": (SenseKey.ABORTED_COMMAND, SYSTEM_RESOURCE_FAILURE),
    "limit": (SenseKey.ABORTED_COMMAND, SYSTEM_RESOURCE_FAILURE),
    "no_memory": (SenseKey.ABORTED_COMMAND, SYSTEM_RESOURCE_FAILURE),
    "closed": (SenseKey.NOT_READY, LOGICAL_UNIT_NOT_READY),
    "invalid": (SenseKey.HARDWARE_ERROR, INTERNAL_TARGET_FAILURE),
    "exists": (SenseKey.HARDWARE_ERROR, INTERNAL_TARGET_FAILURE),
}
INTERNAL_FAILURE = Sense(SenseKey.HARDWARE_ERROR, INTERNAL_TARGET_FAILURE)


def from_backend(error: BackendError) -> Sense:
    """The sense of a failed block operation; INFORMATION is the first difference, or the first block that cannot be read."""
    key, asc = CODE_SENSE.get(error.code, (SenseKey.HARDWARE_ERROR, INTERNAL_TARGET_FAILURE))
    sense = Sense(key, asc)
    known = key is SenseKey.MISCOMPARE or (asc == UNRECOVERED_READ_ERROR and error.located)
    return replace(sense, information=error.value) if known else sense


def failed(error: BackendError) -> ScsiError:
    """How a command ends whose block operation failed: BUSY where memory was short, so that the initiator tries it again."""
    return ScsiError(Status.BUSY) if error.code == "no_memory" else CheckCondition(from_backend(error))
