"""Watches over initiator names: one that comes from two addresses has two paths, or two machines share it. The log says so."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from target.server.iscsi.nexus import NexusSession
from target.server.iscsi.throttle import Throttle

log = logging.getLogger("lunette.sessions")

ADDRESSES_SECONDS = 86400.0    # how often the log says that one name comes from two addresses


class NameWatch:
    """The names and addresses of one daemon's sessions."""

    def __init__(self) -> None:
        self._addresses = Throttle(ADDRESSES_SECONDS)

    def enters(self, initiator_name: str, peer: str, sessions: Iterable[NexusSession]) -> None:
        """A session begins beside these. Each pair of addresses is told once."""
        others = {each.peer for each in sessions if each.nexus.initiator_name == initiator_name} - {peer}
        for other in sorted(others):
            if self._addresses.more((initiator_name, frozenset((peer, other)))) is not None:
                log.warning("%s is logged in from %s and from %s: two paths of one machine, or two machines of one name",
                            initiator_name, other, peer)

    def takes_over(self, before: NexusSession, peer: str) -> None:
        """A session is reinstated from this address."""
        if before.peer != peer:
            log.warning("%s from %s takes over the session that it has from %s: two machines may have one name and ISID",
                        before.nexus.initiator_name, peer, before.peer)
