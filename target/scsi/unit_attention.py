"""Unit attention conditions: which exist, in which order they are told, what clears them (SAM-5 §5.14)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from target.scsi.model import ITNexus
from target.scsi.sense import Sense, SenseKey


class UnitAttention(IntEnum):
    """Additional sense code and qualifier of each condition this target raises (SPC-4 annex F)."""

    POWER_ON = 0x2900
    TARGET_RESET = 0x2902
    BUS_DEVICE_RESET = 0x2903
    NEXUS_LOSS = 0x2907
    MEDIUM_CHANGED = 0x2800
    MODE_PARAMETERS_CHANGED = 0x2A01
    RESERVATIONS_PREEMPTED = 0x2A03
    RESERVATIONS_RELEASED = 0x2A04
    REGISTRATIONS_PREEMPTED = 0x2A05
    ASYMMETRIC_ACCESS_CHANGED = 0x2A06
    CAPACITY_CHANGED = 0x2A09
    COMMANDS_CLEARED = 0x2F00
    THRESHOLD_REACHED = 0x3807
    INQUIRY_CHANGED = 0x3F03
    REPORTED_LUNS_CHANGED = 0x3F0E


# SAM-5 table 57: an entry here outranks all that follow it and everything not listed.
PRECEDENCE: tuple[UnitAttention, ...] = (
    UnitAttention.POWER_ON, UnitAttention.TARGET_RESET,
    UnitAttention.BUS_DEVICE_RESET, UnitAttention.NEXUS_LOSS,
)
# What a reset-class condition says anyway: these are dropped when one is raised.
IMPLIED_BY_RESET = frozenset({
    UnitAttention.MODE_PARAMETERS_CHANGED, UnitAttention.MEDIUM_CHANGED, UnitAttention.CAPACITY_CHANGED,
    UnitAttention.INQUIRY_CHANGED, UnitAttention.COMMANDS_CLEARED,
})


class AttentionQueues:
    """The pending conditions of one logical unit, a queue for each I_T nexus that is open.

    `changed` is called with a nexus when it starts or stops having something pending, `raised` for every condition queued.
    Bounded: a condition is queued once for a nexus.
    """

    def __init__(self, changed: Callable[[ITNexus], None], raised: Callable[[ITNexus, UnitAttention], None]) -> None:
        self._queues: dict[ITNexus, list[UnitAttention]] = {}
        self._changed = changed
        self._raised = raised

    def open(self, nexus: ITNexus) -> None:
        """Start keeping conditions for a nexus."""
        self._queues.setdefault(nexus, [])

    def close(self, nexus: ITNexus) -> None:
        """Forget a nexus and what it had pending."""
        self._queues.pop(nexus, None)

    def nexuses(self) -> list[ITNexus]:
        """The nexuses that are open."""
        return list(self._queues)

    def raise_for(self, nexus: ITNexus, condition: UnitAttention) -> None:
        """Queue a condition for one nexus; without effect when that nexus is not open."""
        queue = self._queues.get(nexus)
        if queue is None or condition in queue:
            return
        was_empty = not queue
        if condition in PRECEDENCE:
            rank = PRECEDENCE.index(condition)
            if any(other in PRECEDENCE and PRECEDENCE.index(other) < rank for other in queue):
                return   # a higher one of the reset class is pending: it covers this one
            queue[:] = [condition, *(c for c in queue if c not in PRECEDENCE and c not in IMPLIED_BY_RESET)]
        else:
            queue.append(condition)
        if was_empty:
            self._changed(nexus)
        self._raised(nexus, condition)

    def raise_for_all(self, condition: UnitAttention, but: ITNexus | None = None) -> None:
        """Queue a condition for every open nexus except `but`."""
        for nexus in self.nexuses():
            if nexus != but:
                self.raise_for(nexus, condition)

    def pending(self, nexus: ITNexus) -> bool:
        return bool(self._queues.get(nexus))

    def peek(self, nexus: ITNexus) -> tuple[UnitAttention, ...]:
        """All pending conditions of a nexus in the order they would be told."""
        return tuple(self._queues.get(nexus, ()))

    def describe(self, nexus: ITNexus) -> bytes | None:
        """What QUERY ASYNCHRONOUS EVENT says: how many are pending (one, or more) and the next one (SAM-5 §7.9)."""
        queue = self._queues.get(nexus)
        if not queue:
            return None
        depth = 1 if len(queue) == 1 else 2
        return bytes((depth << 4 | SenseKey.UNIT_ATTENTION, queue[0] >> 8, queue[0] & 0xFF))

    def take(self, nexus: ITNexus) -> Sense | None:
        """The next condition as sense, cleared by being told (UA_INTLCK_CTRL 00b)."""
        queue = self._queues.get(nexus)
        if not queue:
            return None
        condition = queue.pop(0)
        if not queue:
            self._changed(nexus)
        return Sense(SenseKey.UNIT_ATTENTION, int(condition))

    def clear(self, nexus: ITNexus, condition: UnitAttention) -> None:
        """Drop one condition without telling it."""
        queue = self._queues.get(nexus)
        if queue and condition in queue:
            queue.remove(condition)
            if not queue:
                self._changed(nexus)
