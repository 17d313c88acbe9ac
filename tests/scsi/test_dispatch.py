"""The command table, its reports and the checks before a handler runs (SPC-4 §6.35, SAM-5 §5)."""

from __future__ import annotations

import pytest

from target.scsi.cdb import Conflict, Direction, Ready
from target.scsi.commands import OPERATIONS
from target.scsi.dispatch import TABLE
from target.scsi.model import Status
from tests.support.scsi_memory import World, field_pointer, sense_of

SUPPORTED = [operation for operation in OPERATIONS if operation.needs is None]


def report(world: World, option: int, opcode: int = 0, action: int = 0, timeouts: bool = False) -> bytes:
    text = f"a3 0c {option | (0x80 if timeouts else 0):02x} {opcode:02x} {action:04x} 0000ffff 00 00"
    result = world.run(text)
    assert result.status == 0, (text, result.sense.hex())
    return result.data_in


def test_all_commands_are_reported() -> None:
    data = report(World(), 0)
    rows = [data[at:at + 8] for at in range(4, len(data), 8)]
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert [(row[0], int.from_bytes(row[2:4], "big"), row[5] & 1, int.from_bytes(row[6:8], "big")) for row in rows] == [
        (each.opcode, each.service_action or 0, int(each.service_action is not None), len(each.usage))
        for each in TABLE.operations if each.needs is None and each.listed]
    timed = report(World(), 0, timeouts=True)
    assert len(timed) == 4 + 20 * len(rows)
    assert all(timed[at + 5] & 2 and timed[at + 8:at + 10] == b"\0\x0a" for at in range(4, len(timed), 20))


@pytest.mark.parametrize("operation", SUPPORTED, ids=lambda each: each.name)
def test_one_command_is_reported_with_its_usage(operation: object) -> None:
    from target.scsi.task import Operation

    assert isinstance(operation, Operation)
    world, action = World(), operation.service_action
    data = report(world, 1 if action is None else 2, operation.opcode, action or 0, timeouts=True)
    size = int.from_bytes(data[2:4], "big")
    usage = data[4:4 + size]
    assert data[1] == 0x83
    assert usage[0] == operation.opcode
    assert len(data) == 4 + size + 12
    if action is not None:
        assert int.from_bytes(usage[8:10], "big") == action if usage[0] == 0x7F else usage[1] & 0x1F == action
    wrong = 2 if action is None else 1
    assert sense_of(world.run(f"a3 0c {wrong:02x} {operation.opcode:02x} {action or 0:04x} 0000ffff 00 00")) == (5, 0x2400)
    assert report(world, 3, operation.opcode, action or 0)[1] == 0x03


def test_commands_that_do_not_exist() -> None:
    world = World()
    assert report(world, 1, 0xC1)[:2] == b"\0\x01"
    assert report(world, 2, 0x5E, 0x1F)[:2] == b"\0\x01"
    assert report(world, 3, 0x28, 1)[:2] == b"\0\x01"
    assert report(world, 1, 0x9C)[:2] == b"\0\x01"             # WRITE ATOMIC: this backend has none
    for option in (4, 5, 6, 7):
        assert sense_of(world.run(f"a3 0c {option:02x} 28 0000 0000ffff 00 00")) == (5, 0x2400)
    for opcode in set(range(256)) - {each.opcode for each in SUPPORTED}:
        assert sense_of(world.run(bytes([opcode]))) == (5, 0x2000), hex(opcode)
    result = world.run("5e 1f 0000000000 00ff 00")
    assert (sense_of(result), field_pointer(result)) == ((5, 0x2400), (True, 1, 4))


@pytest.mark.parametrize("operation", SUPPORTED, ids=lambda each: each.name)
def test_every_reserved_bit_is_refused(operation: object) -> None:
    from target.scsi.task import Operation

    assert isinstance(operation, Operation)
    world = World()
    base = bytearray(len(operation.usage))
    base[0] = operation.opcode
    where = operation.service_action_field
    covered = set() if where is None else set(range(where.offset, where.offset + where.size))
    if where is not None and operation.service_action is not None:
        base[where.offset:where.offset + where.size] = operation.service_action.to_bytes(where.size, "big")
    for byte in set(range(1, len(base))) - covered:
        for bit in range(8):
            if not operation.usage[byte] >> bit & 1:
                cdb = bytearray(base)
                cdb[byte] |= 1 << bit
                result = world.run(bytes(cdb))
                assert (sense_of(result), field_pointer(result)) == ((5, 0x2400), (True, byte, bit))


def test_the_table_is_sane() -> None:
    for operation in OPERATIONS:
        assert operation.clause, operation.name
        if operation.access.writes:
            assert operation.access.conflict is Conflict.WRITE
            assert operation.access.ready in (Ready.MEDIUM, Ready.ERASE)
        if operation.direction is Direction.IN and operation.length is None:
            assert operation.name.startswith(("READ (", "READ CAPACITY (10)"))


def test_task_management_functions_are_reported() -> None:
    assert World().run("a3 0d 00 000000 000000ff 00 00").data_in == bytes.fromhex("de 07 00 00")
    assert World().run("a3 0d 80 000000 000000ff 00 00").data_in == bytes.fromhex("de 07 00 0c") + bytes(12)
    assert len(World().run("a3 0d 80 000000 000000ff 00 00").data_in) == 16


def test_an_error_in_a_handler_is_an_internal_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def broken(*_: object) -> bytes:
        raise RuntimeError("bug")

    monkeypatch.setattr(world.backend, "read", broken)
    assert sense_of(world.run("28 00 00000000 00 0001 00")) == (4, 0x4400)


def test_a_nexus_that_is_not_open_reaches_nothing() -> None:
    from tests.support.scsi_memory import initiator

    world = World()
    assert sense_of(world.run("28 00 00000000 00 0001 00", nexus=initiator(9))) == (5, 0x2500)
    assert world.run("a0 00 00 000000 00000100 00 00", nexus=initiator(9)).data_in == bytes(8)


def test_what_has_no_memory_is_busy() -> None:
    world = World()
    for kind in ("no_memory", "io_read"):
        world.backend.fail["read"] = kind
        result = world.run("28 00 00000000 00 0001 00")
        assert result.status == (Status.BUSY if kind == "no_memory" else Status.CHECK_CONDITION)
    assert not world.run("28 00 00000000 00 0001 00").status
