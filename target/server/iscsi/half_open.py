"""Connections that are not yet the data plane's: how many there may be, and which goes when there are too many."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass


@dataclass(slots=True)
class _Entering:
    peer: str
    began: bool = False     # it has sent something


class HalfOpen:
    """Bounds them in all and for one address by letting the oldest go, so that who does not log in locks nobody out.

    Of those that are too many, the oldest that has not begun to log in goes first, then the oldest: a login takes far less
    time than filling the rest.
    """

    def __init__(self, most: int, most_per_peer: int) -> None:
        self._most = most
        self._most_per_peer = most_per_peer
        self._entering: dict[asyncio.Task[None], _Entering] = {}    # oldest first
        self._peers: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entering)

    def make_room(self, peer: str) -> bool:
        """Let one go if another of this peer would be too many; whether one went."""
        if self._peers[peer] >= self._most_per_peer:
            self._evict([task for task, each in self._entering.items() if each.peer == peer])
        elif len(self._entering) >= self._most:
            self._evict(list(self._entering))
        else:
            return False
        return True

    def enter(self, task: asyncio.Task[None], peer: str) -> None:
        self._entering[task] = _Entering(peer)
        self._peers[peer] += 1

    def begun(self, task: asyncio.Task[None]) -> None:
        """It has sent the first bytes of a login."""
        if task in self._entering:
            self._entering[task].began = True

    def leave(self, task: asyncio.Task[None]) -> None:
        """It is the data plane's now, or gone."""
        entering = self._entering.pop(task, None)
        if entering is not None:
            self._peers[entering.peer] -= 1
            if self._peers[entering.peer] <= 0:
                del self._peers[entering.peer]

    def _evict(self, candidates: list[asyncio.Task[None]]) -> None:
        chosen = next((task for task in candidates if not self._entering[task].began), candidates[0])
        self.leave(chosen)
        chosen.cancel()
