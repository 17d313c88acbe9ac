"""Offloaded data transfer: POPULATE TOKEN, WRITE USING TOKEN and their results (SBC-4 §5.12, §5.53, SPC-4 §6.27)."""

from __future__ import annotations

import secrets
from itertools import pairwise

from target.scsi import designators, sense
from target.scsi.copy import extended_copy, tokens
from target.scsi.copy.results import RodResult
from target.scsi.copy.tokens import Range, Token
from target.scsi.fields import Field, build
from target.scsi.model import Status
from target.scsi.sense import CheckCondition
from target.scsi.target import Target
from target.scsi.task import Task
from target.scsi.unit import LogicalUnit

POPULATE, WRITE = 0x10, 0x11
DONE, FAILED, PARTIAL = 0x01, 0x02, 0x03
UNITS_BLOCKS = 0xF1
TOKEN_IN, TOKEN_OUT = 2, 1   # may be given to us, may be made by us

# -- where the numbers lie ---------------------------------------------------------------------------------------------
DATA_LENGTH = Field(0, 2)    # of both lists: what follows it
# POPULATE TOKEN (SBC-4 table 50)
POPULATE_HEADER = 16
ROD_TYPE_VALID, INACTIVITY_TIMEOUT_S, ROD_TYPE, POPULATE_RANGES = Field(2, mask=0x02), Field(4, 4), Field(8, 4), Field(14, 2)
# WRITE USING TOKEN (SBC-4 table 135)
WRITE_HEADER = 536
DELETE_TOKEN, OFFSET_INTO_ROD, WRITE_RANGES = Field(2, mask=0x02), Field(8, 8), Field(534, 2)
TOKEN_AT = 16
# a block device range descriptor (SBC-4 table 52)
RANGE_BYTES, RANGE_LBA, RANGE_BLOCKS = 16, Field(0, 8), Field(8, 4)
# RECEIVE ROD TOKEN INFORMATION (SPC-4 §6.28, SBC-4 §5.31), up to the sense data
INFORMATION_BYTES, INFORMATION_LENGTH, ACTION, STATUS = 32, Field(0, 4), Field(4), Field(5)
COMPLETION, SENSE_FIELD_BYTES, SENSE_BYTES, COUNT_UNITS = Field(12), Field(13), Field(14), Field(15)
COUNT, SEGMENTS = Field(16, 8), Field(24, 2)
DESCRIPTORS_LENGTH, TOKEN_HEADER_BYTES = Field(0, 4), 2
# the unit as a token's creator: an identification CSCD descriptor
CREATOR_HEADER_BYTES = 8
# descriptors of the Third-party Copy page: kinds, and their bodies (SBC-4 §6.6.8, SPC-4 §7.8.17)
BLOCK_LIMITS, ROD_FEATURES, SUPPORTED_RODS = 0x0000, 0x0106, 0x0108
LIMITS_BYTES, MAX_RANGES, MAX_TIMEOUT_S, DEFAULT_TIMEOUT_S = 32, Field(6, 2), Field(8, 4), Field(12, 4)
MAX_TOKEN_BLOCKS, OPTIMAL_TOKEN_BLOCKS = Field(16, 8), Field(24, 8)
FEATURES_BYTES, FEATURE_DEFAULT_S, FEATURE_MAX_S, FEATURE_LIFETIME_S = 44, Field(12, 4), Field(16, 4), Field(20, 4)
ROD_BYTES, ROD_KIND, ROD_USES, ROD_PREFERENCE = 64, Field(0, 4), Field(4), Field(6, 2)
RODS_HEADER_BYTES, RODS_LENGTH = 4, Field(2, 2)
OPTIMAL_BYTES = 64 << 20


def _now_s(task: Task) -> float:
    return task.unit.hooks.timestamp_ms() / 1000


async def _thaw(gone: list[Token]) -> None:
    for token in gone:
        if token.frozen is not None:
            await token.source.hooks.thaw(token.source, token.frozen)


async def expire(target: Target, now_s: float) -> None:
    """Let go of what expired tokens hold; for the server to call now and then."""
    await _thaw(target.tokens.expire(now_s))


async def revoke(target: Target, source: LogicalUnit) -> None:
    """Nothing that was read from the unit may come back by a token."""
    await _thaw(target.tokens.drop_source(source))


