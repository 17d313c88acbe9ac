"""Every iSCSI PDU as a table of fields, and the one codec that reads the tables (RFC 7143 §11).

A PDU class is its table: each attribute names offset, size and bits once; decoding, encoding, the conformance
document and the tests against the native codec go by it. Reserved bits are ignored when received and zero when sent.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from target.iscsi.codes import BHS_SIZE_BYTES, RESERVED_TAG, Opcode
from target.iscsi.digest import Crc32c, crc32c, digest

MAX_AHS_BYTES = 255 * 4


class PduError(ValueError):
    """A PDU that breaks its format; the message is one line and carries no data of the peer's."""


@dataclass(frozen=True, slots=True)
class WireField:
    """Where a field lies in the BHS: `size` bytes from `offset`, of which `mask` (after the big-endian read) counts."""

    name: str
    offset: int
    size: int
    mask: int
    is_bytes: bool = False

    @property
    def shift(self) -> int:
        """How far the masked value lies above bit 0."""
        return (self.mask & -self.mask).bit_length() - 1


def _at(offset: int, size: int, default: int = 0, mask: int | None = None) -> Any:
    full = (1 << 8 * size) - 1
    return field(default=default, metadata={"wire": (offset, size, full if mask is None else mask, False)})


def _flag(offset: int, mask: int, default: bool = False) -> Any:
    return field(default=default, metadata={"wire": (offset, 1, mask, False)})


