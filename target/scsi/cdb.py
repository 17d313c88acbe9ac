"""Words for command descriptor blocks: block ranges, when a command is allowed (SPC-4 §4.3, SBC-4 §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from target.scsi.fields import Field


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
    told: bool = False              # answered, too, by a gateway that only was told of the unit and does not serve it
    relayed: bool = False           # such a gateway has the one answer it that serves the unit
    harmless: Callable[[bytes], bool] | None = None   # CDBs that no reservation of any kind conflicts with all the same


READS = Access(Conflict.READ, Ready.MEDIUM)
WRITES = Access(Conflict.WRITE, Ready.MEDIUM, writes=True)
ERASES = Access(Conflict.WRITE, Ready.ERASE, writes=True)
MEDIUM = Access(Conflict.NEVER, Ready.MEDIUM)
QUERY = Access(Conflict.NEVER, Ready.STANDBY)
INSPECT = Access(Conflict.READ, Ready.STANDBY, told=True)
CONFIGURE = Access(Conflict.WRITE, Ready.STANDBY)
PORTS = Access(Conflict.NEVER, Ready.ANY, told=True)
OWN = Access(Conflict.OWN, Ready.STANDBY)
RESERVE = Access(Conflict.OWN, Ready.STANDBY, relayed=True)
EXEMPT = Access(Conflict.NEVER, Ready.ANY, legacy=True, past_attention=True, told=True)


class BlockRange(NamedTuple):
    """The logical blocks that a CDB names."""

    lba: int
    blocks: int
    lba_byte: int
    blocks_byte: int


# CDB length -> where the logical block address and the transfer length are.
BLOCK_FIELDS = {10: (Field(2, 4), Field(7, 2)), 12: (Field(2, 4), Field(6, 4)), 16: (Field(2, 8), Field(10, 4))}