# -- parameter lists ---------------------------------------------------------------------------------------------------
def parse_ranges(task: Task, raw: bytes, length: Field) -> list[Range]:
    """Block device range descriptors: inside the medium, not overlapping, together within the stated limit."""
    at, length_bytes = length.end, length.of(raw)
    if length_bytes == 0 or length_bytes % RANGE_BYTES or at + length_bytes > len(raw):
        raise sense.invalid_field(length)
    if length_bytes // RANGE_BYTES > tokens.MAX_RANGES:
        raise sense.invalid_field(length, asc=sense.TOO_MANY_SEGMENT_DESCRIPTORS)
    block = task.unit.block_bytes
    ranges = []
    for start in range(at, at + length_bytes, RANGE_BYTES):
        described = raw[start:start + RANGE_BYTES]
        lba, blocks = RANGE_LBA.of(described), RANGE_BLOCKS.of(described)
        task.check_range(lba, blocks)
        if blocks:
            ranges.append(Range(lba * block, blocks * block))
    ordered = sorted(ranges)
    if any(first.offset_bytes + first.length_bytes > second.offset_bytes
           for first, second in pairwise(ordered)):
        raise sense.invalid_parameter(at)
    if sum(each.length_bytes for each in ranges) > tokens.MAX_TOKEN_BYTES:
        raise sense.invalid_field(RANGE_BLOCKS, at)
    return ranges


def _checked_list(task: Task, header: int) -> bytes | None:
    """The parameter list, at least as long as its header and its own length say; None when it is empty."""
    raw = task.parameters()
    if not raw:
        return None
    if len(raw) < header:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if not header <= DATA_LENGTH.of(raw) + DATA_LENGTH.end <= len(raw):
        raise sense.invalid_field(DATA_LENGTH)
    return raw


