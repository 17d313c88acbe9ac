"""Commands that read, write and verify logical blocks (SBC-4 §5)."""

from __future__ import annotations

from target.scsi import sense
from target.scsi.backend import AtomicBackend, BackendError
from target.scsi.cdb import BlockRange
from target.scsi.sense import CheckCondition, Sense, SenseKey
from target.scsi.task import Task
from target.scsi.unit import LogicalUnit

EXTENTS_AT_ONCE = 256
CHUNK_BYTES = 1 << 20   # how much is in memory at once for commands whose length is not bounded by the transfer length


def durable(task: Task) -> bool:
    """Whether a write must be on stable storage when it is answered: FUA, or no write cache."""
    return task.bit(1, 3) or not task.unit.mode.write_cache_enabled


def miscompare(offset_bytes: int | None = None) -> CheckCondition:
    return CheckCondition(Sense(SenseKey.MISCOMPARE, sense.MISCOMPARE_DURING_VERIFY, information=offset_bytes))


def _bytes(task: Task, wanted_range: BlockRange) -> tuple[int, int]:
    """Offset and length of a range of blocks in bytes."""
    return wanted_range.lba * task.unit.block_bytes, wanted_range.blocks * task.unit.block_bytes


# -- reads and writes ------------------------------------------------------------------------------------------------
async def read(task: Task) -> bytes:
    """READ (6), (10), (12), (16)."""
    offset_bytes, length_bytes = _bytes(task, task.checked_range())
    return await task.unit.backend.read(offset_bytes, length_bytes) if length_bytes else b""


async def write(task: Task) -> bytes:
    """WRITE (6), (10), (12), (16)."""
    offset_bytes, length_bytes = _bytes(task, task.checked_range())
    data = task.data_blocks(length_bytes)
    if data:
        fua = durable(task) if len(task.cdb) > 6 else not task.unit.mode.write_cache_enabled
        await task.unit.backend.write(offset_bytes, data, fua)
    return b""


def has_atomic_writes(unit: LogicalUnit) -> bool:
    """A unit whose backend cannot promise them states no atomic lengths and has no WRITE ATOMIC."""
    return isinstance(unit.backend, AtomicBackend)


def atomic_bytes(unit: LogicalUnit) -> int:
    """MAXIMUM ATOMIC TRANSFER LENGTH in bytes."""
    return min(unit.backend.atomic_bytes, unit.limits.transfer_bytes) if isinstance(unit.backend, AtomicBackend) else 0


async def write_atomic(task: Task) -> bytes:
    """WRITE ATOMIC (16): the transfer length has 2 bytes; whole allocation units only, no atomic boundary."""
    backend = task.unit.backend
    assert isinstance(backend, AtomicBackend)
    wanted_range = BlockRange(task.number(2, 8), task.number(12, 2), 2, 12)
    task.check_range(wanted_range.lba, wanted_range.blocks)
    offset_bytes, length_bytes = _bytes(task, wanted_range)
    if length_bytes > atomic_bytes(task.unit) or length_bytes % task.unit.limits.allocation_unit_bytes:
        raise sense.invalid_cdb(wanted_range.blocks_byte)
    if length_bytes and offset_bytes % task.unit.limits.allocation_unit_bytes:
        raise sense.invalid_cdb(wanted_range.lba_byte)
    data = task.data_blocks(length_bytes)
    if len(data) < length_bytes:
        raise sense.illegal(sense.INVALID_INFORMATION_UNIT)
    if data:
        await backend.write_atomic(offset_bytes, data, durable(task))
    return b""


async def or_write(task: Task) -> bytes:
    """ORWRITE (16): read, or, and write back if nothing changed meanwhile; repeated until nothing did."""
    offset_bytes, length_bytes = _bytes(task, task.checked_range())
    data, fua = task.data_blocks(length_bytes), durable(task)
    step = CHUNK_BYTES
    for start in range(0, len(data), step):
        piece = data[start:start + step]
        while True:
            old = await task.unit.backend.read(offset_bytes + start, len(piece))
            new = (int.from_bytes(old, "big") | int.from_bytes(piece, "big")).to_bytes(len(piece), "big")
            if await task.unit.backend.compare_and_write(offset_bytes + start, old, new, fua) is None:
                break
    return b""


async def compare_and_write(task: Task) -> bytes:
    """COMPARE AND WRITE: the data-out holds what must be there, then what is to be."""
    unit = task.unit
    lba, blocks = task.number(2, 8), task.cdb[13]
    if blocks > max_compare_blocks(unit.limits.compare_and_write_bytes, unit.block_bytes):
        raise sense.invalid_cdb(13)
    task.check_range(lba, blocks)
    length_bytes = blocks * unit.block_bytes
    task.transfer_bytes = 2 * length_bytes
    data = bytes(task.command.data_out)
    declared = len(data) if task.command.expected_bytes is None else task.command.expected_bytes
    if len(data) != 2 * length_bytes or declared != 2 * length_bytes:
        raise sense.invalid_cdb(13)
    if blocks:
        offset_bytes = lba * unit.block_bytes
        first = await unit.backend.compare_and_write(offset_bytes, data[:length_bytes], data[length_bytes:], durable(task))
        if first is not None:
            raise miscompare(first)
    return b""


