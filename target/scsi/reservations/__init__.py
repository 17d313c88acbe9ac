"""Reservations: who may read and write a unit that several initiators share, persistent (SPC-4 §5.13) and SPC-2 ones.

`state` is what a unit has of them, `transport_id` how initiators name each other; the `commands` stand above them and may
import what a handler is given (`target.scsi.task`).
"""
