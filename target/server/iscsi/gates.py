"""Gates of the SCSI layer as the data plane's flag words: what of a LUN it may decide alone (docs/concurrency.md)."""

from __future__ import annotations

from target.scsi import Gate, LogicalUnit
from target.server.iscsi.dataplane import LUNF_DSENSE, LUNF_RO, LUNF_SLOW, LUNF_WRITE_SLOW


def lun_flags(unit: LogicalUnit, gate: Gate, *, fenced: bool) -> int:
    """The data plane's flag word for a gate of the SCSI layer. `fenced`: everything comes to the control plane."""
    flags = LUNF_SLOW if fenced else 0
    if gate & (Gate.ATTENTION | Gate.RESERVED | Gate.NOT_READY):
        flags |= LUNF_SLOW
    if gate & Gate.WRITE_PROTECTED:
        flags |= LUNF_RO if unit.read_only else LUNF_WRITE_SLOW  # software protection has another sense code
    if gate & (Gate.WRITE_THROUGH | Gate.RESERVED_WRITES):
        flags |= LUNF_WRITE_SLOW
    if gate & Gate.DESCRIPTOR:
        flags |= LUNF_DSENSE
    return flags