def max_compare_blocks(limit_bytes: int, block_bytes: int) -> int:
    """MAXIMUM COMPARE AND WRITE LENGTH: it has one byte."""
    return min(limit_bytes // block_bytes, 255)


# -- verification ----------------------------------------------------------------------------------------------------
async def verify(task: Task) -> bytes:
    """VERIFY (10), (12), (16), with BYTCHK 00b (readable), 01b (equal) and 11b (equal to one block)."""
    check = task.cdb[1] >> 1 & 3
    if check == 2:
        raise sense.invalid_cdb(1, 2)
    offset_bytes, length_bytes = _bytes(task, task.checked_range(None if check == 1 else task.unit.limits.verify_bytes))
    if check == 0:
        task.transfer_bytes = 0
        await _verify_readable(task, offset_bytes, length_bytes)
        return b""
    wanted = length_bytes if check == 1 else min(length_bytes, task.unit.block_bytes)
    data = task.data_blocks(wanted)
    if len(data) < wanted:
        raise sense.illegal(sense.INVALID_INFORMATION_UNIT)
    if data:
        await _verify_equal(task, offset_bytes, length_bytes, data)
    return b""


async def _verify_readable(task: Task, offset_bytes: int, length_bytes: int) -> None:
    """Read what is mapped; what is not reads as zeros without the medium."""
    at, end = offset_bytes, offset_bytes + length_bytes
    while at < end:
        before = at
        for run in await task.unit.backend.extents(at, end - at, EXTENTS_AT_ONCE):
            stop = min(run.offset_bytes + run.length_bytes, end)
            while at < stop:
                size = min(CHUNK_BYTES, stop - at) if run.mapped else stop - at
                if run.mapped:
                    await task.unit.backend.read(at, size)
                at += size
        if at == before:
            raise BackendError("invalid", "extents that do not cover the range")


async def _verify_equal(task: Task, offset_bytes: int, length_bytes: int, data: bytes) -> None:
    """Compare the medium with `data`, or with its repetition when the range is longer."""
    for start in range(0, length_bytes, CHUNK_BYTES):
        size = min(CHUNK_BYTES, length_bytes - start)
        wanted = data[start:start + size] if len(data) == length_bytes else data * (size // len(data))
        if await task.unit.backend.read(offset_bytes + start, size) != wanted:
            raise miscompare()


async def write_and_verify(task: Task) -> bytes:
    """WRITE AND VERIFY (10), (12), (16), with BYTCHK 00b and 01b: durable, then read back."""
    check = task.cdb[1] >> 1 & 3
    if check > 1:
        raise sense.invalid_cdb(1, 2)
    offset_bytes, length_bytes = _bytes(task, task.checked_range())
    data = task.data_blocks(length_bytes)
    if data:
        await task.unit.backend.write(offset_bytes, data, True)
        if check:
            await _verify_equal(task, offset_bytes, len(data), data)
        else:
            await _verify_readable(task, offset_bytes, len(data))
    return b""


# -- caches ----------------------------------------------------------------------------------------------------------
async def prefetch(task: Task) -> bytes:
    """PRE-FETCH (10), (16): nothing is kept, so GOOD ("not all of it fits") is the true answer."""
    wanted_range = task.block_range()
    task.check_range(wanted_range.lba, wanted_range.blocks)
    return b""


async def synchronize_cache(task: Task) -> bytes:
    """SYNCHRONIZE CACHE (10), (16). IMMED only allows an earlier answer; it is given when the data is safe."""
    wanted_range = task.block_range()
    task.check_range(wanted_range.lba, wanted_range.blocks)
    await task.unit.backend.flush()
    return b""


# -- the unit as a disk ----------------------------------------------------------------------------------------------
async def test_unit_ready(task: Task) -> bytes:
    """TEST UNIT READY: the dispatcher has checked all there is to check."""
    return b""


async def start_stop_unit(task: Task) -> bytes:
    """START STOP UNIT: a stopped unit flushes and answers medium access with NOT READY until it is started."""
    power_condition, eject, start = task.cdb[4] >> 4, task.bit(4, 1), task.bit(4, 0)
    if power_condition:
        raise sense.invalid_cdb(4, 7)
    if eject:
        raise sense.invalid_cdb(4, 1)
    if not start and not task.bit(4, 2):
        await task.unit.backend.flush()
    task.unit.stopped = not start
    task.unit.gate_check()
    return b""


async def prevent_allow(task: Task) -> bytes:
    """PREVENT ALLOW MEDIUM REMOVAL: this medium cannot be removed, so only allowing is possible."""
    if task.cdb[4] & 3:
        raise sense.invalid_cdb(4, 1)
    return b""


async def read_capacity_10(task: Task) -> bytes:
    unit = task.unit
    last = min(unit.size_blocks - 1, 0xFFFFFFFF)
    return last.to_bytes(4, "big") + unit.block_bytes.to_bytes(4, "big")


def physical_exponent(physical_bytes: int, block_bytes: int) -> int:
    """LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT."""
    return max(physical_bytes // block_bytes, 1).bit_length() - 1


async def read_capacity_16(task: Task) -> bytes:
    unit = task.unit
    out = bytearray(32)
    out[0:8] = (unit.size_blocks - 1).to_bytes(8, "big")
    out[8:12] = unit.block_bytes.to_bytes(4, "big")
    out[13] = physical_exponent(unit.backend.physical_block_bytes, unit.block_bytes)
    out[14] = 0xC0   # LBPME, LBPRZ
    return bytes(out)


async def read_defect_data_10(task: Task) -> bytes:
    """READ DEFECT DATA (10): both lists exist and are empty."""
    return bytes([0, task.cdb[2] & 0x1F, 0, 0])


async def read_defect_data_12(task: Task) -> bytes:
    return bytes([0, task.cdb[1] & 0x1F, 0, 0, 0, 0, 0, 0])
