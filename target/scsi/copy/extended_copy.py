"""EXTENDED COPY and its results: copies between units that the same nexus reaches (SPC-4 §5.16, §6.4)."""

from __future__ import annotations

from typing import NamedTuple

from target.scsi import designators, sense
from target.scsi.backend import BackendError, BlockBackend
from target.scsi.copy.results import KEPT_RESULTS, CopyResult
from target.scsi.fields import Field, build
from target.scsi.model import Status
from target.scsi.sense import CheckCondition, Sense, SenseKey
from target.scsi.target import MEDIUM_STATES
from target.scsi.task import Task
from target.scsi.unit import LogicalUnit

MAX_CSCDS, MAX_SEGMENTS = 8, 64
CSCD_BYTES, IDENTIFICATION_CSCD = 32, 0xE4
BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET = 0x02, 0x0A
SEGMENT_BYTES = {BLOCK_TO_BLOCK: 28, BLOCK_TO_BLOCK_OFFSET: 32}
MAX_DESCRIPTOR_BYTES = MAX_CSCDS * CSCD_BYTES + MAX_SEGMENTS * SEGMENT_BYTES[BLOCK_TO_BLOCK]
MAX_SEGMENT_BYTES = 256 << 20
CHUNK_BYTES = 1 << 20
LIST_ID_RESERVED, LIST_ID_NOT_USED = 1, 3
COMPLETED, FAILED = 1, 2
HELD_GRAIN = 9               # data segments, inline data and held data: in units of 2^9 bytes


# -- where the numbers lie ---------------------------------------------------------------------------------------------
class ListFields(NamedTuple):
    """The header of a parameter list; the lengths are those of the descriptors behind it."""

    header_bytes: int
    identifier: Field
    cscds: Field
    segments: Field
    inline: Field


LID1 = ListFields(16, identifier=Field(0), cscds=Field(2, 2), segments=Field(8, 4), inline=Field(12, 4))
LID4 = ListFields(48, identifier=Field(20, 4), cscds=Field(42, 2), segments=Field(44, 2), inline=Field(46, 2))
LIST_ID_USAGE = Field(1, mask=0x18)
LIST_FORMAT = Field(0)                                # LID4: 1
HEADER_CSCDS, HEADER_CSCDS_TYPE = Field(2, 2), Field(16)      # LID4: 20h bytes, of type FFh

CSCD_TYPE, CSCD_DEVICE_TYPE = Field(0), Field(1, mask=0x1F)
CODE_SET, DESIGNATOR_KIND, DESIGNATOR_BYTES = Field(4, mask=0x0F), Field(5, mask=0x3F), Field(7)
DESIGNATOR_AT, DESIGNATOR_MAX_BYTES = 8, 20

SEGMENT_TYPE, SEGMENT_LENGTH = Field(0), Field(2, 2)          # without the type and itself, 4 bytes
BY_DESTINATION = Field(1, mask=0x02)                  # DC: the destination's block length counts
SOURCE, DESTINATION = Field(4, 2), Field(6, 2)
LENGTH_BYTES, LENGTH_BLOCKS = Field(8, 4), Field(10, 2)       # of a segment with offsets; of one without
SOURCE_LBA, DESTINATION_LBA = Field(12, 8), Field(20, 8)
SOURCE_OFFSET, DESTINATION_OFFSET = Field(28, 2), Field(30, 2)

# RECEIVE COPY STATUS, of LID1 (SPC-4 §6.24) and of LID4 (§6.25); FAILURE DETAILS (§6.23)
STATUS1_BYTES, STATUS1_LENGTH, STATUS1, SEGMENTS1 = 12, Field(0, 4), Field(4), Field(5, 2)
COUNT_UNITS1, COUNT1 = Field(7), Field(8, 4)
STATUS4_BYTES, STATUS4_LENGTH, ACTION4, STATUS4 = 32, Field(0, 4), Field(4), Field(5)
COMPLETION4, SENSE_FIELD_BYTES4, SENSE_BYTES4 = Field(12), Field(13), Field(14)
COUNT4, SEGMENTS4 = Field(16, 8), Field(24, 2)
DETAILS_BYTES, DETAILS_LENGTH, DETAILS_STATUS, DETAILS_SENSE_BYTES = 60, Field(0, 4), Field(56), Field(58, 2)

