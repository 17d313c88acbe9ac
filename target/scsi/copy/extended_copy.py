"""EXTENDED COPY and its results: copies between units that the same nexus reaches (SPC-4 §5.16, §6.4)."""

from __future__ import annotations

from typing import NamedTuple

from target.scsi import designators, sense
from target.scsi.backend import BackendError, BlockBackend
from target.scsi.copy.results import KEPT_RESULTS, CopyResult
from target.scsi.sense import CheckCondition, Sense, SenseKey
from target.scsi.target import MEDIUM_STATES
from target.scsi.task import Task
from target.scsi.unit import LogicalUnit

HEADER, LID4_HEADER = 16, 48
MAX_CSCDS, MAX_SEGMENTS = 8, 64
CSCD_BYTES, IDENTIFICATION_CSCD = 32, 0xE4
BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET = 0x02, 0x0A
SEGMENT_BYTES = {BLOCK_TO_BLOCK: 28, BLOCK_TO_BLOCK_OFFSET: 32}
MAX_DESCRIPTOR_BYTES = MAX_CSCDS * CSCD_BYTES + MAX_SEGMENTS * SEGMENT_BYTES[BLOCK_TO_BLOCK]
MAX_SEGMENT_BYTES = 256 << 20
CHUNK_BYTES = 1 << 20
LIST_ID_NOT_USED = 3
COMPLETED, FAILED = 1, 2


# -- parsing -----------------------------------------------------------------------------------------------------------
class Lists(NamedTuple):
    """An EXTENDED COPY parameter list, cut into its parts; offsets are for field pointers."""

    identifier: int
    keep: bool
    cscds: bytes
    cscds_at: int
    segments: bytes
    segments_at: int


class Segment(NamedTuple):
    """One copy between two units, in bytes."""

    source: int
    destination: int
    source_offset_bytes: int
    offset_bytes: int
    length_bytes: int


def parse_lid1(raw: bytes) -> Lists:
    """The parameter list of EXTENDED COPY (LID1)."""
    if len(raw) < HEADER:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    usage = raw[1] >> 3 & 3
    if usage == 1 or (usage == LIST_ID_NOT_USED and raw[0]):
        raise sense.invalid_parameter(1, 4)
    sizes = (int.from_bytes(raw[2:4], "big"), int.from_bytes(raw[8:12], "big"), int.from_bytes(raw[12:16], "big"))
    return _cut(raw, HEADER, raw[0], usage, sizes, (2, 8, 12))


def parse_lid4(raw: bytes) -> Lists:
    """The parameter list of EXTENDED COPY (LID4)."""
    if len(raw) < LID4_HEADER:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if raw[0] != 1:
        raise sense.invalid_parameter(0)
    usage = raw[1] >> 3 & 3
    if usage == 1:
        raise sense.invalid_parameter(1, 4)
    if int.from_bytes(raw[2:4], "big") != 0x20 or raw[16] != 0xFF:
        raise sense.invalid_parameter(2)
    sizes = (int.from_bytes(raw[42:44], "big"), int.from_bytes(raw[44:46], "big"), int.from_bytes(raw[46:48], "big"))
    return _cut(raw, LID4_HEADER, int.from_bytes(raw[20:24], "big"), usage, sizes, (42, 44, 46))


def _cut(raw: bytes, header: int, identifier: int, usage: int, sizes: tuple[int, int, int],
         fields: tuple[int, int, int]) -> Lists:
    cscds, segments, inline = sizes
    if cscds + segments > MAX_DESCRIPTOR_BYTES:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if inline:
        raise sense.invalid_parameter(fields[2], asc=sense.INLINE_DATA_LENGTH_EXCEEDED)
    if header + cscds + segments > len(raw) or cscds % CSCD_BYTES:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if cscds > MAX_CSCDS * CSCD_BYTES:
        raise sense.invalid_parameter(fields[0], asc=sense.TOO_MANY_TARGET_DESCRIPTORS)
    middle = header + cscds
    keep = usage != LIST_ID_NOT_USED
    return Lists(identifier, keep, raw[header:middle], header, raw[middle:middle + segments], middle)


def parse_cscds(task: Task, lists: Lists) -> list[LogicalUnit | None]:
    """The units that the CSCD descriptors name; None for one that this nexus does not reach."""
    units = []
    for at in range(0, len(lists.cscds), CSCD_BYTES):
        raw = lists.cscds[at:at + CSCD_BYTES]
        if raw[0] != IDENTIFICATION_CSCD:
            raise sense.invalid_parameter(lists.cscds_at + at, asc=sense.UNSUPPORTED_TARGET_DESCRIPTOR)
        if raw[7] > 20:
            raise sense.invalid_parameter(lists.cscds_at + at + 7)
        if raw[1] & 0x1F:
            raise sense.invalid_parameter(lists.cscds_at + at + 1, 4)
        units.append(find_unit(task, raw[4] & 0x0F, raw[5] & 0x3F, raw[8:8 + raw[7]]))
    return units


