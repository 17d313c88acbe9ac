"""aiohttp's server half, imported without TLS: the API is served on a Unix socket only."""

from __future__ import annotations

import contextlib
import sys
import urllib.request  # noqa: F401  # whole, for others, before aiohttp asks for it
from collections.abc import Iterator


@contextlib.contextmanager
def _without_tls() -> Iterator[None]:
    """What is imported meanwhile does as if Python had no `ssl`.

    aiohttp's client would read all the system's certificates there and then: a third of what its import costs.
    """
    ssl = sys.modules.pop("ssl", None)
    sys.modules["ssl"] = None  # type: ignore[assignment]  # how the import system is told that there is none
    try:
        yield
    finally:
        del sys.modules["ssl"]
        if ssl is not None:
            sys.modules["ssl"] = ssl


with _without_tls():
    from aiohttp import web

__all__ = ["web"]