# RECEIVE COPY OPERATING PARAMETERS (SPC-4 §6.22)
PARAMETERS_BYTES, PARAMETERS_LENGTH, NO_LIST_ID = 44, Field(0, 4), Field(4, mask=0x01)
CSCDS_LIMIT, SEGMENTS_LIMIT, DESCRIPTORS_LIMIT, SEGMENT_LIMIT = Field(8, 2), Field(10, 2), Field(12, 4), Field(16, 4)
COPIES_LIMIT, CONCURRENT_COPIES = Field(34, 2), Field(36)
SEGMENT_GRAIN, INLINE_GRAIN, HELD_DATA_GRAIN = Field(37), Field(38), Field(39)
CODES_BYTES = Field(43)


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
    lists = _cut(raw, LID1)
    if not lists.keep and lists.identifier:
        raise sense.invalid_field(LIST_ID_USAGE)
    return lists


def parse_lid4(raw: bytes) -> Lists:
    """The parameter list of EXTENDED COPY (LID4)."""
    if len(raw) >= LID4.header_bytes:
        if LIST_FORMAT.of(raw) != 1:
            raise sense.invalid_field(LIST_FORMAT)
        if HEADER_CSCDS.of(raw) != 0x20 or HEADER_CSCDS_TYPE.of(raw) != 0xFF:
            raise sense.invalid_field(HEADER_CSCDS)
    return _cut(raw, LID4)


def _cut(raw: bytes, fields: ListFields) -> Lists:
    header = fields.header_bytes
    if len(raw) < header:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    usage = LIST_ID_USAGE.of(raw)
    if usage == LIST_ID_RESERVED:
        raise sense.invalid_field(LIST_ID_USAGE)
    cscds, segments = fields.cscds.of(raw), fields.segments.of(raw)
    if cscds + segments > MAX_DESCRIPTOR_BYTES:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if fields.inline.of(raw):
        raise sense.invalid_field(fields.inline, asc=sense.INLINE_DATA_LENGTH_EXCEEDED)
    if header + cscds + segments > len(raw) or cscds % CSCD_BYTES:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if cscds > MAX_CSCDS * CSCD_BYTES:
        raise sense.invalid_field(fields.cscds, asc=sense.TOO_MANY_TARGET_DESCRIPTORS)
    middle = header + cscds
    return Lists(fields.identifier.of(raw), usage != LIST_ID_NOT_USED, raw[header:middle], header, raw[middle:middle + segments],
                 middle)


def parse_cscds(task: Task, lists: Lists) -> list[LogicalUnit | None]:
    """The units that the CSCD descriptors name; None for one that this nexus does not reach."""
    units = []
    for at in range(0, len(lists.cscds), CSCD_BYTES):
        raw, where = lists.cscds[at:at + CSCD_BYTES], lists.cscds_at + at
        if CSCD_TYPE.of(raw) != IDENTIFICATION_CSCD:
            raise sense.invalid_field(CSCD_TYPE, where, sense.UNSUPPORTED_TARGET_DESCRIPTOR)
        length = DESIGNATOR_BYTES.of(raw)
        if length > DESIGNATOR_MAX_BYTES:
            raise sense.invalid_field(DESIGNATOR_BYTES, where)
        if CSCD_DEVICE_TYPE.of(raw):
            raise sense.invalid_field(CSCD_DEVICE_TYPE, where)
        units.append(find_unit(task, CODE_SET.of(raw), DESIGNATOR_KIND.of(raw), raw[DESIGNATOR_AT:DESIGNATOR_AT + length]))
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
        raw, where = lists.segments[at:], lists.segments_at + at
        size = SEGMENT_BYTES.get(SEGMENT_TYPE.of(raw))
        if size is None:
            raise sense.invalid_field(SEGMENT_TYPE, where, sense.UNSUPPORTED_SEGMENT_DESCRIPTOR)
        if len(raw) < size:
            raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
        if SEGMENT_LENGTH.of(raw) != size - SEGMENT_LENGTH.end:
            raise sense.invalid_field(SEGMENT_LENGTH, where)
        out.append(_segment(raw, units))
        at += size
    return out