def find_unit(task: Task, code_set: int, kind: int, designator: bytes) -> LogicalUnit | None:
    """The unit with this designation descriptor among those of the nexus."""
    wanted = bytes([code_set, kind, 0, len(designator)]) + designator
    for unit in task.target.luns(task.nexus).values():
        if wanted in designators.unit_designators(unit.identity):
            return unit
    return None


def parse_segments(lists: Lists, units: list[LogicalUnit | None]) -> list[Segment]:
    """The segment descriptors; block counts are resolved with the block length of the unit they count on."""
    out: list[Segment] = []
    at = 0
    while at < len(lists.segments):
        if len(out) == MAX_SEGMENTS:
            raise sense.invalid_parameter(lists.segments_at + at, asc=sense.TOO_MANY_SEGMENT_DESCRIPTORS)
        raw = lists.segments[at:]
        size = SEGMENT_BYTES.get(raw[0])
        if size is None:
            raise sense.invalid_parameter(lists.segments_at + at, asc=sense.UNSUPPORTED_SEGMENT_DESCRIPTOR)
        if len(raw) < size:
            raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
        if int.from_bytes(raw[2:4], "big") != size - 4:
            raise sense.invalid_parameter(lists.segments_at + at + 2)
        out.append(_segment(raw, units))
        at += size
    return out


def _segment(raw: bytes, units: list[LogicalUnit | None]) -> Segment:
    source, destination = int.from_bytes(raw[4:6], "big"), int.from_bytes(raw[6:8], "big")

    def block(index: int) -> int:
        unit = units[index] if index < len(units) else None
        return unit.block_bytes if unit is not None else 0

    source_offset_bytes = int.from_bytes(raw[12:20], "big") * block(source)
    offset_bytes = int.from_bytes(raw[20:28], "big") * block(destination)
    if raw[0] == BLOCK_TO_BLOCK:
        length_bytes = int.from_bytes(raw[10:12], "big") * block(destination if raw[1] & 0x02 else source)
        return Segment(source, destination, source_offset_bytes, offset_bytes, length_bytes)
    source_offset_bytes += int.from_bytes(raw[28:30], "big")
    offset_bytes += int.from_bytes(raw[30:32], "big")
    return Segment(source, destination, source_offset_bytes, offset_bytes, int.from_bytes(raw[8:12], "big"))


# -- copying -----------------------------------------------------------------------------------------------------------
async def copy_range(source: BlockBackend, source_offset_bytes: int, destination: BlockBackend, offset_bytes: int,
                     length_bytes: int) -> None:
    """Copy bytes between media: by reference within a pool, else through memory, in an order safe for overlap."""
    same = source is destination
    if same and source_offset_bytes == offset_bytes:
        return
    if source.pool_id == destination.pool_id and not (same and abs(source_offset_bytes - offset_bytes) < length_bytes):
        await destination.share(source, source_offset_bytes, offset_bytes, length_bytes)
        return
    starts = range(0, length_bytes, CHUNK_BYTES)
    for start in reversed(starts) if same and source_offset_bytes < offset_bytes else starts:
        size = min(CHUNK_BYTES, length_bytes - start)
        await destination.write(offset_bytes + start, await source.read(source_offset_bytes + start, size), False)


def copy_aborted(index: int, asc: int = sense.NO_ADDITIONAL_SENSE) -> CheckCondition:
    """COPY ABORTED while a segment was processed; its number is in the command-specific information."""
    return CheckCondition(Sense(SenseKey.COPY_ABORTED, asc, command_specific=index << 16))


def check_access(task: Task, unit: LogicalUnit, write: bool) -> bool:
    """Whether the nexus could read or write this unit itself, now."""
    held = unit.reservations
    allowed = held.may_write(task.nexus) and not unit.write_protected if write else held.may_read(task.nexus)
    ready = not unit.stopped and unit.erasure_sense() is None
    return allowed and ready and task.target.state_of(task.nexus, unit) in MEDIUM_STATES


async def _copy_segment(task: Task, index: int, segment: Segment, units: list[LogicalUnit | None]) -> None:
    ends = []
    for number in (segment.source, segment.destination):
        unit = units[number] if number < len(units) else None
        if unit is None:
            raise copy_aborted(index, sense.COPY_TARGET_DEVICE_NOT_REACHABLE)
        ends.append(unit)
    source, destination = ends
    if not check_access(task, source, write=False) or not check_access(task, destination, write=True):
        raise copy_aborted(index)
    block = max(source.block_bytes, destination.block_bytes)
    if segment.length_bytes > MAX_SEGMENT_BYTES or any(
            number % block for number in (segment.source_offset_bytes, segment.offset_bytes, segment.length_bytes)):
        raise copy_aborted(index)
    if (segment.source_offset_bytes + segment.length_bytes > source.backend.size_bytes
            or segment.offset_bytes + segment.length_bytes > destination.backend.size_bytes):
        raise copy_aborted(index)
    if segment.length_bytes:
        try:
            await copy_range(source.backend, segment.source_offset_bytes, destination.backend, segment.offset_bytes,
                             segment.length_bytes)
        except BackendError as error:
            raise copy_aborted(index, sense.from_backend(error).asc) from error


