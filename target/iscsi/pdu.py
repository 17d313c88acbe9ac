"""Every iSCSI PDU: which fields it has, and the one codec for them all (RFC 7143 §11).

A class names its fields, their types and their defaults; where they lie is said by `bhs`, once. Decoding, encoding,
the conformance document and the tests against the native codec go by the two. Reserved bits are ignored when received
and zero when sent.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

from target.iscsi.bhs import WireField, fields_of
from target.iscsi.codes import BHS_SIZE_BYTES, RESERVED_TAG, Opcode
from target.iscsi.digest import Crc32c, crc32c, digest

MAX_AHS_BYTES = 255 * 4
NO_LUN = bytes(8)
SEGMENTS = ("data", "ahs")     # what a PDU has beside its header


class PduError(ValueError):
    """A PDU that breaks its format; the message is one line and carries no data of the peer's."""


@dataclass(frozen=True, slots=True)
class Ahs:
    """One additional header segment: its type and what follows the type byte (RFC 7143 §11.2.2)."""

    EXTENDED_CDB: ClassVar[int] = 1
    BIDIRECTIONAL_READ_LENGTH: ClassVar[int] = 2
    type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class RawPdu:
    """A PDU as framed: whole, sizes checked, fields not yet looked at. `data` is without padding."""

    bhs: bytes
    ahs: bytes
    data: bytes
    data_digest_ok: bool = True

    @property
    def opcode(self) -> int:
        """The low six bits of byte 0, which may be no Opcode at all."""
        return self.bhs[0] & 0x3F

    @property
    def immediate(self) -> bool:
        """The I bit: delivered at once, without taking a CmdSN."""
        return bool(self.bhs[0] & 0x40)

    @property
    def lun(self) -> int:
        """Bytes 8 to 15: the logical unit, as SAM-5 encodes it, where the PDU names one."""
        return int.from_bytes(self.bhs[8:16])

    @property
    def initiator_task_tag(self) -> int:
        """Bytes 16 to 19, which name the task in nearly every PDU."""
        return int.from_bytes(self.bhs[16:20])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """What all PDUs share. `data` is the data segment without padding or digest."""

    opcode: ClassVar[Opcode]
    clause: ClassVar[str]
    """Where the RFC defines it."""
    wire: ClassVar[tuple[WireField, ...]]
    """Its fields in the header, by the table of `bhs`."""
    final_always: ClassVar[bool]
    """Bit 7 of byte 1 is a constant 1 in this PDU: no field of it has that bit."""

    data: bytes = b""
    ahs: tuple[Ahs, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request(Pdu):
    immediate: bool = False
    cmd_sn: int = 0
    exp_stat_sn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response(Pdu):
    stat_sn: int = 0
    exp_cmd_sn: int = 0
    max_cmd_sn: int = 0


PDU_TYPES: dict[Opcode, type[Pdu]] = {}
P = TypeVar("P", bound=Pdu)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def _pdu(opcode: Opcode, clause: str) -> Callable[[type[P]], type[P]]:
    """Make a class a PDU: immutable, found by its opcode, each of its fields where `bhs` says that it lies."""
    def made(declared: type[P]) -> type[P]:
        cls = dataclass(frozen=True, slots=True, kw_only=True)(declared)
        names = tuple(each.name for each in fields(cls) if each.name not in SEGMENTS)
        cls.opcode, cls.clause, cls.wire = opcode, clause, fields_of(cls.__name__, names)
        cls.final_always = not any((each.offset, each.mask) == (1, 0x80) for each in cls.wire)
        PDU_TYPES[opcode] = cls
        return cls
    return made


@_pdu(Opcode.NOP_OUT, "RFC 7143 §11.18")
class NopOut(_Request):
    lun: bytes = NO_LUN
    initiator_task_tag: int = RESERVED_TAG
    target_transfer_tag: int = RESERVED_TAG


@_pdu(Opcode.SCSI_COMMAND, "RFC 7143 §11.3")
class ScsiCommand(_Request):
    final: bool = True
    read: bool = False
    write: bool = False
    attributes: int = 0
    priority: int = 0
    """RFC 7144 §5.1.1; zero below iSCSIProtocolLevel 2."""
    lun: bytes = NO_LUN
    initiator_task_tag: int = 0
    expected_data_transfer_length: int = 0
    cdb: bytes = bytes(16)


@_pdu(Opcode.TASK_MANAGEMENT_REQUEST, "RFC 7143 §11.5")
class TaskManagementRequest(_Request):
    function: int = 0
    lun: bytes = NO_LUN
    initiator_task_tag: int = 0
    referenced_task_tag: int = RESERVED_TAG
    ref_cmd_sn: int = 0
    exp_data_sn: int = 0


@_pdu(Opcode.LOGIN_REQUEST, "RFC 7143 §11.12")
class LoginRequest(_Request):
    """Always immediate."""

    immediate: bool = True
    transit: bool = False
    continues: bool = False
    current_stage: int = 0
    next_stage: int = 0
    version_max: int = 0
    version_min: int = 0
    isid: bytes = bytes(6)
    tsih: int = 0
    initiator_task_tag: int = 0
    cid: int = 0


@_pdu(Opcode.TEXT_REQUEST, "RFC 7143 §11.10")
class TextRequest(_Request):
    final: bool = True
    continues: bool = False
    lun: bytes = NO_LUN
    initiator_task_tag: int = 0
    target_transfer_tag: int = RESERVED_TAG


@_pdu(Opcode.DATA_OUT, "RFC 7143 §11.7")
class DataOut(Pdu):
    final: bool = True
    lun: bytes = NO_LUN
    initiator_task_tag: int = 0
    target_transfer_tag: int = RESERVED_TAG
    exp_stat_sn: int = 0
    data_sn: int = 0
    buffer_offset: int = 0


@_pdu(Opcode.LOGOUT_REQUEST, "RFC 7143 §11.14")
class LogoutRequest(_Request):
    reason: int = 0
    initiator_task_tag: int = 0
    cid: int = 0


@_pdu(Opcode.SNACK_REQUEST, "RFC 7143 §11.16")
class SnackRequest(Pdu):
    type: int = 0
    lun: bytes = NO_LUN
    initiator_task_tag: int = RESERVED_TAG
    target_transfer_tag: int = RESERVED_TAG
    exp_stat_sn: int = 0
    begin_run: int = 0
    run_length: int = 0


@_pdu(Opcode.NOP_IN, "RFC 7143 §11.19")
class NopIn(_Response):
    lun: bytes = NO_LUN
    initiator_task_tag: int = RESERVED_TAG
    target_transfer_tag: int = RESERVED_TAG


@_pdu(Opcode.SCSI_RESPONSE, "RFC 7143 §11.4")
class ScsiResponse(_Response):
    bidirectional_overflow: bool = False
    bidirectional_underflow: bool = False
    overflow: bool = False
    underflow: bool = False
    response: int = 0
    status: int = 0
    status_qualifier: int = 0
    """RFC 7144 §5.2.1; zero below iSCSIProtocolLevel 2."""
    initiator_task_tag: int = 0
    snack_tag: int = 0
    exp_data_sn: int = 0
    bidirectional_read_residual_count: int = 0
    residual_count: int = 0


@_pdu(Opcode.TASK_MANAGEMENT_RESPONSE, "RFC 7143 §11.6")
class TaskManagementResponse(_Response):
    response: int = 0
    additional_information: bytes = bytes(3)
    """RFC 7144 §6.4.1, as QUERY ASYNCHRONOUS EVENT fills it (SAM-5 §7.9); zero below iSCSIProtocolLevel 2."""
    initiator_task_tag: int = 0


@_pdu(Opcode.LOGIN_RESPONSE, "RFC 7143 §11.13")
class LoginResponse(_Response):
    transit: bool = False
    continues: bool = False
    current_stage: int = 0
    next_stage: int = 0
    version_max: int = 0
    version_active: int = 0
    isid: bytes = bytes(6)
    tsih: int = 0
    initiator_task_tag: int = 0
    status: int = 0
    """Status-Class and Status-Detail together, as LoginStatus has them."""


@_pdu(Opcode.TEXT_RESPONSE, "RFC 7143 §11.11")
class TextResponse(_Response):
    final: bool = True
    continues: bool = False
    lun: bytes = NO_LUN
    initiator_task_tag: int = 0
    target_transfer_tag: int = RESERVED_TAG


@_pdu(Opcode.DATA_IN, "RFC 7143 §11.7")
class DataIn(_Response):
    final: bool = True
    acknowledge: bool = False
    overflow: bool = False
    underflow: bool = False
    has_status: bool = False
    status: int = 0
    lun: bytes = NO_LUN
    initiator_task_tag: int = 0
    target_transfer_tag: int = RESERVED_TAG
    data_sn: int = 0
    buffer_offset: int = 0
    residual_count: int = 0


@_pdu(Opcode.LOGOUT_RESPONSE, "RFC 7143 §11.15")
class LogoutResponse(_Response):
    """Times are seconds."""

    response: int = 0
    initiator_task_tag: int = 0
    time2wait: int = 0
    time2retain: int = 0


@_pdu(Opcode.R2T, "RFC 7143 §11.8")
class R2T(_Response):
    lun: bytes = NO_LUN
    initiator_task_tag: int = 0
    target_transfer_tag: int = 0
    r2t_sn: int = 0
    buffer_offset: int = 0
    desired_data_transfer_length: int = 0


@_pdu(Opcode.ASYNC_MESSAGE, "RFC 7143 §11.9")
class AsyncMessage(_Response):
    lun: bytes = NO_LUN
    initiator_task_tag: int = RESERVED_TAG
    async_event: int = 0
    async_vcode: int = 0
    parameter1: int = 0
    parameter2: int = 0
    parameter3: int = 0


@_pdu(Opcode.REJECT, "RFC 7143 §11.17")
class Reject(_Response):
    """`data` is the header of the PDU that was refused."""

    reason: int = 0
    initiator_task_tag: int = RESERVED_TAG
    data_sn: int = 0


def parse_ahs(ahs: bytes) -> tuple[Ahs, ...]:
    """Split additional header segments, each a length, a type and a body padded to four bytes (RFC 7143 §11.2.2)."""
    found = []
    at = 0
    while at < len(ahs):
        if len(ahs) - at < 4:
            raise PduError("additional header segment cut short")
        length, kind = int.from_bytes(ahs[at : at + 2]), ahs[at + 2]
        if length < 1 or at + 3 + length > len(ahs):
            raise PduError(f"additional header segment with a length of {length}")
        if kind == Ahs.BIDIRECTIONAL_READ_LENGTH and length != 5:
            raise PduError(f"bidirectional read length segment with a length of {length}")
        found.append(Ahs(kind, ahs[at + 3 : at + 3 + length]))
        at += 3 + length + (-(3 + length) % 4)
    return tuple(found)


def build_ahs(segments: tuple[Ahs, ...]) -> bytes:
    """The inverse of parse_ahs."""
    out = bytearray()
    for segment in segments:
        out += len(segment.body).to_bytes(2) + bytes((segment.type,)) + segment.body
        out += bytes(-len(out) % 4)
    if len(out) > MAX_AHS_BYTES:
        raise PduError("additional header segments over 1020 bytes")
    return bytes(out)


def decode_as(cls: type[P], raw: RawPdu) -> P:
    """Read a framed PDU by the table of `cls`; PduError if it is of another type or breaks its format."""
    if raw.opcode != cls.opcode:
        raise PduError(f"opcode 0x{raw.opcode:02x} where 0x{cls.opcode:02x} is due")
    if len(raw.bhs) != BHS_SIZE_BYTES:
        raise PduError(f"basic header segment of {len(raw.bhs)} bytes")
    bhs = raw.bhs
    values: dict[str, Any] = {"data": raw.data, "ahs": parse_ahs(raw.ahs)}
    for item in cls.wire:
        part = bhs[item.offset : item.offset + item.size]
        if item.is_bytes:
            values[item.name] = part
        elif item.kind is bool:
            values[item.name] = int.from_bytes(part) & item.mask != 0
        else:
            values[item.name] = (int.from_bytes(part) & item.mask) >> item.shift
    return cls(**values)


def decode(raw: RawPdu) -> Pdu:
    """Read a framed PDU by its opcode; PduError if the opcode names none or the PDU breaks its format."""
    try:
        cls = PDU_TYPES[Opcode(raw.opcode)]
    except ValueError:
        raise PduError(f"opcode 0x{raw.opcode:02x} names no PDU") from None
    return decode_as(cls, raw)


def header(pdu: Pdu) -> bytes:
    """The 48 bytes of the basic header segment, lengths included."""
    ahs_bytes = sum(3 + len(a.body) + (-(3 + len(a.body)) % 4) for a in pdu.ahs)
    if ahs_bytes > MAX_AHS_BYTES or len(pdu.data) > 0xFFFFFF:
        raise PduError("segment too long for its length field")
    bits = pdu.opcode << 8 * 47 | (len(pdu.data) | ahs_bytes // 4 << 24) << 8 * 40
    if pdu.final_always:
        bits |= 0x80 << 8 * 46
    for item in pdu.wire:
        value = getattr(pdu, item.name)
        if item.is_bytes:
            if len(value) != item.size:
                raise PduError(f"{item.name} of {len(value)} bytes, not {item.size}")
            value = int.from_bytes(value)
        elif not 0 <= value <= item.mask >> item.shift:
            raise PduError(f"{item.name}={value} does not fit its field")
        bits |= value << item.shift << 8 * (BHS_SIZE_BYTES - item.offset - item.size)
    return bits.to_bytes(BHS_SIZE_BYTES)


def encode(pdu: Pdu, *, header_digest: bool = False, data_digest: bool = False, crc: Crc32c = crc32c) -> bytes:
    """All bytes of a PDU: BHS, AHS, header digest, data, padding, data digest."""
    return frame(header(pdu) + build_ahs(pdu.ahs), pdu.data, header_digest=header_digest, data_digest=data_digest, crc=crc)


def frame(head: bytes, data: bytes, *, header_digest: bool = False, data_digest: bool = False, crc: Crc32c = crc32c) -> bytes:
    """Put a finished header (BHS and AHS) and a data segment on the wire, with padding and digests."""
    padded = data + bytes(-len(data) % 4)
    out = head + (digest(head, crc) if header_digest else b"") + padded
    return out + digest(padded, crc) if data_digest and data else out


def raw(pdu: Pdu) -> RawPdu:
    """A PDU as the framer would hand it over."""
    return RawPdu(header(pdu), build_ahs(pdu.ahs), pdu.data)
