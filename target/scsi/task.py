"""What a handler is given: the task, the operation that it runs, the table it was found in (SAM-5 §5, SPC-4 §4.3).

This stands above what a task is made of (target, unit, nexus, command) and below every handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from target.scsi import sense
from target.scsi.cdb import BLOCK_FIELDS, Access, BlockRange, Direction
from target.scsi.fields import Field
from target.scsi.model import Command, ITNexus, Status
from target.scsi.target import Target
from target.scsi.unit import LogicalUnit

Handler = Callable[["Task"], Awaitable[bytes]]


VARIABLE_LENGTH = 0x7F           # the operation code of CDBs that say their own length (SPC-4 §4.2.3)


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the command table. `usage` is the CDB usage data: a bit that is 0 there is refused when set."""

    name: str
    usage: bytes
    service_action: int | None
    handler: Handler
    access: Access
    direction: Direction = Direction.NONE
    length: Field | None = None     # allocation length or parameter list length in bytes
    clause: str = ""
    needs: Callable[[LogicalUnit], bool] | None = None   # None: every unit has it
    timeout_s: int = 30
    listed: bool = True             # among "all commands"; common parsers of that list know no CDB above 16 bytes

    @property
    def opcode(self) -> int:
        return self.usage[0]

    @property
    def service_action_field(self) -> Field | None:
        if self.service_action is None:
            return None
        return Field(8, 2) if self.opcode == VARIABLE_LENGTH else Field(1, 1)

    def refused_bit(self, cdb: bytes) -> tuple[int, int] | None:
        """The first byte, and its highest bit, that is set although the usage data has it 0."""
        where = self.service_action_field
        for byte in range(1, len(self.usage)):
            wrong = cdb[byte] & ~self.usage[byte]
            if where is not None and where.offset <= byte < where.offset + where.size:
                wrong &= 0xE0 if where.size == 1 else 0
            if wrong:
                return byte, wrong.bit_length() - 1
        return None


class CommandTable:
    """Operations by operation code and service action."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = sorted(operations, key=lambda each: (each.opcode, each.service_action or 0))
        self._by_opcode: dict[int, dict[int | None, Operation]] = {}
        for operation in self.operations:
            actions = self._by_opcode.setdefault(operation.opcode, {})
            assert operation.service_action not in actions, operation.name
            assert (operation.service_action is None) == (None in actions) or not actions, operation.name
            actions[operation.service_action] = operation

    def actions(self, opcode: int) -> dict[int | None, Operation]:
        """Service action (None: it has none) to operation; empty when the operation code is not supported."""
        return self._by_opcode.get(opcode, {})

    def find(self, cdb: bytes) -> Operation:
        """The operation a CDB names. CheckCondition when there is none, or the CDB is shorter than it must be."""
        actions = self.actions(cdb[0]) if cdb else {}
        if not actions:
            raise sense.illegal(sense.INVALID_COMMAND_OPERATION_CODE)
        if None in actions:
            operation = actions[None]
        else:
            some = next(iter(actions.values()))
            where = some.service_action_field
            assert where is not None
            action = where.of(cdb) & (0xFFFF if where.size == 2 else 0x1F)
            if action not in actions:
                raise sense.invalid_cdb(where.offset, None if where.size == 2 else 4)
            operation = actions[action]
        if len(cdb) < len(operation.usage):
            raise sense.illegal(sense.INVALID_FIELD_IN_CDB)
        return operation


@dataclass(slots=True)
class Task:
    """One command on its way through a handler."""

    target: Target
    nexus: ITNexus
    unit: LogicalUnit
    command: Command
    operation: Operation
    table: CommandTable
    transfer_bytes: int | None = None
    status: Status = Status.GOOD
    cdb: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.cdb = self.command.cdb[:len(self.operation.usage)]

    def number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.cdb[offset:offset + size], "big")

    def bit(self, byte: int, bit: int) -> bool:
        return bool(self.cdb[byte] >> bit & 1)

    # -- logical blocks ----------------------------------------------------------------------------------------
    def block_range(self) -> BlockRange:
        """The logical blocks of a 6, 10, 12 or 16 byte CDB; not yet checked against anything."""
        if len(self.cdb) == 6:
            return BlockRange(self.number(1, 3) & 0x1FFFFF, self.cdb[4] or 256, 1, 4)
        lba, blocks = BLOCK_FIELDS[len(self.cdb)]
        return BlockRange(lba.of(self.cdb), blocks.of(self.cdb), lba.offset, blocks.offset)

    def check_range(self, lba: int, blocks: int) -> None:
        """LOGICAL BLOCK ADDRESS OUT OF RANGE unless the medium has all of these blocks."""
        if lba + blocks > self.unit.size_blocks or lba > self.unit.size_blocks - (1 if blocks else 0):
            raise sense.illegal(sense.LBA_OUT_OF_RANGE)

    def checked_range(self, limit_bytes: int | None = None) -> BlockRange:
        """The block range, within the medium and within a stated limit (None: the maximum transfer length)."""
        wanted_range = self.block_range()
        self.check_range(wanted_range.lba, wanted_range.blocks)
        limit = self.unit.limits.transfer_bytes if limit_bytes is None else limit_bytes
        if wanted_range.blocks > max(limit // self.unit.block_bytes, 1):
            raise sense.invalid_cdb(wanted_range.blocks_byte)
        return wanted_range

    def data_blocks(self, length_bytes: int) -> bytes:
        """Data-out of a command that writes blocks: what arrived of it, in whole blocks.

        An initiator may declare less than the CDB asks for; what it declared is then written and the residual says
        so. A last block that is incomplete is INVALID FIELD IN COMMAND INFORMATION UNIT (SAM-5 §5.8.4).
        """
        self.transfer_bytes = length_bytes
        data = self.command.data_out[:length_bytes]
        if len(data) % self.unit.block_bytes:
            raise sense.illegal(sense.INVALID_INFORMATION_UNIT)
        return bytes(data)

    # -- parameter lists ---------------------------------------------------------------------------------------
    def parameters(self) -> bytes:
        """The parameter list, as long as the CDB says. PARAMETER LIST LENGTH ERROR when less arrived."""
        assert self.operation.length is not None
        length = self.operation.length.of(self.cdb)
        self.transfer_bytes = length
        if length > self.unit.limits.parameter_list_bytes:
            raise sense.invalid_cdb(self.operation.length.offset)
        if len(self.command.data_out) < length:
            raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
        return bytes(self.command.data_out[:length])
