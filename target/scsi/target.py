"""The SCSI target device: ports, port groups, open nexuses and what LUN each of them calls what (SAM-5 §4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from target.scsi.copy.tokens import Tokens
from target.scsi.model import ITNexus
from target.scsi.unit import LogicalUnit
from target.scsi.unit_attention import UnitAttention


class AccessState(IntEnum):
    """Asymmetric access states of a target port group (SPC-4 §5.11.2)."""

    ACTIVE_OPTIMIZED = 0x0
    ACTIVE_NON_OPTIMIZED = 0x1
    STANDBY = 0x2
    UNAVAILABLE = 0x3
    OFFLINE = 0xE
    TRANSITIONING = 0xF


MEDIUM_STATES = frozenset({AccessState.ACTIVE_OPTIMIZED, AccessState.ACTIVE_NON_OPTIMIZED})


@dataclass(frozen=True, slots=True)
class TargetPort:
    """An iSCSI target port is a portal group of the target (RFC 7143 §4.4.1)."""

    relative_id: int           # 1..65535, as in ITNexus.target_port
    portal_group_tag: int
    group: int = 1             # target port group


class Target:
    """All that a command's nexus can reach, and nothing else: the LUN map is per nexus."""

    def __init__(self, name: str, ports: Iterable[TargetPort] = (TargetPort(1, 1),), own_name: str = "", *,
                 passive: bool = False) -> None:
        """`name` is the iSCSI target name, which people choose; `own_name` another one, which no other device anywhere has.

        A `passive` target shows units that another gateway serves: what it was told of them, and no more.
        """
        self.passive = passive
        self.name = name
        self.own_name = own_name
        self.ports: dict[int, TargetPort] = {port.relative_id: port for port in ports}
        self.group_states: dict[int, AccessState] = {
            port.group: AccessState.ACTIVE_OPTIMIZED for port in self.ports.values()}
        self._elsewhere: set[int] = set()       # groups of other gateways
        self.tokens = Tokens()
        self._luns: dict[ITNexus, dict[int, LogicalUnit]] = {}
        self._protocol_levels: dict[ITNexus, int] = {}

    def device_names(self) -> list[str]:
        """The SCSI device name (RFC 7143 §4.4.1), behind the one that is never somebody else's."""
        return [self.own_name, self.name] if self.own_name else [self.name]

    def port_name(self, port: TargetPort) -> str:
        """The SCSI port name (RFC 7143 §4.4.1): of the name that nobody else's port can have, where there is one."""
        return f"{self.own_name or self.name},t,0x{port.portal_group_tag:04x}"

    # -- nexuses and their LUN maps ----------------------------------------------------------------------------
    def open_nexus(self, nexus: ITNexus, luns: Mapping[int, LogicalUnit],
                   condition: UnitAttention = UnitAttention.POWER_ON, protocol_level: int = 1) -> None:
        """A session logged in at an iSCSIProtocolLevel, and sees `luns`."""
        self.close_nexus(nexus)
        self._luns[nexus] = {}
        self._protocol_levels[nexus] = protocol_level
        for lun, unit in luns.items():
            self._attach(nexus, lun, unit, condition)

    def close_nexus(self, nexus: ITNexus) -> None:
        """The session is gone (logout, connection loss, reinstatement)."""
        self._protocol_levels.pop(nexus, None)
        for unit in set(self._luns.pop(nexus, {}).values()):
            unit.nexus_closed(nexus)

    def protocol_level(self, nexus: ITNexus) -> int:
        """The iSCSIProtocolLevel of the nexus's session (RFC 7144 §7.1.1)."""
        return self._protocol_levels.get(nexus, 1)

    def attach(self, nexus: ITNexus, lun: int, unit: LogicalUnit, *, replaces: bool = False) -> None:
        """A LUN appears for an open nexus: the others it sees say that the list changed.

        `replaces`: the nexus may take the number for another unit that it saw there. The unit itself says first that it is not.
        """
        others = set(self._luns[nexus].values())
        self._attach(nexus, lun, unit, None if replaces else UnitAttention.POWER_ON)
        if replaces:
            self.tell_replaced(nexus, unit)
        self._tell_luns_changed(nexus, others or {unit})

    def tell_replaced(self, nexus: ITNexus, unit: LogicalUnit) -> None:
        """A number that the nexus knows now means this unit: told before any other answer."""
        for condition in (UnitAttention.REPORTED_LUNS_CHANGED, UnitAttention.INQUIRY_CHANGED):
            unit.attention.raise_for(nexus, condition)

    def detach(self, nexus: ITNexus, lun: int) -> None:
        """A LUN disappears for an open nexus."""
        unit = self._luns[nexus].pop(lun)
        if unit not in self._luns[nexus].values():
            unit.nexus_closed(nexus)
        self._tell_luns_changed(nexus, set(self._luns[nexus].values()))

    def _attach(self, nexus: ITNexus, lun: int, unit: LogicalUnit, condition: UnitAttention | None) -> None:
        fresh = unit not in self._luns[nexus].values()
        self._luns[nexus][lun] = unit
        if fresh:
            unit.nexus_opened(nexus, condition)
            unit.set_ready(nexus, self.state_of(nexus, unit) in MEDIUM_STATES)

    def _tell_luns_changed(self, nexus: ITNexus, units: Iterable[LogicalUnit]) -> None:
        for unit in units:
            unit.attention.raise_for(nexus, UnitAttention.REPORTED_LUNS_CHANGED)

    def luns(self, nexus: ITNexus) -> Mapping[int, LogicalUnit]:
        """LUN number to logical unit, for one nexus; empty when it is not open."""
        return self._luns.get(nexus, {})

    def luns_of(self, nexus: ITNexus, unit: LogicalUnit) -> list[int]:
        """The LUN numbers by which a nexus knows a unit."""
        return [lun for lun, each in self.luns(nexus).items() if each is unit]

    def units(self) -> list[LogicalUnit]:
        """Every logical unit that some open nexus sees, once."""
        return list({id(unit): unit for luns in self._luns.values() for unit in luns.values()}.values())

    def nexuses(self) -> list[ITNexus]:
        return list(self._luns)

    # -- asymmetric access -------------------------------------------------------------------------------------
    def groups(self) -> list[int]:
        """The target port groups, those of other gateways, too."""
        return sorted(self.group_states)

    def own_groups(self) -> list[int]:
        """The target port groups of this gateway."""
        return sorted(self.group_states.keys() - self._elsewhere)

    def set_elsewhere(self, states: Mapping[int, AccessState]) -> None:
        """The groups that other gateways have, one port each, and their states. One that this gateway has is its own."""
        wanted = {group: state for group, state in states.items() if group in self._elsewhere or group not in self.group_states}
        if wanted == {group: self.group_states[group] for group in self._elsewhere}:
            return
        for group in self._elsewhere - wanted.keys():
            del self.ports[group], self.group_states[group]
        self.ports.update({group: TargetPort(group, group, group) for group in wanted})
        self.group_states.update(wanted)
        self._elsewhere = set(wanted)
        self._states_changed(self.units(), None)

    def group_state(self, group: int, unit: LogicalUnit) -> tuple[AccessState, bool]:
        """A group's state for one unit, and whether an initiator set it."""
        if unit.standby:
            return AccessState.STANDBY, False
        explicit = unit.explicit_states.get(group)
        return (self.group_states[group], False) if explicit is None else (AccessState(explicit), True)

    def state_of(self, nexus: ITNexus, unit: LogicalUnit) -> AccessState:
        """The access state of the nexus's target port group for a unit."""
        port = self.ports.get(nexus.target_port)
        return AccessState.ACTIVE_OPTIMIZED if port is None else self.group_state(port.group, unit)[0]

    def set_group_state(self, group: int, state: AccessState) -> None:
        """Implicit change, by the administrator: for every unit, over what initiators set. KeyError: no such group."""
        if group not in self.group_states:
            raise KeyError(group)
        self.group_states[group] = state
        for unit in self.units():
            unit.explicit_states.pop(group, None)
        self._states_changed(self.units(), None)

    def set_unit_group_state(self, group: int, state: AccessState, unit: LogicalUnit, by: ITNexus) -> None:
        """Explicit change (SET TARGET PORT GROUPS): for one unit; every nexus of it but `by` is told."""
        if self.group_state(group, unit)[0] != state:
            unit.explicit_states[group] = state
            self._states_changed([unit], by)

    def set_replica(self, unit: LogicalUnit, *, replica: bool, standby: bool) -> None:
        """A unit is written elsewhere from now on, or here again: initiators are told what changes for them."""
        before = unit.replica, unit.standby
        unit.replica, unit.standby = replica, standby
        if unit.standby != before[1]:
            unit.explicit_states.clear()
            self._states_changed([unit], None)
        if unit.replica != before[0]:
            unit.inquiry_changed()

    def _states_changed(self, units: Iterable[LogicalUnit], by: ITNexus | None) -> None:
        for unit in units:
            for nexus in unit.attention.nexuses():
                unit.set_ready(nexus, self.state_of(nexus, unit) in MEDIUM_STATES)
            unit.raise_attention(UnitAttention.ASYMMETRIC_ACCESS_CHANGED, but=by)

    def reset(self) -> None:
        """Target reset: every logical unit is reset (RFC 7143 §11.5.1)."""
        for unit in self.units():
            unit.reset(UnitAttention.TARGET_RESET)
