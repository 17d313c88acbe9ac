"""Waiting for what another thread, process or task does: for the condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_SECONDS = 60       # only a test that fails waits so long; two busy cores may stall a process for seconds
LOOK_SECONDS = 0.01

T = TypeVar("T")
Why = str | Callable[[], object]


def until(found: Callable[[], T], why: Why = "it did not come to be") -> T:
    """Look until there is something; what that is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := found()):
        _go_on(deadline, why)
        time.sleep(LOOK_SECONDS)
    return value


async def eventually(found: Callable[[], T], why: Why = "it did not come to be") -> T:
    """The same beside tasks of the running loop."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := found()):
        _go_on(deadline, why)
        await asyncio.sleep(LOOK_SECONDS)
    return value


def _go_on(deadline: float, why: Why) -> None:
    assert time.monotonic() < deadline, why() if callable(why) else why