# -- POPULATE TOKEN ----------------------------------------------------------------------------------------------------
async def populate_token(task: Task) -> bytes:
    """POPULATE TOKEN: a token for ranges of this unit, point-in-time where the server can freeze the medium."""
    raw = _checked_list(task, POPULATE_HEADER)
    if raw is None:
        return b""
    timeout_s = INACTIVITY_TIMEOUT_S.of(raw) or tokens.DEFAULT_TIMEOUT_S
    if timeout_s > tokens.MAX_TIMEOUT_S:
        raise sense.invalid_field(INACTIVITY_TIMEOUT_S)
    wanted = ROD_TYPE.of(raw) if ROD_TYPE_VALID.of(raw) else None
    if wanted not in (None, tokens.POINT_IN_TIME, tokens.ACCESS_UPON_REFERENCE):
        raise sense.invalid_field(ROD_TYPE)
    ranges = parse_ranges(task, raw, POPULATE_RANGES)
    frozen = None if wanted == tokens.ACCESS_UPON_REFERENCE else await task.unit.hooks.freeze(task.unit)
    if frozen is None and wanted == tokens.POINT_IN_TIME:
        raise sense.invalid_field(ROD_TYPE)
    kind = tokens.ACCESS_UPON_REFERENCE if frozen is None else tokens.POINT_IN_TIME
    name = designators.naa(task.unit.identity)
    creator = build(CREATOR_HEADER_BYTES, (extended_copy.CSCD_TYPE, extended_copy.IDENTIFICATION_CSCD),
                    (extended_copy.CODE_SET, designators.BINARY), (extended_copy.DESIGNATOR_KIND, designators.NAA),
                    (extended_copy.DESIGNATOR_BYTES, len(name))) + name
    length_bytes = sum(each.length_bytes for each in ranges)
    kept = task.target.tokens
    made = tokens.encode(kind, kept.identifier(), creator, length_bytes, secrets.token_bytes(32))
    token = Token(made, kind, task.unit, tuple(ranges), task.nexus, frozen, timeout_s, _now_s(task) + timeout_s)
    await _thaw(kept.add(token, _now_s(task)))
    result = RodResult(POPULATE, DONE, length_bytes // task.unit.block_bytes, made, None)
    task.unit.rod_results.keep(task.nexus, task.number(6, 4), result)
    return b""


# -- WRITE USING TOKEN -------------------------------------------------------------------------------------------------
async def write_using_token(task: Task) -> bytes:
    """WRITE USING TOKEN: copy by reference from what the token stands for."""
    raw = _checked_list(task, WRITE_HEADER)
    if raw is None:
        return b""
    result = RodResult(WRITE, FAILED, 0, None, None)
    try:
        ranges = parse_ranges(task, raw, WRITE_RANGES)
        offset_bytes = OFFSET_INTO_ROD.of(raw) * task.unit.block_bytes
        token_bytes = raw[TOKEN_AT:TOKEN_AT + tokens.TOKEN_BYTES]
        if tokens.is_zero_token(token_bytes):
            result.blocks = await _write_zeros(task, ranges)
            result.status = DONE
        else:
            await _write_from(task, find_token(task, token_bytes), offset_bytes, ranges, result)
            if DELETE_TOKEN.of(raw):
                dropped = task.target.tokens.drop(token_bytes)
                await _thaw([dropped] if dropped is not None else [])
        if not task.unit.mode.write_cache_enabled:
            await task.unit.backend.flush()
    except CheckCondition as error:
        result.status, result.failure = FAILED, error.sense
        raise
    finally:
        task.unit.rod_results.keep(task.nexus, task.number(6, 4), result)
    return b""


def find_token(task: Task, raw: bytes) -> Token:
    """A live token of a source that this nexus reaches; one that it does not reach is as unknown as none."""
    token = task.target.tokens.find(raw)
    if token is None or not task.target.luns_of(task.nexus, token.source):
        raise sense.invalid_parameter(TOKEN_AT, asc=sense.TOKEN_UNKNOWN)
    if token.deadline_s < _now_s(task):
        raise sense.invalid_parameter(TOKEN_AT, asc=sense.TOKEN_EXPIRED)
    token.deadline_s = _now_s(task) + token.timeout_s
    return token


async def _write_zeros(task: Task, ranges: list[Range]) -> int:
    for each in ranges:
        await task.unit.backend.unmap(each.offset_bytes, each.length_bytes, False, False)
    return sum(each.length_bytes for each in ranges) // task.unit.block_bytes


async def _write_from(task: Task, token: Token, offset_bytes: int, ranges: list[Range], result: RodResult) -> None:
    """Fill the ranges in order from the token's data; what it lacks stays unwritten and is reported as partial."""
    if offset_bytes >= token.length_bytes and ranges:
        raise sense.invalid_field(OFFSET_INTO_ROD)
    if token.frozen is None and not extended_copy.check_access(task, token.source, write=False):
        raise extended_copy.copy_aborted(0)
    backend, block = task.unit.backend, task.unit.block_bytes
    source = token.source.backend if token.frozen is None else token.frozen
    wanted = 0
    for each in ranges:
        wanted += each.length_bytes
        at = each.offset_bytes
        for piece in token.slice(offset_bytes, each.length_bytes):
            if piece.length_bytes % block or piece.offset_bytes % block or (
                    piece.offset_bytes + piece.length_bytes > source.size_bytes):
                raise extended_copy.copy_aborted(0)
            await extended_copy.copy_range(source, piece.offset_bytes, backend, at, piece.length_bytes)
            at += piece.length_bytes
            result.blocks += piece.length_bytes // block
        offset_bytes += each.length_bytes
    result.status = DONE if result.blocks * block == wanted else PARTIAL


# -- results -----------------------------------------------------------------------------------------------------------
async def receive_rod_token_information(task: Task) -> bytes:
    """RECEIVE ROD TOKEN INFORMATION: the outcome, and after POPULATE TOKEN the token."""
    result = task.unit.rod_results.find(task.nexus, task.number(2, 4))
    if result is None:
        raise sense.invalid_cdb(2)
    encoded = b"" if result.failure is None else result.failure.encode(task.unit.mode.descriptor_sense)
    padded = encoded + bytes(-len(encoded) % 4)
    completion = Status.GOOD if result.failure is None else Status.CHECK_CONDITION
    described = b"" if result.token is None else bytes(TOKEN_HEADER_BYTES) + result.token
    tail = padded + build(DESCRIPTORS_LENGTH.end, (DESCRIPTORS_LENGTH, len(described))) + described
    return build(INFORMATION_BYTES, (INFORMATION_LENGTH, INFORMATION_BYTES - INFORMATION_LENGTH.end + len(tail)),
                 (ACTION, result.action), (STATUS, result.status), (COMPLETION, completion), (SENSE_FIELD_BYTES, len(padded)),
                 (SENSE_BYTES, len(encoded)), (COUNT_UNITS, UNITS_BLOCKS), (COUNT, result.blocks), (SEGMENTS, 1)) + tail


def page_descriptors(unit: LogicalUnit) -> list[tuple[int, bytes]]:
    """The Third-party Copy page's descriptors about tokens (SBC-4 §6.6.8, SPC-4 §7.8.17)."""
    block = unit.block_bytes
    limits = build(LIMITS_BYTES, (MAX_RANGES, tokens.MAX_RANGES), (MAX_TIMEOUT_S, tokens.MAX_TIMEOUT_S),
                   (DEFAULT_TIMEOUT_S, tokens.DEFAULT_TIMEOUT_S), (MAX_TOKEN_BLOCKS, tokens.MAX_TOKEN_BYTES // block),
                   (OPTIMAL_TOKEN_BLOCKS, OPTIMAL_BYTES // block))
    features = build(FEATURES_BYTES, (FEATURE_DEFAULT_S, tokens.DEFAULT_TIMEOUT_S), (FEATURE_MAX_S, tokens.MAX_TIMEOUT_S),
                     (FEATURE_LIFETIME_S, tokens.MAX_TIMEOUT_S))
    kinds = b"".join(build(ROD_BYTES, (ROD_KIND, kind), (ROD_USES, use), (ROD_PREFERENCE, preference))
                     for kind, use, preference in ((tokens.POINT_IN_TIME, TOKEN_IN | TOKEN_OUT, 1),
                                                   (tokens.ACCESS_UPON_REFERENCE, TOKEN_IN | TOKEN_OUT, 2),
                                                   (tokens.BLOCK_ZERO, TOKEN_IN, 3)))
    return [(BLOCK_LIMITS, limits), (ROD_FEATURES, features),
            (SUPPORTED_RODS, build(RODS_HEADER_BYTES, (RODS_LENGTH, len(kinds))) + kinds)]
