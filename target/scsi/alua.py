"""Asymmetric logical unit access: REPORT and SET TARGET PORT GROUPS (SPC-4 §5.11, §6.36, §6.45)."""

from __future__ import annotations

from target.scsi import sense
from target.scsi.target import AccessState
from target.scsi.task import Task

SUPPORTED_STATES = 0x8F    # transitioning, standby, unavailable, non-optimized, optimized
SETTABLE = frozenset({AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED, AccessState.STANDBY,
                      AccessState.UNAVAILABLE})
CHANGED_BY_COMMAND, CHANGED_IMPLICITLY = 1, 2


async def report_target_port_groups(task: Task) -> bytes:
    """REPORT TARGET PORT GROUPS, with or without the extended header."""
    form = task.cdb[1] >> 5
    if form > 1:
        raise sense.invalid_cdb(1, 7)
    body = bytes([0x10, 0, 0, 0]) if form else b""
    for group in task.target.groups():
        ports = [port for port in task.target.ports.values() if port.group == group]
        state, explicit = task.target.group_state(group, task.unit)
        reason = CHANGED_BY_COMMAND if explicit else CHANGED_IMPLICITLY if state else 0
        body += bytes([state, SUPPORTED_STATES]) + group.to_bytes(2, "big") + bytes([0, reason, 0, len(ports)])
        body += b"".join(b"\0\0" + port.relative_id.to_bytes(2, "big") for port in ports)
    return len(body).to_bytes(4, "big") + body


async def set_target_port_groups(task: Task) -> bytes:
    """SET TARGET PORT GROUPS: for this logical unit only; the whole list is checked first."""
    parameters = task.parameters()
    if not parameters:
        return b""
    if len(parameters) < 4 or len(parameters) % 4:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    wanted: dict[int, AccessState] = {}
    for at in range(4, len(parameters), 4):
        group = int.from_bytes(parameters[at + 2:at + 4], "big")
        if group not in task.target.groups():
            raise sense.invalid_parameter(at + 2)
        state = parameters[at] & 0x0F
        if state not in SETTABLE:
            raise sense.invalid_parameter(at, 3)
        if group in task.target.own_groups():
            wanted[group] = AccessState(state)
        elif state != task.target.group_states[group]:      # no initiator moves a pool
            raise sense.invalid_parameter(at, 3)
    if task.unit.standby:
        raise sense.illegal(sense.SET_TARGET_PORT_GROUPS_FAILED)     # who is primary, no initiator decides
    for group, access in wanted.items():
        task.target.set_unit_group_state(group, access, task.unit, task.nexus)
    return b""
