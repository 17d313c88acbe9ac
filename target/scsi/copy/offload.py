"""Offloaded data transfer: POPULATE TOKEN, WRITE USING TOKEN and their results (SBC-4 §5.12, §5.53, SPC-4 §6.27)."""

from __future__ import annotations

import secrets
from itertools import pairwise

from target.scsi import designators, sense
from target.scsi.copy import extended_copy, tokens
from target.scsi.copy.results import RodResult
from target.scsi.copy.tokens import Range, Token
from target.scsi.sense import CheckCondition
from target.scsi.target import Target
from target.scsi.task import Task
from target.scsi.unit import LogicalUnit

POPULATE, WRITE = 0x10, 0x11
POPULATE_HEADER, WRITE_HEADER, RANGE_BYTES = 16, 536, 16
TOKEN_AT = 16
DONE, FAILED, PARTIAL = 0x01, 0x02, 0x03
UNITS_BLOCKS = 0xF1
TOKEN_IN, TOKEN_OUT = 2, 1   # may be given to us, may be made by us


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
def parse_ranges(task: Task, raw: bytes, at: int, length_bytes: int) -> list[Range]:
    """Block device range descriptors: inside the medium, not overlapping, together within the stated limit."""
    if length_bytes == 0 or length_bytes % RANGE_BYTES or at + length_bytes > len(raw):
        raise sense.invalid_parameter(at - 2)
    if length_bytes // RANGE_BYTES > tokens.MAX_RANGES:
        raise sense.invalid_parameter(at - 2, asc=sense.TOO_MANY_SEGMENT_DESCRIPTORS)
    block = task.unit.block_bytes
    ranges = []
    for start in range(at, at + length_bytes, RANGE_BYTES):
        lba, blocks = int.from_bytes(raw[start:start + 8], "big"), int.from_bytes(raw[start + 8:start + 12], "big")
        task.check_range(lba, blocks)
        if blocks:
            ranges.append(Range(lba * block, blocks * block))
    ordered = sorted(ranges)
    if any(first.offset_bytes + first.length_bytes > second.offset_bytes
           for first, second in pairwise(ordered)):
        raise sense.invalid_parameter(at)
    if sum(each.length_bytes for each in ranges) > tokens.MAX_TOKEN_BYTES:
        raise sense.invalid_parameter(at + 8)
    return ranges


def _checked_list(task: Task, header: int) -> bytes | None:
    """The parameter list, at least as long as its header and its own length say; None when it is empty."""
    raw = task.parameters()
    if not raw:
        return None
    if len(raw) < header:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if not header <= int.from_bytes(raw[0:2], "big") + 2 <= len(raw):
        raise sense.invalid_parameter(0)
    return raw


# -- POPULATE TOKEN ----------------------------------------------------------------------------------------------------
async def populate_token(task: Task) -> bytes:
    """POPULATE TOKEN: a token for ranges of this unit, point-in-time where the server can freeze the medium."""
    raw = _checked_list(task, POPULATE_HEADER)
    if raw is None:
        return b""
    timeout_s = int.from_bytes(raw[4:8], "big") or tokens.DEFAULT_TIMEOUT_S
    if timeout_s > tokens.MAX_TIMEOUT_S:
        raise sense.invalid_parameter(4)
    wanted = int.from_bytes(raw[8:12], "big") if raw[2] & 0x02 else None
    if wanted not in (None, tokens.POINT_IN_TIME, tokens.ACCESS_UPON_REFERENCE):
        raise sense.invalid_parameter(8)
    ranges = parse_ranges(task, raw, POPULATE_HEADER, int.from_bytes(raw[14:16], "big"))
    frozen = None if wanted == tokens.ACCESS_UPON_REFERENCE else await task.unit.hooks.freeze(task.unit)
    if frozen is None and wanted == tokens.POINT_IN_TIME:
        raise sense.invalid_parameter(8)
    kind = tokens.ACCESS_UPON_REFERENCE if frozen is None else tokens.POINT_IN_TIME
    name = designators.naa(task.unit.identity)
    creator = bytes([extended_copy.IDENTIFICATION_CSCD, 0, 0, 0, 1, 3, 0, len(name)]) + name
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
        ranges = parse_ranges(task, raw, WRITE_HEADER, int.from_bytes(raw[534:536], "big"))
        offset_bytes = int.from_bytes(raw[8:16], "big") * task.unit.block_bytes
        token_bytes = raw[TOKEN_AT:TOKEN_AT + tokens.TOKEN_BYTES]
        if tokens.is_zero_token(token_bytes):
            result.blocks = await _write_zeros(task, ranges)
            result.status = DONE
        else:
            await _write_from(task, find_token(task, token_bytes), offset_bytes, ranges, result)
            if raw[2] & 0x02:
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
        raise sense.invalid_parameter(8)
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
    status = 0 if result.failure is None else 2
    body = bytes([result.action, result.status, 0, 0]) + bytes(4)
    body += bytes([status, len(padded), len(encoded), UNITS_BLOCKS])
    body += result.blocks.to_bytes(8, "big") + b"\x00\x01" + bytes(6) + padded
    described = b"" if result.token is None else bytes(2) + result.token
    body += len(described).to_bytes(4, "big") + described
    return len(body).to_bytes(4, "big") + body


def page_descriptors(unit: LogicalUnit) -> list[tuple[int, bytes]]:
    """The Third-party Copy page's descriptors about tokens (SBC-4 §6.6.8, SPC-4 §7.8.17)."""
    block = unit.block_bytes
    limits = bytes(6) + tokens.MAX_RANGES.to_bytes(2, "big") + tokens.MAX_TIMEOUT_S.to_bytes(4, "big")
    limits += tokens.DEFAULT_TIMEOUT_S.to_bytes(4, "big") + (tokens.MAX_TOKEN_BYTES // block).to_bytes(8, "big")
    limits += ((64 << 20) // block).to_bytes(8, "big")
    lifetime = tokens.MAX_TIMEOUT_S.to_bytes(4, "big")
    features = bytes(12) + tokens.DEFAULT_TIMEOUT_S.to_bytes(4, "big") + lifetime + lifetime + bytes(20)
    kinds = b"".join(kind.to_bytes(4, "big") + bytes([use, 0]) + preference.to_bytes(2, "big") + bytes(56)
                     for kind, use, preference in ((tokens.POINT_IN_TIME, TOKEN_IN | TOKEN_OUT, 1),
                                                   (tokens.ACCESS_UPON_REFERENCE, TOKEN_IN | TOKEN_OUT, 2),
                                                   (tokens.BLOCK_ZERO, TOKEN_IN, 3)))
    return [(0x0000, limits), (0x0106, features), (0x0108, bytes(2) + len(kinds).to_bytes(2, "big") + kinds)]
