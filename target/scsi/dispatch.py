"""The way in: finds what a CDB asks for, checks that this nexus may ask it now, and runs it (SAM-5 §5)."""

from __future__ import annotations

import logging

from target.scsi import lun as lun_number
from target.scsi import sense
from target.scsi.absent import absent_unit
from target.scsi.backend import BackendError
from target.scsi.cdb import Access, Conflict, Direction, Ready
from target.scsi.commands import OPERATIONS
from target.scsi.model import Command, ITNexus, Result, Status
from target.scsi.sense import ScsiError, Sense, SenseKey
from target.scsi.target import AccessState, Target
from target.scsi.task import CommandTable, Operation, Task
from target.scsi.unit import LogicalUnit

log = logging.getLogger(__name__)

TEST_UNIT_READY, REQUEST_SENSE, INQUIRY, REPORT_LUNS = 0x00, 0x03, 0x12, 0xA0


STATE_SENSE = {
    AccessState.STANDBY: sense.LOGICAL_UNIT_STANDBY, AccessState.UNAVAILABLE: sense.LOGICAL_UNIT_UNAVAILABLE,
    AccessState.OFFLINE: sense.LOGICAL_UNIT_UNAVAILABLE, AccessState.TRANSITIONING: sense.ASYMMETRIC_ACCESS_TRANSITION,
}


TABLE = CommandTable(OPERATIONS)


async def execute(target: Target, nexus: ITNexus, command: Command) -> Result:
    """Run one command to its end. Never raises for anything an initiator can send.

    The caller must have opened `nexus` on `target`; a nexus that is not open reaches no logical unit.
    """
    number = lun_number.decode(command.lun)
    unit = None if number is None else target.luns(nexus).get(number)
    try:
        if unit is None:
            return await _without_unit(target, nexus, command)
        return await _on_unit(target, nexus, unit, command)
    except ScsiError as error:
        return failure(unit, error)


async def execute_relayed(target: Target, nexus: ITNexus, unit: LogicalUnit | None, command: Command) -> Result:
    """Run a command that came to another gateway of the target, which has told unit attentions, and let the nexus to the unit."""
    try:
        if unit is None:
            raise sense.illegal(sense.LOGICAL_UNIT_NOT_SUPPORTED)
        operation = TABLE.find(command.cdb)
        if not operation.access.relayed:
            raise sense.illegal(sense.INVALID_COMMAND_OPERATION_CODE)
        return await _checked(target, nexus, unit, command, operation)
    except ScsiError as error:
        return failure(unit, error)


def failure(unit: LogicalUnit | None, error: ScsiError, transfer_bytes: int = 0) -> Result:
    """An error as the result of a command, its sense in the format the unit is set to."""
    if error.sense is None:
        return Result(error.status, transfer_bytes=transfer_bytes)
    descriptor = unit is not None and unit.mode.descriptor_sense
    return Result(error.status, error.sense.encode(descriptor), transfer_bytes=transfer_bytes)


async def _without_unit(target: Target, nexus: ITNexus, command: Command) -> Result:
    """A LUN that names no unit of this nexus, or the REPORT LUNS well known one (SPC-4 §6.6.1, §6.33, §8.2)."""
    opcode = command.cdb[0] if command.cdb else None
    well_known = command.lun == lun_number.WLUN_REPORT_LUNS
    if opcode in (INQUIRY, REPORT_LUNS, REQUEST_SENSE) or (well_known and opcode == TEST_UNIT_READY):
        operation = TABLE.find(command.cdb)
        refused = operation.refused_bit(command.cdb)
        if refused is not None:
            raise sense.invalid_cdb(*refused)
        return await _run(Task(target, nexus, absent_unit(well_known), command, operation, TABLE))
    raise sense.illegal(sense.INVALID_COMMAND_OPERATION_CODE if well_known else sense.LOGICAL_UNIT_NOT_SUPPORTED)


async def _on_unit(target: Target, nexus: ITNexus, unit: LogicalUnit, command: Command) -> Result:
    operation = TABLE.find(command.cdb)
    access = operation.access
    if operation.needs is not None and not operation.needs(unit):
        raise sense.illegal(sense.INVALID_COMMAND_OPERATION_CODE)
    if not access.past_attention:
        attention = unit.attention.take(nexus)
        if attention is not None:
            raise sense.CheckCondition(attention)
    if target.passive and access.relayed:
        result = await _relayed(unit, nexus, command)
        if result is not None:
            return result
    check_ready(target, nexus, unit, access)
    return await _checked(target, nexus, unit, command, operation)