def _segment(raw: bytes, units: list[LogicalUnit | None]) -> Segment:
    source, destination = SOURCE.of(raw), DESTINATION.of(raw)

    def block(index: int) -> int:
        unit = units[index] if index < len(units) else None
        return unit.block_bytes if unit is not None else 0

    source_offset_bytes = SOURCE_LBA.of(raw) * block(source)
    offset_bytes = DESTINATION_LBA.of(raw) * block(destination)
    if SEGMENT_TYPE.of(raw) == BLOCK_TO_BLOCK:
        length_bytes = LENGTH_BLOCKS.of(raw) * block(destination if BY_DESTINATION.of(raw) else source)
        return Segment(source, destination, source_offset_bytes, offset_bytes, length_bytes)
    source_offset_bytes += SOURCE_OFFSET.of(raw)
    offset_bytes += DESTINATION_OFFSET.of(raw)
    return Segment(source, destination, source_offset_bytes, offset_bytes, LENGTH_BYTES.of(raw))


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
    return build(STATUS1_BYTES, (STATUS1_LENGTH, STATUS1_BYTES - STATUS1_LENGTH.end), (STATUS1, result.status),
                 (SEGMENTS1, min(result.segments, 0xFFFF)), (COUNT_UNITS1, units), (COUNT1, min(count, 0xFFFFFFFF)))


async def copy_status_lid4(task: Task) -> bytes:
    """RECEIVE COPY STATUS (LID4)."""
    result = _find(task, task.number(2, 4), 2, long=True)
    encoded = b"" if result.failure is None else result.failure.encode(task.unit.mode.descriptor_sense)
    padded = encoded + bytes(-len(encoded) % 4)
    completion = Status.GOOD if result.failure is None else Status.CHECK_CONDITION
    return build(STATUS4_BYTES, (STATUS4_LENGTH, STATUS4_BYTES - STATUS4_LENGTH.end + len(padded)), (ACTION4, 0x01),
                 (STATUS4, result.status), (COMPLETION4, completion), (SENSE_FIELD_BYTES4, len(padded)),
                 (SENSE_BYTES4, len(encoded)), (COUNT4, result.copied_bytes), (SEGMENTS4, result.segments)) + padded


async def failed_segment_details(task: Task) -> bytes:
    """RECEIVE COPY FAILURE DETAILS (LID1): the sense of a failed copy, once."""
    result = _find(task, task.cdb[2], 2, long=False)
    if result.failure is None:
        return bytes(4)
    encoded = result.failure.encode(task.unit.mode.descriptor_sense)
    task.unit.copy_results.drop(task.nexus, task.cdb[2])
    return build(DETAILS_BYTES, (DETAILS_LENGTH, DETAILS_BYTES - DETAILS_LENGTH.end + len(encoded)),
                 (DETAILS_STATUS, Status.CHECK_CONDITION), (DETAILS_SENSE_BYTES, len(encoded))) + encoded


async def receive_copy_data(task: Task) -> bytes:
    """RECEIVE COPY DATA (LID1): no supported segment descriptor holds data."""
    _find(task, task.cdb[2], 2, long=False)
    return bytes(4)


async def operating_parameters(task: Task) -> bytes:
    """RECEIVE COPY OPERATING PARAMETERS."""
    codes = bytes([*SEGMENT_BYTES, IDENTIFICATION_CSCD])
    return build(PARAMETERS_BYTES, (PARAMETERS_LENGTH, PARAMETERS_BYTES - PARAMETERS_LENGTH.end + len(codes)), (NO_LIST_ID, 1),
                 (CSCDS_LIMIT, MAX_CSCDS), (SEGMENTS_LIMIT, MAX_SEGMENTS), (DESCRIPTORS_LIMIT, MAX_DESCRIPTOR_BYTES),
                 (SEGMENT_LIMIT, MAX_SEGMENT_BYTES), (COPIES_LIMIT, KEPT_RESULTS), (CONCURRENT_COPIES, KEPT_RESULTS),
                 (SEGMENT_GRAIN, HELD_GRAIN), (INLINE_GRAIN, HELD_GRAIN), (HELD_DATA_GRAIN, HELD_GRAIN),
                 (CODES_BYTES, len(codes))) + codes


async def copy_operation_abort(task: Task) -> bytes:
    """COPY OPERATION ABORT: copies run in the foreground, so none with that identifier can be in progress."""
    raise sense.invalid_cdb(2)