def _raw(offset: int, size: int) -> Any:
    return field(default=bytes(size), metadata={"wire": (offset, size, (1 << 8 * size) - 1, True)})


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
    def initiator_task_tag(self) -> int:
        """Bytes 16 to 19, which name the task in nearly every PDU."""
        return int.from_bytes(self.bhs[16:20])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """What all PDUs share. `data` is the data segment without padding or digest."""

    opcode: ClassVar[Opcode]
    final_always: ClassVar[bool] = True
    """Bit 7 of byte 1 is a constant 1 in this PDU."""
    wire: ClassVar[tuple[WireField, ...]] = ()

    data: bytes = b""
    ahs: tuple[Ahs, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request(Pdu):
    immediate: bool = _flag(0, 0x40)
    cmd_sn: int = _at(24, 4)
    exp_stat_sn: int = _at(28, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response(Pdu):
    stat_sn: int = _at(24, 4)
    exp_cmd_sn: int = _at(28, 4)
    max_cmd_sn: int = _at(32, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class NopOut(_Request):
    """RFC 7143 §11.18."""

    opcode = Opcode.NOP_OUT
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4, RESERVED_TAG)
    target_transfer_tag: int = _at(20, 4, RESERVED_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiCommand(_Request):
    """RFC 7143 §11.3."""

    opcode = Opcode.SCSI_COMMAND
    final_always = False
    final: bool = _flag(1, 0x80, True)
    read: bool = _flag(1, 0x40)
    write: bool = _flag(1, 0x20)
    attributes: int = _at(1, 1, mask=0x07)
    priority: int = _at(2, 1, mask=0x0F)
    """RFC 7144 §5.1.1; zero below iSCSIProtocolLevel 2."""
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4)
    expected_data_transfer_length: int = _at(20, 4)
    cdb: bytes = _raw(32, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagementRequest(_Request):
    """RFC 7143 §11.5."""

    opcode = Opcode.TASK_MANAGEMENT_REQUEST
    function: int = _at(1, 1, mask=0x7F)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4)
    referenced_task_tag: int = _at(20, 4, RESERVED_TAG)
    ref_cmd_sn: int = _at(32, 4)
    exp_data_sn: int = _at(36, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest(Pdu):
    """RFC 7143 §11.12. Always immediate."""

    opcode = Opcode.LOGIN_REQUEST
    final_always = False
    immediate: bool = _flag(0, 0x40, True)
    transit: bool = _flag(1, 0x80)
    continues: bool = _flag(1, 0x40)
    current_stage: int = _at(1, 1, mask=0x0C)
    next_stage: int = _at(1, 1, mask=0x03)
    version_max: int = _at(2, 1)
    version_min: int = _at(3, 1)
    isid: bytes = _raw(8, 6)
    tsih: int = _at(14, 2)
    initiator_task_tag: int = _at(16, 4)
    cid: int = _at(20, 2)
    cmd_sn: int = _at(24, 4)
    exp_stat_sn: int = _at(28, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest(_Request):
    """RFC 7143 §11.10."""

    opcode = Opcode.TEXT_REQUEST
    final_always = False
    final: bool = _flag(1, 0x80, True)
    continues: bool = _flag(1, 0x40)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4)
    target_transfer_tag: int = _at(20, 4, RESERVED_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOut(Pdu):
    """RFC 7143 §11.7."""

    opcode = Opcode.DATA_OUT
    final_always = False
    final: bool = _flag(1, 0x80, True)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4)
    target_transfer_tag: int = _at(20, 4, RESERVED_TAG)
    exp_stat_sn: int = _at(28, 4)
    data_sn: int = _at(36, 4)
    buffer_offset: int = _at(40, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutRequest(_Request):
    """RFC 7143 §11.14."""

    opcode = Opcode.LOGOUT_REQUEST
    reason: int = _at(1, 1, mask=0x7F)
    initiator_task_tag: int = _at(16, 4)
    cid: int = _at(20, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnackRequest(Pdu):
    """RFC 7143 §11.16."""

    opcode = Opcode.SNACK_REQUEST
    type: int = _at(1, 1, mask=0x0F)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4, RESERVED_TAG)
    target_transfer_tag: int = _at(20, 4, RESERVED_TAG)
    exp_stat_sn: int = _at(28, 4)
    begin_run: int = _at(40, 4)
    run_length: int = _at(44, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class NopIn(_Response):
    """RFC 7143 §11.19."""

    opcode = Opcode.NOP_IN
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4, RESERVED_TAG)
    target_transfer_tag: int = _at(20, 4, RESERVED_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiResponse(_Response):
    """RFC 7143 §11.4."""

    opcode = Opcode.SCSI_RESPONSE
    bidirectional_overflow: bool = _flag(1, 0x10)
    bidirectional_underflow: bool = _flag(1, 0x08)
    overflow: bool = _flag(1, 0x04)
    underflow: bool = _flag(1, 0x02)
    response: int = _at(2, 1)
    status: int = _at(3, 1)
    status_qualifier: int = _at(8, 2)
    """RFC 7144 §5.2.1; zero below iSCSIProtocolLevel 2."""
    initiator_task_tag: int = _at(16, 4)
    snack_tag: int = _at(20, 4)
    exp_data_sn: int = _at(36, 4)
    bidirectional_read_residual_count: int = _at(40, 4)
    residual_count: int = _at(44, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagementResponse(_Response):
    """RFC 7143 §11.6."""

    opcode = Opcode.TASK_MANAGEMENT_RESPONSE
    response: int = _at(2, 1)
    additional_information: bytes = _raw(8, 3)
    """RFC 7144 §6.4.1, as QUERY ASYNCHRONOUS EVENT fills it (SAM-5 §7.9); zero below iSCSIProtocolLevel 2."""
    initiator_task_tag: int = _at(16, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginResponse(_Response):
    """RFC 7143 §11.13."""

    opcode = Opcode.LOGIN_RESPONSE
    final_always = False
    transit: bool = _flag(1, 0x80)
    continues: bool = _flag(1, 0x40)
    current_stage: int = _at(1, 1, mask=0x0C)
    next_stage: int = _at(1, 1, mask=0x03)
    version_max: int = _at(2, 1)
    version_active: int = _at(3, 1)
    isid: bytes = _raw(8, 6)
    tsih: int = _at(14, 2)
    initiator_task_tag: int = _at(16, 4)
    status: int = _at(36, 2)
    """Status-Class and Status-Detail together, as LoginStatus has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResponse(_Response):
    """RFC 7143 §11.11."""

    opcode = Opcode.TEXT_RESPONSE
    final_always = False
    final: bool = _flag(1, 0x80, True)
    continues: bool = _flag(1, 0x40)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4)
    target_transfer_tag: int = _at(20, 4, RESERVED_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIn(_Response):
    """RFC 7143 §11.7."""

    opcode = Opcode.DATA_IN
    final_always = False
    final: bool = _flag(1, 0x80, True)
    acknowledge: bool = _flag(1, 0x40)
    overflow: bool = _flag(1, 0x04)
    underflow: bool = _flag(1, 0x02)
    has_status: bool = _flag(1, 0x01)
    status: int = _at(3, 1)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4)
    target_transfer_tag: int = _at(20, 4, RESERVED_TAG)
    data_sn: int = _at(36, 4)
    buffer_offset: int = _at(40, 4)
    residual_count: int = _at(44, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutResponse(_Response):
    """RFC 7143 §11.15. Times are seconds."""

    opcode = Opcode.LOGOUT_RESPONSE
    response: int = _at(2, 1)
    initiator_task_tag: int = _at(16, 4)
    time2wait: int = _at(40, 2)
    time2retain: int = _at(42, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class R2T(_Response):
    """RFC 7143 §11.8."""

    opcode = Opcode.R2T
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4)
    target_transfer_tag: int = _at(20, 4)
    r2t_sn: int = _at(36, 4)
    buffer_offset: int = _at(40, 4)
    desired_data_transfer_length: int = _at(44, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncMessage(_Response):
    """RFC 7143 §11.9."""

    opcode = Opcode.ASYNC_MESSAGE
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _at(16, 4, RESERVED_TAG)
    async_event: int = _at(36, 1)
    async_vcode: int = _at(37, 1)
    parameter1: int = _at(38, 2)
    parameter2: int = _at(40, 2)
    parameter3: int = _at(42, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(_Response):
    """RFC 7143 §11.17. `data` is the header of the PDU that was refused."""

    opcode = Opcode.REJECT
    reason: int = _at(2, 1)
    initiator_task_tag: int = _at(16, 4, RESERVED_TAG)
    data_sn: int = _at(36, 4)


PDU_TYPES: dict[Opcode, type[Pdu]] = {
    cls.opcode: cls
    for cls in (
        NopOut, ScsiCommand, TaskManagementRequest, LoginRequest, TextRequest, DataOut, LogoutRequest, SnackRequest,
        NopIn, ScsiResponse, TaskManagementResponse, LoginResponse, TextResponse, DataIn, LogoutResponse, R2T,
        AsyncMessage, Reject,
    )
}  # fmt: skip

for _cls in PDU_TYPES.values():
    _cls.wire = tuple(WireField(f.name, *f.metadata["wire"]) for f in fields(_cls) if "wire" in f.metadata)

P = TypeVar("P", bound=Pdu)


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
        else:
            values[item.name] = (int.from_bytes(part) & item.mask) >> item.shift
    for name in _FLAGS[cls]:
        values[name] = bool(values[name])
    return cls(**values)


def decode(raw: RawPdu) -> Pdu:
    """Read a framed PDU by its opcode; PduError if the opcode names none or the PDU breaks its format."""
    try:
        cls = PDU_TYPES[Opcode(raw.opcode)]
    except ValueError:
        raise PduError(f"opcode 0x{raw.opcode:02x} names no PDU") from None
    return decode_as(cls, raw)


_FLAGS: dict[type[Pdu], tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls) if isinstance(f.default, bool)) for cls in PDU_TYPES.values()
}


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