async def _relayed(unit: LogicalUnit, nexus: ITNexus, command: Command) -> Result | None:
    try:
        return await unit.hooks.relay(unit, nexus, command)
    except BackendError as error:
        raise sense.failed(error) from None


async def _checked(target: Target, nexus: ITNexus, unit: LogicalUnit, command: Command, operation: Operation) -> Result:
    """Run a command for which the port's state is right, if the unit's allows it."""
    access = operation.access
    check_erasure(unit, access)
    check_reservation(unit, nexus, operation, command.cdb)
    refused = operation.refused_bit(command.cdb)
    if refused is not None:
        raise sense.invalid_cdb(*refused)
    if access.writes and unit.write_protected:
        raise sense.CheckCondition(unit.protection_sense())
    return await _run(Task(target, nexus, unit, command, operation, TABLE))


async def _run(task: Task) -> Result:
    """Run the handler; everything that goes wrong in it becomes a status."""
    try:
        data = await task.operation.handler(task)
    except ScsiError as error:
        return failure(task.unit, error, _transfer_bytes(task))
    except BackendError as error:
        return failure(task.unit, sense.failed(error), _transfer_bytes(task))
    except MemoryError:
        log.warning("%s on %s: there is no memory for it now", task.operation.name, task.unit.identity.serial)
        return failure(task.unit, ScsiError(Status.BUSY), _transfer_bytes(task))
    except Exception:
        log.exception("%s on %s failed", task.operation.name, task.unit.identity.serial)
        return failure(task.unit, sense.CheckCondition(sense.INTERNAL_FAILURE), _transfer_bytes(task))
    if task.operation.direction is Direction.IN:
        if task.operation.length is not None:
            data = data[:task.operation.length.of(task.cdb)]
        return Result(task.status, data_in=data, transfer_bytes=len(data))
    return Result(task.status, data_in=data, transfer_bytes=_transfer_bytes(task))


def _transfer_bytes(task: Task) -> int:
    if task.transfer_bytes is not None:
        return task.transfer_bytes
    if task.operation.direction is Direction.OUT and task.operation.length is not None:
        return task.operation.length.of(task.cdb)
    return 0


def check_ready(target: Target, nexus: ITNexus, unit: LogicalUnit, access: Access) -> None:
    """NOT READY when the port group's state, or a stopped unit, does not allow the command.

    A passive target answers what it was told, and nothing else: the unit's state is another gateway's.
    """
    state, ready = target.state_of(nexus, unit), access.ready
    if target.passive:
        if not access.told:
            raise sense.CheckCondition(Sense(SenseKey.NOT_READY, STATE_SENSE.get(state, sense.LOGICAL_UNIT_STANDBY)))
        return
    if ready is Ready.ANY:
        return
    asc = STATE_SENSE.get(state)
    if asc is not None and not (state is AccessState.STANDBY and ready is Ready.STANDBY):
        raise sense.CheckCondition(Sense(SenseKey.NOT_READY, asc))
    if unit.stopped and ready is not Ready.STANDBY:
        raise sense.CheckCondition(Sense(SenseKey.NOT_READY, sense.INITIALIZING_COMMAND_REQUIRED))


def check_erasure(unit: LogicalUnit, access: Access) -> None:
    """Nothing reaches the medium or changes the unit while it is erased; after a sanitize that failed another one does."""
    why = unit.erasure_sense()
    if why is None or access.ready is Ready.ANY or (access.ready is Ready.STANDBY and access.conflict is not Conflict.WRITE):
        return
    if unit.erasure is not None or access.ready is Ready.MEDIUM:
        raise sense.CheckCondition(why)


def check_reservation(unit: LogicalUnit, nexus: ITNexus, operation: Operation, cdb: bytes) -> None:
    """RESERVATION CONFLICT when another nexus's reservation does not allow the command."""
    held = unit.reservations
    if operation.access.conflict is Conflict.OWN:
        return
    if operation.access.harmless is not None and operation.access.harmless(cdb):
        return
    if held.legacy_holder not in (None, nexus) and not operation.access.legacy:
        raise ScsiError(Status.RESERVATION_CONFLICT)
    conflict = operation.access.conflict
    if conflict is Conflict.READ and not held.may_read(nexus):
        raise ScsiError(Status.RESERVATION_CONFLICT)
    if conflict is Conflict.WRITE and not held.may_write(nexus):
        raise ScsiError(Status.RESERVATION_CONFLICT)