# -- commands ----------------------------------------------------------------------------------------------------------
async def extended_copy_lid1(task: Task) -> bytes:
    """EXTENDED COPY (LID1)."""
    raw = task.parameters()
    return await _extended_copy(task, parse_lid1(raw), long=False) if raw else b""


async def extended_copy_lid4(task: Task) -> bytes:
    """EXTENDED COPY (LID4): always in the foreground, which IMMED allows."""
    raw = task.parameters()
    return await _extended_copy(task, parse_lid4(raw), long=True) if raw else b""


async def _extended_copy(task: Task, lists: Lists, long: bool) -> bytes:
    units = parse_cscds(task, lists)
    segments = parse_segments(lists, units)
    result = CopyResult(COMPLETED, 0, 0, None, long)
    try:
        for index, segment in enumerate(segments):
            await _copy_segment(task, index, segment, units)
            result.segments, result.copied_bytes = index + 1, result.copied_bytes + segment.length_bytes
        for unit in {id(unit): unit for unit in units if unit is not None}.values():
            if not unit.mode.write_cache_enabled:
                await unit.backend.flush()
    except CheckCondition as error:
        result.status, result.failure = FAILED, error.sense
        raise
    finally:
        if lists.keep:
            task.unit.copy_results.keep(task.nexus, lists.identifier, result)
    return b""


def _find(task: Task, identifier: int, at: int, long: bool) -> CopyResult:
    result = task.unit.copy_results.find(task.nexus, identifier)
    if result is None or result.long != long:
        raise sense.invalid_cdb(at)
    return result


async def copy_status_lid1(task: Task) -> bytes:
    """RECEIVE COPY STATUS (LID1): transfer count in KiB when it does not fit in bytes."""
    result = _find(task, task.cdb[2], 2, long=False)
    units, count = (0, result.copied_bytes) if result.copied_bytes < 1 << 32 else (1, result.copied_bytes >> 10)
    return (b"\x00\x00\x00\x08" + bytes([result.status]) + min(result.segments, 0xFFFF).to_bytes(2, "big")
            + bytes([units]) + min(count, 0xFFFFFFFF).to_bytes(4, "big"))


async def copy_status_lid4(task: Task) -> bytes:
    """RECEIVE COPY STATUS (LID4)."""
    result = _find(task, task.number(2, 4), 2, long=True)
    encoded = b"" if result.failure is None else result.failure.encode(task.unit.mode.descriptor_sense)
    padded = encoded + bytes(-len(encoded) % 4)
    status = 0 if result.failure is None else 2
    body = bytes([0x01, result.status]) + bytes(6) + bytes([status, len(padded), len(encoded), 0])
    body += result.copied_bytes.to_bytes(8, "big") + result.segments.to_bytes(2, "big") + bytes(6) + padded
    return len(body).to_bytes(4, "big") + body


async def failed_segment_details(task: Task) -> bytes:
    """RECEIVE COPY FAILURE DETAILS (LID1): the sense of a failed copy, once."""
    result = _find(task, task.cdb[2], 2, long=False)
    if result.failure is None:
        return bytes(4)
    encoded = result.failure.encode(task.unit.mode.descriptor_sense)
    task.unit.copy_results.drop(task.nexus, task.cdb[2])
    body = bytes(52) + b"\x02\x00" + len(encoded).to_bytes(2, "big") + encoded
    return len(body).to_bytes(4, "big") + body


async def receive_copy_data(task: Task) -> bytes:
    """RECEIVE COPY DATA (LID1): no supported segment descriptor holds data."""
    _find(task, task.cdb[2], 2, long=False)
    return bytes(4)


async def operating_parameters(task: Task) -> bytes:
    """RECEIVE COPY OPERATING PARAMETERS."""
    codes = bytes([*SEGMENT_BYTES, IDENTIFICATION_CSCD])
    out = bytearray(44)
    for offset, size, value in ((4, 1, 1), (8, 2, MAX_CSCDS), (10, 2, MAX_SEGMENTS), (12, 4, MAX_DESCRIPTOR_BYTES),
                                (16, 4, MAX_SEGMENT_BYTES), (34, 2, KEPT_RESULTS), (36, 1, KEPT_RESULTS), (37, 1, 9),
                                (38, 1, 9), (39, 1, 9), (43, 1, len(codes))):
        out[offset:offset + size] = value.to_bytes(size, "big")
    out[0:4] = (len(out) - 4 + len(codes)).to_bytes(4, "big")
    return bytes(out) + codes


async def copy_operation_abort(task: Task) -> bytes:
    """COPY OPERATION ABORT: copies run in the foreground, so none with that identifier can be in progress."""
    raise sense.invalid_cdb(2)
