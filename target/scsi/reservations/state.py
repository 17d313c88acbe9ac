"""Persistent and SPC-2 reservations of one logical unit: the state and who may do what (SPC-4 §5.13, SPC-2 §5.5)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from target.scsi.model import ITNexus


class ReservationType(IntEnum):
    """Persistent reservation types (SPC-4 §6.15.3.4)."""

    WRITE_EXCLUSIVE = 1
    EXCLUSIVE_ACCESS = 3
    WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 5
    EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 6
    WRITE_EXCLUSIVE_ALL_REGISTRANTS = 7
    EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 8


REGISTRANTS = frozenset({5, 6, 7, 8})        # every registered nexus may access
ALL_REGISTRANTS = frozenset({7, 8})          # and every one of them holds the reservation
OTHERS_READ = frozenset({1, 5, 7})           # anyone may read


class Reservation(NamedTuple):
    """`holder` is who made it; with an all-registrants type it is not more than the others."""

    kind: ReservationType
    holder: ITNexus


class Reservations:
    """Registrations, the reservation, the generation; and the SPC-2 reservation beside them.

    The methods change the state and say who must be told; they neither check keys nor raise unit attentions.
    """

    def __init__(self, *, kept: bool = False) -> None:
        """`kept`: registrations and reservation outlive the process without APTPL, too."""
        self.kept = kept
        self.keys: dict[ITNexus, int] = {}
        self.all_ports: set[ITNexus] = set()     # registered with ALL_TG_PT
        self.reservation: Reservation | None = None
        self.generation = 0
        self.persistent = False                  # APTPL
        self.legacy_holder: ITNexus | None = None

    # -- questions ---------------------------------------------------------------------------------------------
    def holds(self, nexus: ITNexus) -> bool:
        """Whether the nexus is a persistent reservation holder."""
        held = self.reservation
        if held is None:
            return False
        return nexus in self.keys if held.kind in ALL_REGISTRANTS else nexus == held.holder

    def _persistently_allowed(self, nexus: ITNexus) -> bool:
        held = self.reservation
        return held is None or nexus == held.holder or (held.kind in REGISTRANTS and nexus in self.keys)

    def may_write(self, nexus: ITNexus) -> bool:
        return self.legacy_holder in (None, nexus) and self._persistently_allowed(nexus)

    def may_read(self, nexus: ITNexus) -> bool:
        held = self.reservation
        if self.legacy_holder not in (None, nexus):
            return False
        return self._persistently_allowed(nexus) or (held is not None and held.kind in OTHERS_READ)

    # -- registrations -----------------------------------------------------------------------------------------
    def register(self, nexus: ITNexus, key: int, all_ports: bool = False) -> None:
        self.keys[nexus] = key
        (self.all_ports.add if all_ports else self.all_ports.discard)(nexus)

    def unregister(self, nexus: ITNexus) -> list[ITNexus]:
        """Forget a nexus; the registered nexuses to tell that the reservation went with it (SPC-4 §5.13.11.2)."""
        del self.keys[nexus]
        self.all_ports.discard(nexus)
        held = self.reservation
        if held is None:
            return []
        if held.kind in ALL_REGISTRANTS:
            if self.keys:
                if held.holder == nexus:
                    self.reservation = Reservation(held.kind, next(iter(self.keys)))
                return []
        elif held.holder != nexus:
            return []
        self.reservation = None
        return list(self.keys) if held.kind in REGISTRANTS else []

    def remove(self, nexuses: list[ITNexus]) -> None:
        """Forget registrations without regard to the reservation (the caller settles that)."""
        for nexus in nexuses:
            del self.keys[nexus]
            self.all_ports.discard(nexus)

    def clear(self) -> list[ITNexus]:
        """Forget everything; who was registered."""
        registered = list(self.keys)
        self.keys.clear()
        self.all_ports.clear()
        self.reservation = None
        return registered

    # -- the SPC-2 reservation ---------------------------------------------------------------------------------
    def release_legacy(self, nexus: ITNexus | None) -> bool:
        """End the SPC-2 reservation of `nexus` (None: of anyone); True when there was one."""
        held = self.legacy_holder is not None and nexus in (None, self.legacy_holder)
        if held:
            self.legacy_holder = None
        return held

    # -- what survives power loss ------------------------------------------------------------------------------
    def saved(self) -> dict[str, Any]:
        """Registrations and reservation as JSON when APTPL is active or all are kept, else empty. The generation starts anew."""
        if not self.persistent and not (self.kept and self.keys):
            return {}
        nexuses = list(self.keys)
        out: dict[str, Any] = {} if self.persistent else {"aptpl": False}
        out["registrations"] = [
            {"initiator": nexus.initiator_name, "isid": nexus.isid.hex(), "port": nexus.target_port,
             "key": f"{self.keys[nexus]:016x}", "all_ports": nexus in self.all_ports} for nexus in nexuses]
        if self.reservation is not None:
            out["type"] = int(self.reservation.kind)
            out["holder"] = nexuses.index(self.reservation.holder)
        return out

    def load(self, saved: dict[str, Any], initiator_name: Callable[[str], str] = str) -> None:
        """Take what `saved` gave, with names in the form of `initiator_name`. ValueError, KeyError, TypeError: it is not that."""
        if not saved or (not saved.get("aptpl", True) and not self.kept):
            return
        loaded: list[ITNexus] = []
        for each in saved["registrations"]:
            isid = bytes.fromhex(each["isid"])
            if len(isid) != 6:
                raise ValueError("an ISID has 6 bytes")
            nexus = ITNexus(initiator_name(str(each["initiator"])), isid, int(each["port"]))
            loaded.append(nexus)
            self.register(nexus, int(each["key"], 16), bool(each["all_ports"]))
        if "type" in saved:
            index = int(saved["holder"])
            if not 0 <= index < len(loaded):
                raise ValueError("a reservation without a holder")
            self.reservation = Reservation(ReservationType(saved["type"]), loaded[index])
        self.persistent = bool(saved.get("aptpl", True))
