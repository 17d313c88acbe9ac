"""Commands that read, write and verify logical blocks (SBC-4 §5)."""

from __future__ import annotations

from target.scsi import sense
from target.scsi.backend import AtomicBackend, BackendError
from target.scsi.cdb import Extent
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


def _bytes(task: Task, extent: Extent) -> tuple[int, int]:
    """Offset and length of an extent in bytes."""
    return extent.lba * task.unit.block_bytes, extent.blocks * task.unit.block_bytes


# -- reads and writes ------------------------------------------------------------------------------------------------
async def read(task: Task) -> bytes:
    """READ (6), (10), (12), (16)."""
    offset, length = _bytes(task, task.checked_extent())
    return await task.unit.backend.read(offset, length) if length else b""


async def write(task: Task) -> bytes:
    """WRITE (6), (10), (12), (16)."""
    offset, length = _bytes(task, task.checked_extent())
    data = task.data_blocks(length)
    if data:
        fua = durable(task) if len(task.cdb) > 6 else not task.unit.mode.write_cache_enabled
        await task.unit.backend.write(offset, data, fua)
    return b""


def has_atomic_writes(unit: LogicalUnit) -> bool:
    """A unit whose backend cannot promise them states no atomic lengths and has no WRITE ATOMIC."""
    return isinstance(unit.backend, AtomicBackend)


def atomic_bytes(unit: LogicalUnit) -> int:
    """MAXIMUM ATOMIC TRANSFER LENGTH in bytes."""
    return min(unit.backend.atomic_bytes, unit.limits.transfer) if isinstance(unit.backend, AtomicBackend) else 0


async def write_atomic(task: Task) -> bytes:
    """WRITE ATOMIC (16): the transfer length has 2 bytes; whole allocation units only, no atomic boundary."""
    backend = task.unit.backend
    assert isinstance(backend, AtomicBackend)
    extent = Extent(task.number(2, 8), task.number(12, 2), 2, 12)
    task.check_range(extent.lba, extent.blocks)
    offset, length = _bytes(task, extent)
    if length > atomic_bytes(task.unit) or length % task.unit.limits.grain:
        raise sense.invalid_cdb(extent.blocks_byte)
    if length and offset % task.unit.limits.grain:
        raise sense.invalid_cdb(extent.lba_byte)
    data = task.data_blocks(length)
    if len(data) < length:
        raise sense.illegal(sense.INVALID_INFORMATION_UNIT)
    if data:
        await backend.write_atomic(offset, data, durable(task))
    return b""


async def or_write(task: Task) -> bytes:
    """ORWRITE (16): read, or, and write back if nothing changed meanwhile; repeated until nothing did."""
    offset, length = _bytes(task, task.checked_extent())
    data, fua = task.data_blocks(length), durable(task)
    step = CHUNK_BYTES
    for start in range(0, len(data), step):
        piece = data[start:start + step]
        while True:
            old = await task.unit.backend.read(offset + start, len(piece))
            new = (int.from_bytes(old, "big") | int.from_bytes(piece, "big")).to_bytes(len(piece), "big")
            if await task.unit.backend.compare_and_write(offset + start, old, new, fua) is None:
                break
    return b""


async def compare_and_write(task: Task) -> bytes:
    """COMPARE AND WRITE: the data-out holds what must be there, then what is to be."""
    unit = task.unit
    lba, blocks = task.number(2, 8), task.cdb[13]
    if blocks > max_compare_blocks(unit.limits.compare_and_write, unit.block_bytes):
        raise sense.invalid_cdb(13)
    task.check_range(lba, blocks)
    length = blocks * unit.block_bytes
    task.transfer_bytes = 2 * length
    data = bytes(task.command.data_out)
    declared = len(data) if task.command.expected_bytes is None else task.command.expected_bytes
    if len(data) != 2 * length or declared != 2 * length:
        raise sense.invalid_cdb(13)
    if blocks:
        offset = lba * unit.block_bytes
        first = await unit.backend.compare_and_write(offset, data[:length], data[length:], durable(task))
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
    offset, length = _bytes(task, task.checked_extent(None if check == 1 else task.unit.limits.verify))
    if check == 0:
        task.transfer_bytes = 0
        await _verify_readable(task, offset, length)
        return b""
    wanted = length if check == 1 else min(length, task.unit.block_bytes)
    data = task.data_blocks(wanted)
    if len(data) < wanted:
        raise sense.illegal(sense.INVALID_INFORMATION_UNIT)
    if data:
        await _verify_equal(task, offset, length, data)
    return b""


async def _verify_readable(task: Task, offset: int, length: int) -> None:
    """Read what is mapped; what is not reads as zeros without the medium."""
    at, end = offset, offset + length
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


async def _verify_equal(task: Task, offset: int, length: int, data: bytes) -> None:
    """Compare the medium with `data`, or with its repetition when the range is longer."""
    for start in range(0, length, CHUNK_BYTES):
        size = min(CHUNK_BYTES, length - start)
        wanted = data[start:start + size] if len(data) == length else data * (size // len(data))
        if await task.unit.backend.read(offset + start, size) != wanted:
            raise miscompare()


async def write_and_verify(task: Task) -> bytes:
    """WRITE AND VERIFY (10), (12), (16), with BYTCHK 00b and 01b: durable, then read back."""
    check = task.cdb[1] >> 1 & 3
    if check > 1:
        raise sense.invalid_cdb(1, 2)
    offset, length = _bytes(task, task.checked_extent())
    data = task.data_blocks(length)
    if data:
        await task.unit.backend.write(offset, data, True)
        if check:
            await _verify_equal(task, offset, len(data), data)
        else:
            await _verify_readable(task, offset, len(data))
    return b""


# -- caches ----------------------------------------------------------------------------------------------------------
async def prefetch(task: Task) -> bytes:
    """PRE-FETCH (10), (16): nothing is kept, so GOOD ("not all of it fits") is the true answer."""
    extent = task.extent()
    task.check_range(extent.lba, extent.blocks)
    return b""


async def synchronize_cache(task: Task) -> bytes:
    """SYNCHRONIZE CACHE (10), (16). IMMED only allows an earlier answer; it is given when the data is safe."""
    extent = task.extent()
    task.check_range(extent.lba, extent.blocks)
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
