"""What reactors were asked to abort, or to count, and have not answered yet."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from target.server.iscsi.dataplane import AbortedEvent, Reactor


class Aborts:
    def __init__(self) -> None:
        self._asked: dict[int, asyncio.Future[AbortedEvent]] = {}
        self._tokens = itertools.count(1)

    def ask(self, reactor: Reactor, **which: Any) -> asyncio.Future[AbortedEvent]:
        """The answer comes when nothing of that runs any more. OSError: there is no memory to ask."""
        token = next(self._tokens)
        answer: asyncio.Future[AbortedEvent] = asyncio.get_running_loop().create_future()
        reactor.abort(token, **which)
        self._asked[token] = answer
        return answer

    def answered(self, event: AbortedEvent) -> None:
        answer = self._asked.pop(event.token, None)
        if answer is not None and not answer.done():
            answer.set_result(event)
