"""Finding dead sessions when the limit is near: what a host left when it lost its power must not keep it out (RFC 7143 §11.19).

The data plane's own ping comes after half a minute of silence. A probe asks at once, and ends who says nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging

from target.server.iscsi.nexus import NexusSession
from target.server.iscsi.sessions import SessionTable

log = logging.getLogger("lunette.probing")

ANSWER_SECONDS = 3.0
REST_SECONDS = 5.0       # between two rounds that find nobody dead
PING_TAGS = itertools.cycle(range(0x80000000, 0xFFFFFFFF))     # not those of the data plane's own pings


class Probing:
    """One round of probes at a time for each initiator, whoever asks meanwhile."""

    def __init__(self, table: SessionTable) -> None:
        self._table = table
        self._rounds: dict[str | None, asyncio.Task[int]] = {}
        self._rested: dict[str | None, float] = {}

    def start(self, initiator_name: str | None = None) -> asyncio.Task[int] | None:
        """Probe the sessions of one initiator (None: all); a task for how many were dead. None: that was done just now."""
        now = asyncio.get_running_loop().time()
        self._rested = {key: until for key, until in self._rested.items() if until > now}
        if initiator_name in self._rounds:
            return self._rounds[initiator_name]
        if initiator_name in self._rested:
            return None
        task = self._rounds[initiator_name] = asyncio.create_task(self._round(initiator_name), name="probing")
        task.add_done_callback(lambda _: self._rounds.pop(initiator_name, None))
        return task

    def stop(self) -> None:
        for task in self._rounds.values():
            task.cancel()

    async def _round(self, initiator_name: str | None) -> int:
        asked = [each for each in self._table.sessions() if initiator_name in (None, each.nexus.initiator_name)]
        before = self._received(asked)
        for session in asked:
            for conn, full in session.connections.items():
                self._table.send(session, conn, full.ping(next(PING_TAGS)))
        await asyncio.sleep(ANSWER_SECONDS)
        after = self._received(asked)
        dead = [session for session in asked if not session.ended and session.connections and all(
            (session.reactor, conn) in before and after.get((session.reactor, conn)) == before[session.reactor, conn]
            for conn in session.connections)]
        for session in dead:
            self._table.end(session, f"it did not answer a probe within {ANSWER_SECONDS:g} s, and the limit of sessions is near",
                            lost=True)
        if not dead:
            self._rested[initiator_name] = asyncio.get_running_loop().time() + REST_SECONDS
        return len(dead)

    def _received(self, sessions: list[NexusSession]) -> dict[tuple[object, int], int]:
        """Bytes received so far by connection."""
        found: dict[tuple[object, int], int] = {}
        for reactor in {session.reactor for session in sessions}:
            found.update({(reactor, each["conn"]): each["rx_bytes"] for each in reactor.stats()["connections"]})
        return found
