"""Changes as they happen: the last ones in a ring, and subscribers that read it at their own pace.

An id is the daemon's life and a number. Who comes back with the last one that it saw goes on behind it; where the ring has gone
on, or the daemon was another, the first thing it hears is `lost`: read the listings again. A slow reader costs nothing but that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from target.errors import LunetteError
from target.server.caller import Identity

KEPT = 2048
MAX_READERS = 64
MAX_TEXT = 400          # characters of a line of the log
PULSE_SECONDS = 15.0

Json = dict[str, Any]


class Events:
    """The events of one daemon."""

    def __init__(self) -> None:
        self._life = secrets.token_hex(4)
        self._ring: deque[tuple[int, Json]] = deque(maxlen=KEPT)
        self._next = 1
        self._readers: set[asyncio.Event] = set()

    def publish(self, kind: str, names: Collection[str] = (), data: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Tell of a change. `names` are of the objects that it concerns; who may not see one of them does not hear of it."""
        self._ring.append((self._next, {"id": f"{self._life}-{self._next}", "at_s": time.time(), "kind": kind,
                                        "names": sorted(names), "data": dict(data)}))
        self._next += 1
        for reader in self._readers:
            reader.set()

    def since(self, after: str | None, identity: Identity, limit: int | None = None) -> list[Json]:
        """What happened behind an id, or all that is known, oldest first. LunetteError invalid.

        Of more than `limit` the first ones behind the id, from where the next page goes on; without an id the last ones.
        """
        found = [event for _, event in self._behind(self._number(after), identity)]
        return found if limit is None else found[:limit] if after is not None else found[-limit:]

    async def follow(self, after: str | None, identity: Identity) -> AsyncIterator[Json | None]:
        """Events behind an id (without one: from now on) as they come; None at times when nothing comes. LunetteError limit."""
        at = self._next - 1 if after is None else self._number(after)
        if len(self._readers) >= MAX_READERS:
            raise LunetteError("limit", f"{MAX_READERS} follow the events already")
        news = asyncio.Event()
        self._readers.add(news)
        try:
            while True:
                news.clear()
                upto = self._next - 1
                for number, event in self._behind(at, identity):
                    at = max(at, number)
                    yield event
                at = max(at, upto)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), PULSE_SECONDS)
                if not news.is_set():
                    yield None
        finally:
            self._readers.discard(news)

    def _behind(self, at: int, identity: Identity) -> Iterable[tuple[int, Json]]:
        first = self._ring[0][0] if self._ring else self._next
        found = [(number, event) for number, event in self._ring if number > at and identity.sees_all(event["names"])]
        if at + 1 < first and at != 0:
            found.insert(0, (first - 1, {"id": f"{self._life}-{first - 1}", "at_s": time.time(), "kind": "lost", "names": [],
                                         "data": {"why": "events between were dropped: read the listings again"}}))
        return found

    def _number(self, after: str | None) -> int:
        """The number of an id. That of another life of the daemon lies before all of this one's."""
        if after is None:
            return 0
        life, _, number = after.partition("-")
        if not (number.isascii() and number.isdigit() and len(number) < 16):
            raise LunetteError("invalid", f"{after!r} is not the id of an event")
        return int(number) if life == self._life else -1


class LogEvents(logging.Handler):
    """What the log says, as events: sessions that come and go, damage, space. Only who sees everything hears them."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.INFO)
        self._events = events
        self._loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "lunette.audit":
            return
        with contextlib.suppress(RuntimeError):     # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, record.levelname.lower(), record.name, record.getMessage()[:MAX_TEXT])

    def _tell(self, level: str, source: str, text: str) -> None:
        self._events.publish("log", (), {"level": level, "source": source, "text": text})
