"""The control plane's one door to the native reactor: its class, events and flags under their own names."""

from core.wire.limit import Limit
from core.wire.reactor import (
    DIRECTIONS,
    LATENCY_BOUNDS_US,
    LUNF_DSENSE,
    LUNF_RO,
    LUNF_SLOW,
    LUNF_WRITE_SLOW,
    AbortedEvent,
    ClosedEvent,
    CommandEvent,
    LunReleasedEvent,
    PduEvent,
    Reactor,
    SessionClosedEvent,
)

__all__ = [
    "DIRECTIONS",
    "LATENCY_BOUNDS_US",
    "LUNF_DSENSE",
    "LUNF_RO",
    "LUNF_SLOW",
    "LUNF_WRITE_SLOW",
    "AbortedEvent",
    "ClosedEvent",
    "CommandEvent",
    "Limit",
    "LunReleasedEvent",
    "PduEvent",
    "Reactor",
    "SessionClosedEvent",
]
