"""FORMAT UNIT and SANITIZE: the whole medium at once, with progress, in the background when asked (SBC-4 §4.11, §5.4, §5.30).

There is no OVERWRITE: what is written to thin, redirected blocks does not pass over what was there.
"""

from __future__ import annotations

from target.scsi import sense
from target.scsi.backend import BackendError
from target.scsi.copy import offload
from target.scsi.sense import CheckCondition, Sense, SenseKey
from target.scsi.target import Target
from target.scsi.task import Task
from target.scsi.unit import Erasure, LogicalUnit

STEPS = 256                  # of progress; a step deallocates at least this much:
MIN_STEP_BYTES = 1 << 30
SHORT_HEADER, LONG_HEADER = 4, 8
IMMED, AUSE = 7, 5           # bits of SANITIZE's second byte


# -- doing it ----------------------------------------------------------------------------------------------------------
async def _deallocate(target: Target, unit: LogicalUnit, erasure: Erasure) -> None:
    await unit.hooks.quiesce(unit)        # what began before must not land behind us
    if erasure.sanitize:
        await offload.revoke(target, unit)
    size = unit.backend.size_bytes
    step = max(size // STEPS & -MIN_STEP_BYTES, MIN_STEP_BYTES)
    for at in range(0, size, step):
        erasure.progress = 0x10000 * at // size
        await unit.backend.unmap(at, min(step, size - at), False, False)
    await unit.backend.flush()


async def _run(target: Target, unit: LogicalUnit, erasure: Erasure) -> None:
    """Do the work; the unit is ready again afterwards, or says that its sanitize failed."""
    failed = True
    try:
        await _deallocate(target, unit, erasure)
        failed = False
    finally:
        unit.erasure_ended(failed)
    if erasure.sanitize:
        await unit.persist()


async def _background(target: Target, unit: LogicalUnit, erasure: Erasure) -> None:
    try:
        await _run(target, unit, erasure)
    except BackendError as error:
        unit.deferred = sense.from_backend(error)


async def _begin(task: Task, erasure: Erasure, immediate: bool) -> None:
    """From here on nobody reads or writes until it has ended. A sanitize that power loss cuts short is a failed one."""
    unit = task.unit
    unit.erasure_began(erasure)
    if erasure.sanitize:
        try:
            await unit.persist()
        except BackendError:
            unit.erasure_ended(failed=False)
            raise
    if immediate:
        await unit.hooks.background(_background(task.target, unit, erasure))
        return
    try:
        await _run(task.target, unit, erasure)
    except BackendError as error:
        if erasure.sanitize:
            raise CheckCondition(Sense(SenseKey.MEDIUM_ERROR, sense.SANITIZE_FAILED)) from error
        raise


# -- FORMAT UNIT -------------------------------------------------------------------------------------------------------
async def format_unit(task: Task) -> bytes:
    """FORMAT UNIT: deallocates everything. No defect lists, protection information or initialization patterns."""
    with_data, long_list = task.bit(1, 4), task.bit(1, 5)
    if not with_data and (long_list or task.bit(1, 3)):
        raise sense.invalid_cdb(1, 5 if long_list else 3)
    if task.cdb[4] & 3 == 3:
        raise sense.invalid_cdb(4, 1)
    immediate = with_data and _format_list(task, LONG_HEADER if long_list else SHORT_HEADER)
    erasure = Erasure(sense.FORMAT_IN_PROGRESS)
    await _begin(task, erasure, immediate)
    return b""


def _format_list(task: Task, header: int) -> bool:
    """Check a parameter list; its IMMED bit."""
    raw = bytes(task.command.data_out[:header])
    task.transfer_bytes = header
    if len(raw) < header:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if raw[0] & 0x07:
        raise sense.invalid_parameter(0, 2)
    if raw[1] & 0x0D or (raw[1] & 0x70 and not raw[1] & 0x80):   # IP, DSP, VS; options that are not valid without FOV
        raise sense.invalid_parameter(1, 6 if raw[1] & 0x70 else 3)
    defects = header - 4 if header == LONG_HEADER else header - 2
    if any(raw[defects:header]):
        raise sense.invalid_parameter(defects)
    return bool(raw[1] & 0x02)


# -- SANITIZE ----------------------------------------------------------------------------------------------------------
async def block_erase(task: Task) -> bytes:
    """SANITIZE, BLOCK ERASE: every block is deallocated. Snapshots and clones are other units: they keep what they have."""
    erasure = Erasure(sense.SANITIZE_IN_PROGRESS, sanitize=True, may_exit_failure=task.bit(1, AUSE))
    await _begin(task, erasure, task.bit(1, IMMED))
    return b""


async def exit_failure_mode(task: Task) -> bytes:
    """SANITIZE, EXIT FAILURE MODE: only after a sanitize that allowed it (AUSE)."""
    unit = task.unit
    if unit.sanitize_failed:
        if not unit.may_exit_failure:
            raise sense.invalid_cdb(1, 4)
        unit.sanitize_failed = False
        unit.gate_check()
        await unit.persist()
    return b""
