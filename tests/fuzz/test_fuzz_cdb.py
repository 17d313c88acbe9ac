"""Any CDB with any data ends in a valid status, valid sense, bounded data-in and an unharmed neighbour; nothing raises."""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from target.scsi import Result, Status
from target.scsi.cdb import Direction
from target.scsi.commands import OPERATIONS
from target.scsi.dispatch import TABLE
from target.scsi.task import VARIABLE_LENGTH, Operation
from tests.support.scsi_memory import MemoryBackend, World, sense_of

SIZE = 64 << 10
EXAMPLES = int(os.environ.get("LUNETTE_FUZZ_EXAMPLES", "400"))
BLOCK_BYTES = st.sampled_from([512, 4096])
INTERNAL = 0x4400
CDB_BYTES = (6, 10, 10, 0, 16, 12, 0, 0)      # by group code, the top 3 bits of the operation code (SPC-4 §4.3.5.1)


@st.composite
def shaped_cdb(draw: st.DrawFn) -> bytes:
    """A CDB of the table whose bits are allowed, its numbers mostly small so that it gets somewhere."""
    operation = draw(st.sampled_from(OPERATIONS))
    cdb = bytearray(len(operation.usage))
    small = draw(st.booleans())
    for index, mask in enumerate(operation.usage[1:], 1):
        tail = index >= len(cdb) - 4 or index in (1, 2)
        cdb[index] = draw(st.integers(0, 255)) & mask if tail or not small else 0
    cdb[0] = operation.opcode
    where = operation.service_action_field
    if where is not None and operation.service_action is not None:
        kept = cdb[where.offset] & 0xE0 if where.size == 1 else 0
        cdb[where.offset:where.offset + where.size] = operation.service_action.to_bytes(where.size, "big")
        cdb[where.offset] |= kept
    if cdb[0] == VARIABLE_LENGTH:
        cdb[7] = len(cdb) - 8
    if draw(st.integers(0, 9)) == 0:
        cdb[draw(st.integers(0, len(cdb) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(cdb)


CDBS = st.one_of(shaped_cdb(), shaped_cdb(), st.binary(max_size=32))
DATA = st.one_of(st.just(b""), st.binary(max_size=600), st.integers(0, 20).map(lambda n: bytes([n]) * (512 * n)))


def operation_of(cdb: bytes) -> Operation | None:
    actions = TABLE.actions(cdb[0]) if cdb else {}
    if None in actions:
        return actions[None]
    for operation in actions.values():
        where = operation.service_action_field
        assert where is not None
        if where.of(cdb) & (0x1F if where.size == 1 else 0xFFFF) == operation.service_action:
            return operation
    return None


def check(cdb: bytes, result: Result) -> None:
    """What holds for every answer."""
    Status(result.status)
    if result.status == Status.CHECK_CONDITION:
        assert result.sense[0] & 0x7F in (0x70, 0x72)
        assert len(result.sense) == result.sense[7] + 8
        assert sense_of(result)[1] != INTERNAL, cdb.hex()
        assert not result.data_in
    else:
        assert not result.sense
    operation = operation_of(cdb)
    if operation is None:
        assert result.status == Status.CHECK_CONDITION
        return
    if operation.direction is not Direction.IN:
        assert not result.data_in
    elif operation.length is not None:
        assert len(result.data_in) <= operation.length.of(cdb)
    assert len(result.data_in) <= max(SIZE, 65536)
    assert result.transfer_bytes >= 0


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(CDBS, DATA, st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=12), BLOCK_BYTES)
def test_any_sequence_of_commands(commands: list[tuple[bytes, bytes, int, int]], block_bytes: int) -> None:
    world = World(MemoryBackend(SIZE, block_bytes), MemoryBackend(SIZE, block_bytes, read_only=True),
                  MemoryBackend(SIZE, block_bytes), nexuses=3)
    outsider = world.nexuses[2]
    world.target.detach(outsider, 2)
    secret = bytes(world.backends[1].data)
    for cdb, data, nexus, lun in commands:
        check(cdb.ljust(16, b"\0"), world.run(cdb, data, nexus=world.nexuses[nexus], lun=lun))
    assert bytes(world.backends[1].data) == secret      # a snapshot never changes
    state = world.unit.state()
    assert type(world.unit)(world.unit.identity, world.backend, state=state).state() == state


def test_random_parameter_lists() -> None:
    """Lists whose length fields lie: mutations of well-formed ones, against every command that takes one."""
    rng = random.Random(20261123)
    takers = [operation for operation in OPERATIONS if operation.direction is Direction.OUT and operation.length]
    for _ in range(EXAMPLES * 5):
        world = World(MemoryBackend(SIZE), nexuses=2)
        operation = rng.choice(takers)
        data = bytearray(rng.choice([0, 4, 8, 16, 24, 44, 76, 200]))
        for _ in range(rng.randrange(12)):
            if data:
                data[rng.randrange(len(data))] = rng.choice([0, 1, 2, 8, 0x0A, 0x10, 0x18, 0x1C, 0xE4, 0xFF])
        cdb = bytearray(operation.usage)
        for index in range(1, len(cdb)):
            cdb[index] &= rng.choice([0, 0, 0x11])
        assert operation.length is not None
        length = rng.choice([len(data), len(data), max(len(data) - 3, 0), 0xFFFF])
        field = operation.length
        cdb[field.offset:field.end] = min(length, (1 << 8 * field.size) - 1).to_bytes(field.size, "big")
        if operation.service_action is not None:
            cdb[1] = operation.service_action
        cdb[0] = operation.opcode
        check(bytes(cdb), world.run(bytes(cdb), bytes(data)))


def test_group_lengths_match_the_table() -> None:
    for operation in OPERATIONS:
        expected = CDB_BYTES[operation.opcode >> 5]
        if operation.opcode != VARIABLE_LENGTH:
            assert len(operation.usage) == expected, operation.name
