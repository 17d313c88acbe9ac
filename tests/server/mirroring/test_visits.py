"""Peers that work long, fall silent, or come back on another connection (target/server/mirroring/visits.py)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from target.errors import LunetteError
from target.models.forms import Arguments
from target.server.mirroring import visits as module
from target.server.mirroring.contact import Contact
from target.server.mirroring.visits import Visit, Visits, flowing
from target.volumes import links
from target.volumes.links import Link
from target.volumes.peers import Peer, make_credentials

PEER = Peer("a", "127.0.0.1:1", "")
CREDENTIALS = make_credentials("both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing(Arguments):
    """A request without fields."""


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Link, Link]]:
    """Both ends of a connection: who asks, who answers."""
    one, other = socket.socketpair()
    asking, answering = Link(one, CREDENTIALS, server=False), Link(other, CREDENTIALS, server=True)
    await asyncio.gather(asking.shake_hands(), answering.shake_hands())
    asking.carry()
    answering.carry()
    try:
        yield asking, answering
    finally:
        await asyncio.gather(asking.close(), answering.close())


@contextlib.asynccontextmanager
async def visited(visits: Visits) -> AsyncIterator[Contact]:
    async with connected() as (asking, answering):
        task = asyncio.create_task(visits.serve(PEER, answering))
        try:
            yield Contact(PEER, asking)
        finally:
            asking.cut()
            await asyncio.gather(task, return_exceptions=True)


def answering(handler: Callable[[Visit, Any], Awaitable[dict[str, Any]]]) -> Visits:
    return Visits({"do": (Nothing, handler)})


def test_an_answer_may_take_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)

    async def run() -> None:
        heard = asyncio.Event()

        async def handler(visit: Visit, args: Any) -> dict[str, Any]:
            await heard.wait()
            return {"n": 7}

        async with visited(answering(handler)) as contact:
            receive, beats = contact.link.receive, 0

            async def counting(*args: Any) -> Any:
                nonlocal beats
                message = await receive(*args)
                beats += message is not None and "working" in message
                if beats == 5:
                    heard.set()
                return message

            contact.link.receive = counting             # type: ignore[method-assign]
            assert await contact.request("do") == {"n": 7}
            assert beats >= 5

    asyncio.run(run())


def test_a_peer_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with connected() as (asking, _):          # nobody answers, and the connection stands
            monkeypatch.setattr(asking, "receive", lambda: Link.receive(asking, 0.1))
            with pytest.raises(LunetteError, match="the peer does not answer") as refused:
                await Contact(PEER, asking).request("do")
            assert refused.value.code == "unreachable"

    asyncio.run(run())


def test_a_stream_that_comes_no_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)

    async def run() -> None:
        async with connected() as (asking, answering):
            await asking.send({"something": "that nobody takes"})
            while not module._unread(answering):        # noqa: ASYNC110
                await asyncio.sleep(0.01)
            async with flowing(answering):
                await asyncio.sleep(0.3)                # what has come is not taken: this side is slow, the peer is not gone
                assert await answering.receive() == {"something": "that nobody takes"}
                with contextlib.suppress(LunetteError):
                    assert await answering.receive(links.SILENT_SECONDS) is None

    asyncio.run(run())


def test_what_was_begun_on_an_older_connection_ends_before_a_newer_one_speaks() -> None:
    async def run() -> None:
        order, began, go_on = [], asyncio.Event(), asyncio.Event()

        async def handler(visit: Visit, args: Any) -> dict[str, Any]:
            await visits.begin(visit, "v")
            if not order:
                order.append("older")
                began.set()
                await go_on.wait()
                order.append("older is over")
            else:
                order.append("newer")
            visits.check(visit, "v")
            return {}

        visits = answering(handler)
        async with visited(visits) as one, visited(visits) as two:
            older = asyncio.create_task(one.request("do"))
            await began.wait()
            newer = asyncio.create_task(two.request("do"))
            await asyncio.sleep(0.1)
            assert order == ["older"]
            go_on.set()
            assert await newer == {}                    # it waited for the older one
            assert order == ["older", "older is over", "newer"]
            with pytest.raises(LunetteError):
                await older

    asyncio.run(run())


def test_a_connection_that_has_not_asked_may_do_nothing() -> None:
    async def run() -> None:
        async def handler(visit: Visit, args: Any) -> dict[str, Any]:
            visits.check(visit, "v")
            return {}

        visits = answering(handler)
        async with visited(visits) as contact:
            with pytest.raises(LunetteError, match="was not asked"):
                await contact.request("do")

    asyncio.run(run())
