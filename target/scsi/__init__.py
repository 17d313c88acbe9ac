"""Pure SCSI command semantics: CDB, nexus and logical unit in; status, sense and data out (SAM-5, SPC-4, SBC-4).

For the server:

- `BlockBackend` is what a volume or snapshot must be able to do; failures are `BackendError(code)`, the codes those
  of `sense.CODE_SENSE` (the pool's status names).
- `LogicalUnit(Identity(serial, kind), backend, hooks=UnitHooks(), state=b"")` is one object served, made once and
  shared by all who see it. `hooks.persist` gets bytes to keep; they come back as `state` at the next start.
- `Target(name, ports)` holds the LUN map of each `ITNexus`: `open_nexus` at login, `close_nexus` when the session
  ends, `attach` and `detach` while it is open. Isolation is this map: a command reaches nothing that is not in it.
- `await execute(target, nexus, Command(lun, cdb, data_out, expected_bytes))` gives `Result(status, sense, data_in,
  transfer_bytes)`. Any event loop; it awaits only the backend and the hooks.
- `hooks.gate_changed(unit, nexus, gate)` says when the native path must ask (see `Gate`, `SLOW_READS`, `SLOW_WRITES`);
  `unit.gate(nexus)` and `unit.needs_slow_path(nexus)` answer the same at any time.
- Events: `unit.capacity_changed`, `.medium_changed` (revert), `.inquiry_changed`, `.threshold_reached`, `.reset` (LUN
  reset), `target.reset`, `target.set_group_state`; now and then `expire_tokens(target, now_s)`.

This package performs no I/O and imports neither core nor target.iscsi.
"""

from target.scsi.backend import BackendError, BlockBackend, Extent, Space
from target.scsi.copy.offload import expire as expire_tokens
from target.scsi.dispatch import execute, execute_relayed
from target.scsi.model import (
    SLOW_READS,
    SLOW_WRITES,
    Command,
    Gate,
    Identity,
    IOStatistics,
    ITNexus,
    Limits,
    Result,
    Status,
    TaskAttribute,
)
from target.scsi.target import MEDIUM_STATES, AccessState, Target, TargetPort
from target.scsi.unit import LogicalUnit, UnitHooks
from target.scsi.unit_attention import UnitAttention

__all__ = [
    "MEDIUM_STATES", "SLOW_READS", "SLOW_WRITES", "AccessState", "BackendError", "BlockBackend", "Command", "Extent", "Gate",
    "IOStatistics", "ITNexus", "Identity", "Limits", "LogicalUnit", "Result", "Space", "Status", "Target",
    "TargetPort", "TaskAttribute", "UnitAttention", "UnitHooks", "execute",
    "execute_relayed", "expire_tokens",
]
