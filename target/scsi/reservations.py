"""Persistent and SPC-2 reservations of one logical unit: who may do what (SPC-4 §5.13, SPC-2 §5.5.1)."""

from __future__ import annotations

from typing import Any

from target.scsi.model import ITNexus


class Reservations:
    """Registrations, the reservation and who holds it."""

    def __init__(self) -> None:
        self.legacy_holder: ITNexus | None = None

    def restricts(self, nexus: ITNexus) -> bool:
        """Whether any read or write of this nexus conflicts."""
        return self.legacy_holder is not None and self.legacy_holder != nexus

    def release_legacy(self, nexus: ITNexus | None) -> bool:
        """End the SPC-2 reservation of `nexus` (None: of anyone); True when there was one."""
        held = self.legacy_holder is not None and nexus in (None, self.legacy_holder)
        if held:
            self.legacy_holder = None
        return held

    def saved(self) -> dict[str, Any]:
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        pass
