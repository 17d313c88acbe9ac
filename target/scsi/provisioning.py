"""Thin provisioning commands: UNMAP, WRITE SAME, GET LBA STATUS (SBC-4 §4.7, §5)."""

from __future__ import annotations

import struct

from target.scsi import sense
from target.scsi.backend import Extent
from target.scsi.sbc import CHUNK_BYTES
from target.scsi.task import Task

UNMAP_HEADER, UNMAP_DESCRIPTOR, STATUS_DESCRIPTOR = 8, 16, 16
DESCRIPTOR = struct.Struct(">QI4x")     # of an UNMAP parameter list: LBA, number of blocks
MAX_STATUS_DESCRIPTORS = 1024
MAPPED, DEALLOCATED = 0, 1


def _write_through(task: Task) -> bool:
    return not task.unit.mode.write_cache_enabled


async def unmap(task: Task) -> bytes:
    """UNMAP: the whole list is checked before anything is done."""
    rows = joined(unmap_list(task, task.parameters()))
    block = task.unit.block_bytes
    await task.unit.backend.unmap_ranges([(lba * block, blocks * block) for lba, blocks in rows], _write_through(task))
    return b""


def joined(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same blocks in order, with what overlaps or touches as one."""
    rows: list[tuple[int, int]] = []
    for lba, blocks in sorted(pair for pair in pairs if pair[1]):
        if rows and lba <= sum(rows[-1]):
            rows[-1] = rows[-1][0], max(sum(rows[-1]), lba + blocks) - rows[-1][0]
        else:
            rows.append((lba, blocks))
    return rows


def unmap_list(task: Task, parameters: bytes) -> list[tuple[int, int]]:
    """The (LBA, blocks) pairs of an UNMAP parameter list, all inside the medium (SBC-4 §5.36.2)."""
    if not parameters:
        return []
    if len(parameters) < UNMAP_HEADER:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    described = int.from_bytes(parameters[2:4], "big")
    if described > len(parameters) - UNMAP_HEADER:
        raise sense.invalid_parameter(2)
    if int.from_bytes(parameters[0:2], "big") + 2 < described + UNMAP_HEADER:
        raise sense.invalid_parameter(0)
    count = described // UNMAP_DESCRIPTOR
    if count > task.unit.limits.unmap_descriptors:
        raise sense.invalid_parameter(2)
    pairs = list(DESCRIPTOR.iter_unpack(parameters[UNMAP_HEADER:UNMAP_HEADER + count * UNMAP_DESCRIPTOR]))
    for lba, blocks in pairs:
        task.check_range(lba, blocks)
    if sum(blocks for _, blocks in pairs) > task.unit.limits.unmap_blocks:
        raise sense.invalid_parameter(UNMAP_HEADER + 8)
    return pairs


async def write_same(task: Task) -> bytes:
    """WRITE SAME (10), (16): UNMAP, NDOB, a transfer length of 0 that means "to the end".

    UNMAP deallocates whatever the block holds, as initiators expect of it; the range reads as zeros then.
    """
    unit, wanted_range = task.unit, task.block_range()
    if wanted_range.lba > unit.size_blocks - (1 if wanted_range.blocks else 0):
        raise sense.illegal(sense.LBA_OUT_OF_RANGE)
    blocks = wanted_range.blocks or unit.size_blocks - wanted_range.lba
    task.check_range(wanted_range.lba, blocks)
    if blocks > unit.limits.write_same_bytes // unit.block_bytes:
        raise sense.invalid_cdb(wanted_range.blocks_byte)
    offset_bytes, length_bytes = wanted_range.lba * unit.block_bytes, blocks * unit.block_bytes
    pattern, deallocate = _pattern(task), task.bit(1, 3)
    if deallocate or not any(pattern):
        if length_bytes:
            await unit.backend.unmap(offset_bytes, length_bytes, _write_through(task), not deallocate)
        return b""
    filler = pattern * (min(length_bytes, CHUNK_BYTES) // len(pattern))
    for start in range(0, length_bytes, len(filler)):
        piece = filler[:length_bytes - start]
        await unit.backend.write(offset_bytes + start, piece, _write_through(task))
    return b""


def _pattern(task: Task) -> bytes:
    """The block to write. With NDOB, or UNMAP and no data at all, it is zeros."""
    block, data = task.unit.block_bytes, bytes(task.command.data_out)
    no_data = len(task.cdb) == 16 and task.bit(1, 0)
    declared = len(data) if task.command.expected_bytes is None else task.command.expected_bytes
    if no_data or (task.bit(1, 3) and declared == 0):
        task.transfer_bytes = 0
        return bytes(block)
    task.transfer_bytes = block
    if len(data) != block or declared != block:
        raise sense.illegal(sense.INVALID_INFORMATION_UNIT)
    return data


async def get_lba_status_16(task: Task) -> bytes:
    return await _lba_status(task, task.number(2, 8), task.number(10, 4), None)


async def get_lba_status_32(task: Task) -> bytes:
    """GET LBA STATUS (32): the 16-byte one with a scan length."""
    if task.cdb[7] != len(task.cdb) - 8:
        raise sense.invalid_cdb(7)
    return await _lba_status(task, task.number(12, 8), task.number(28, 4), task.number(20, 4) or None)


async def _lba_status(task: Task, lba: int, allocation: int, scan_blocks: int | None) -> bytes:
    """Descriptors from `lba` on, as many as fit; at least one is looked up whatever the allocation length."""
    unit = task.unit
    task.check_range(lba, 1)
    blocks = unit.size_blocks - lba
    if scan_blocks is not None:
        blocks = min(blocks, scan_blocks)
    room = min(max((allocation - 8) // STATUS_DESCRIPTOR, 1), MAX_STATUS_DESCRIPTORS)
    runs = await unit.backend.extents(lba * unit.block_bytes, blocks * unit.block_bytes, room)
    body = b"".join(_status_descriptors(runs[:room], lba, unit.block_bytes))[:room * STATUS_DESCRIPTOR]
    return (len(body) + 4).to_bytes(4, "big") + bytes(4) + body


def _status_descriptors(runs: list[Extent], first: int, block: int) -> list[bytes]:
    """The runs as descriptors from block `first` on: a run may begin before it, at the allocation unit's start."""
    out = []
    for run in runs:
        lba = max(run.offset_bytes // block, first)
        left = max((run.offset_bytes + run.length_bytes) // block - lba, 0)
        while left:
            blocks = min(left, 0xFFFFFFFF)
            status = MAPPED if run.mapped else DEALLOCATED
            out.append(lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes([status, 0, 0, 0]))
            lba, left = lba + blocks, left - blocks
    return out
