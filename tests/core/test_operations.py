"""core/wire/operations.h and the command table of target/scsi know the same operation codes, and mean the same by them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.wire import pdu
from core.wire.reactor import DIRECTIONS
from target.scsi import provisioning, sbc
from target.scsi.cdb import Direction
from target.scsi.commands import OPERATIONS
from target.scsi.task import Operation

HEADER = Path(__file__).parents[2] / "core" / "wire" / "operations.h"
ROW = re.compile(r"^    \[0x(..)\] = \{.*/\* ([^*:]+?)(?::[^*]*)? \*/$", re.MULTILINE)
NAMED = {name: int(code, 16) for code, name in ROW.findall(HEADER.read_text())}
FAST_NONE, FAST_READ, FAST_WRITE, FAST_SYNC, FAST_TUR = range(5)
READ, WRITE, UNMAP, SYNC = range(4)
NONE = 255
# What each handler does to the medium, for those that initiators wait for often enough to be counted.
DOES = {
    sbc.read: READ, sbc.write: WRITE, sbc.write_and_verify: WRITE, sbc.compare_and_write: WRITE, sbc.write_atomic: WRITE,
    provisioning.unmap: UNMAP, provisioning.write_same: UNMAP, sbc.synchronize_cache: SYNC,
}
NACA = 0x04


def by_name(name: str) -> Operation:
    return next(each for each in OPERATIONS if each.name == name)


def test_every_row_is_a_command_of_that_name() -> None:
    rows = pdu.operation_rows()
    assert DIRECTIONS == ("read", "write", "unmap", "sync")
    assert len(NAMED) == len(set(NAMED.values())) == sum(row != (FAST_NONE, NONE, 0) for row in rows) > 15
    assert {name: by_name(name).opcode for name in NAMED} == NAMED


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.service_action is None], ids=lambda each: each.name)
def test_what_a_command_does_to_the_medium(operation: Operation) -> None:
    assert pdu.operation_rows()[operation.opcode][1] == DOES.get(operation.handler, NONE)


def test_codes_with_service_actions_are_none_of_them() -> None:
    assert {pdu.operation_rows()[each.opcode] for each in OPERATIONS if each.service_action is not None} == {(FAST_NONE, NONE, 0)}


@pytest.mark.parametrize("name", [name for name in NAMED if pdu.operation_rows()[NAMED[name]][0] != FAST_NONE])
def test_a_fast_command_takes_the_fields_that_its_usage_data_has(name: str) -> None:
    """All ones in LBA and length, as wide as the command table says, come out; a bit that is Python's sends it there."""
    operation = by_name(name)
    fast, _, slow_bits = pdu.operation_rows()[operation.opcode]
    assert fast == {READ: FAST_READ, WRITE: FAST_WRITE, SYNC: FAST_SYNC, NONE: FAST_TUR}[DOES.get(operation.handler, NONE)]
    assert (operation.direction, fast) in {(Direction.IN, FAST_READ), (Direction.OUT, FAST_WRITE), (Direction.NONE, FAST_SYNC),
                                           (Direction.NONE, FAST_TUR)}
    plain = bytearray(operation.usage.ljust(16, b"\0"))
    if len(operation.usage) > 6:
        plain[1] &= 0x08                    # FUA is all that the fast path knows of that byte
    assert pdu.decode_cdb(bytes(plain)) == expected(operation, fast, bytes(plain))
    for bit in range(8):
        if slow_bits >> bit & 1:
            assert pdu.decode_cdb(bytes([plain[0], plain[1] | 1 << bit, *plain[2:]])) == (FAST_NONE, 0, 0, 0)
    plain[len(operation.usage) - 1] |= NACA
    assert pdu.decode_cdb(bytes(plain)) == (FAST_NONE, 0, 0, 0)


def expected(operation: Operation, fast: int, cdb: bytes) -> tuple[int, int, int, int]:
    """Kind, LBA, blocks, FUA, read from the runs of ff in the usage data: the LBA first, the length last."""
    if fast == FAST_TUR:
        return fast, 0, 0, 0
    if len(operation.usage) == 6:
        return fast, int.from_bytes(cdb[1:4]) & 0x1FFFFF, cdb[4], 0
    fields = [match.span() for match in re.finditer(rb"\xff+", operation.usage)]
    (start, end), (length_start, length_end) = fields[0], fields[-1]
    if len(fields) == 1:                    # they touch each other, as in the commands of 12 and 16 bytes
        width = 8 if len(operation.usage) == 16 else 4
        start, end, length_start, length_end = start, start + width, start + width, end
    return (fast, int.from_bytes(cdb[start:end]), int.from_bytes(cdb[length_start:length_end]),
            cdb[1] >> 3 & 1 if fast in (FAST_READ, FAST_WRITE) else 0)
