"""Log pages: only what is true of this target (SPC-4 §6.7, §7.3, SBC-4 §6.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from target.scsi import sense
from target.scsi.task import Task
from target.scsi.unit import threshold_exponent

ALL_SUBPAGES = 0xFF
FORMAT_BINARY_LIST = 0x03


class LogPage(NamedTuple):
    name: str
    build: Callable[[Task], list[tuple[int, bytes]]]
    clause: str


def parameter(code: int, value: bytes) -> bytes:
    return code.to_bytes(2, "big") + bytes([FORMAT_BINARY_LIST, len(value)]) + value


def logical_block_provisioning(task: Task) -> list[tuple[int, bytes]]:
    """Available and used LBA mapping resources, in threshold sets (SBC-4 §6.4.5)."""
    space = task.unit.backend.space()
    set_bytes = task.unit.block_bytes << threshold_exponent(task.unit.block_bytes)
    this_unit, pool = 1, 2   # scope: dedicated to this unit, or shared by several
    return [
        (0x0001, _resource(space.available_bytes // set_bytes, pool)),
        (0x0002, _resource(-(-space.mapped_bytes // set_bytes), this_unit)),
    ]


def _resource(count: int, scope: int) -> bytes:
    return min(count, 0xFFFFFFFF).to_bytes(4, "big") + bytes([scope, 0, 0, 0])


def general_statistics(task: Task) -> list[tuple[int, bytes]]:
    """General access statistics and performance, idle time, time interval (SPC-4 §7.3.8)."""
    counts = task.unit.backend.statistics()
    numbers = (counts.read_commands, counts.write_commands, counts.written_blocks, counts.read_blocks,
               counts.read_ms, counts.write_ms, 0, 0)
    performance = b"".join(min(number, (1 << 64) - 1).to_bytes(8, "big") for number in numbers)
    idle = bytes(8)
    interval = (3).to_bytes(4, "big") + (1).to_bytes(4, "big")   # negative exponent and integer: one millisecond
    return [(0x0001, performance), (0x0002, idle), (0x0003, interval)]


def informational_exceptions(task: Task) -> list[tuple[int, bytes]]:
    """No exception is pending; there is no temperature (SPC-4 §7.3.11)."""
    return [(0x0000, bytes([0, 0, 0xFF, 0]))]


PAGES: dict[int, LogPage] = {
    0x0C: LogPage("Logical Block Provisioning", logical_block_provisioning, "SBC-4 §6.4.5"),
    0x19: LogPage("General Statistics and Performance", general_statistics, "SPC-4 §7.3.8"),
    0x2F: LogPage("Informational Exceptions", informational_exceptions, "SPC-4 §7.3.11"),
}


async def log_sense(task: Task) -> bytes:
    """LOG SENSE: cumulative values from a parameter pointer on; nothing is saved."""
    if task.bit(1, 0):
        raise sense.invalid_cdb(1, 0)
    control, code, subcode = task.cdb[2] >> 6, task.cdb[2] & 0x3F, task.cdb[3]
    pointer = task.number(5, 2)
    if control != 1:
        raise sense.invalid_cdb(2, 7)
    if subcode not in (0, ALL_SUBPAGES) or (subcode and code not in (0, 0x3F)):
        raise sense.invalid_cdb(3)
    if code == 0 or subcode:
        return _supported(subcode, task)
    page = PAGES.get(code)
    if page is None:
        raise sense.invalid_cdb(2, 5)
    parameters = [(number, value) for number, value in page.build(task) if number >= pointer]
    if not parameters:
        raise sense.invalid_cdb(5)
    body = b"".join(parameter(number, value) for number, value in parameters)
    return bytes([code, 0]) + len(body).to_bytes(2, "big") + body


def _supported(subcode: int, task: Task) -> bytes:
    """Supported Log Pages, or Supported Log Pages and Subpages."""
    if task.number(5, 2):
        raise sense.invalid_cdb(5)
    codes = [0x00, *sorted(PAGES)]
    if subcode:
        body = b"\x00\x00\x00\xff" + b"".join(bytes([code, 0]) for code in codes[1:])
        return bytes([0x40, subcode]) + len(body).to_bytes(2, "big") + body
    return b"\x00\x00" + len(codes).to_bytes(2, "big") + bytes(codes)
