"""Command descriptor blocks: what the command table says of each, field access, checks (SPC-4 §4.3, SBC-4 §5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from target.scsi import sense
from target.scsi.model import Command, ITNexus, Status

if TYPE_CHECKING:
    from target.scsi.dispatch import CommandTable
    from target.scsi.target import Target
    from target.scsi.unit import LogicalUnit


class Direction(Enum):
    NONE = auto()
    IN = auto()
    OUT = auto()


class Conflict(Enum):
    """How a command fares under another nexus's reservation (SPC-4 table 65, SBC-4 table 14)."""

    NEVER = auto()   # allowed whatever is reserved
    READ = auto()    # allowed under write exclusive types
    WRITE = auto()   # conflicts for whoever may not write
    OWN = auto()     # the handler decides


class Ready(Enum):
    """What state the unit and the port's access state must be in (SPC-4 §5.11.2)."""

    ANY = auto()       # answered in every state
    STANDBY = auto()   # answered in standby, and when stopped
    MEDIUM = auto()    # needs the medium
    ERASE = auto()     # needs the medium, but not what is on it: allowed after a sanitize that failed


@dataclass(frozen=True, slots=True)
class Access:
    """When a command is allowed."""

    conflict: Conflict
    ready: Ready = Ready.STANDBY
    writes: bool = False            # refused on a write-protected medium
    legacy: bool = False            # allowed under another nexus's SPC-2 reservation
    past_attention: bool = False    # answered without reporting a pending unit attention
    harmless: Callable[[bytes], bool] | None = None   # CDBs that no persistent reservation conflicts with all the same


READS = Access(Conflict.READ, Ready.MEDIUM)
WRITES = Access(Conflict.WRITE, Ready.MEDIUM, writes=True)
ERASES = Access(Conflict.WRITE, Ready.ERASE, writes=True)
MEDIUM = Access(Conflict.NEVER, Ready.MEDIUM)
QUERY = Access(Conflict.NEVER, Ready.STANDBY)
INSPECT = Access(Conflict.READ, Ready.STANDBY)
CONFIGURE = Access(Conflict.WRITE, Ready.STANDBY)
PORTS = Access(Conflict.NEVER, Ready.ANY)
OWN = Access(Conflict.OWN, Ready.STANDBY)
EXEMPT = Access(Conflict.NEVER, Ready.ANY, legacy=True, past_attention=True)

Handler = Callable[["Task"], Awaitable[bytes]]


class Field(NamedTuple):
    """A big-endian number in a CDB."""

    offset: int
    size: int

    def of(self, cdb: bytes) -> int:
        return int.from_bytes(cdb[self.offset:self.offset + self.size], "big")


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
        return Field(8, 2) if self.opcode == 0x7F else Field(1, 1)

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


class Extent(NamedTuple):
    """The logical blocks that a CDB names."""

    lba: int
    blocks: int
    lba_byte: int
    blocks_byte: int


# CDB length -> where the logical block address and the transfer length are.
_BLOCK_FIELDS = {10: (Field(2, 4), Field(7, 2)), 12: (Field(2, 4), Field(6, 4)), 16: (Field(2, 8), Field(10, 4))}


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
    def extent(self) -> Extent:
        """The logical blocks of a 6, 10, 12 or 16 byte CDB; not yet checked against anything."""
        if len(self.cdb) == 6:
            return Extent(self.number(1, 3) & 0x1FFFFF, self.cdb[4] or 256, 1, 4)
        lba, blocks = _BLOCK_FIELDS[len(self.cdb)]
        return Extent(lba.of(self.cdb), blocks.of(self.cdb), lba.offset, blocks.offset)

    def check_range(self, lba: int, blocks: int) -> None:
        """LOGICAL BLOCK ADDRESS OUT OF RANGE unless the medium has all of these blocks."""
        if lba + blocks > self.unit.size_blocks or lba > self.unit.size_blocks - (1 if blocks else 0):
            raise sense.illegal(sense.LBA_OUT_OF_RANGE)

    def checked_extent(self, limit_bytes: int | None = None) -> Extent:
        """The extent, within the medium and within a stated limit (None: the maximum transfer length)."""
        extent = self.extent()
        self.check_range(extent.lba, extent.blocks)
        limit = self.unit.limits.transfer if limit_bytes is None else limit_bytes
        if extent.blocks > max(limit // self.unit.block_bytes, 1):
            raise sense.invalid_cdb(extent.blocks_byte)
        return extent

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
        if length > self.unit.limits.parameter_list:
            raise sense.invalid_cdb(self.operation.length.offset)
        if len(self.command.data_out) < length:
            raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
        return bytes(self.command.data_out[:length])
