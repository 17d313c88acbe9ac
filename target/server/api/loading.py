"""HTTP is imported here, beside the loop, when somebody comes: a start does not wait for it, nor does anything that is served."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

YOUNG_OBJECTS = 20000    # before the collector looks for cycles: a batch has 256 commands under way, with some tens each


async def load_http() -> tuple[Any, Any]:
    """`aiohttp.web`, and our application module."""
    loop = asyncio.get_running_loop()
    loaded: asyncio.Future[tuple[Any, Any]] = loop.create_future()
    try:
        threading.Thread(target=_import, args=(loop, loaded), name="api-import").start()
    except RuntimeError:            # the system gives no more threads
        _import(loop, loaded)
    return await loaded


def _import(loop: asyncio.AbstractEventLoop, loaded: asyncio.Future[Any]) -> None:
    try:
        with _no_authorities():
            from aiohttp import web

            from target.server.api import application
        _settle()
        loop.call_soon_threadsafe(_set, loaded, (web, application), None)
    except BaseException as error:
        loop.call_soon_threadsafe(_set, loaded, None, error)


@contextlib.contextmanager
def _no_authorities() -> Iterator[None]:
    """aiohttp's client reads the system's certificate authorities when it is imported: 2.5 MiB. We serve, and call nobody."""
    module: ModuleType = ssl
    create = module.create_default_context
    module.create_default_context = lambda *_, **__: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module.create_default_context = create  # type: ignore[attr-defined]


def _settle() -> None:
    """What is loaded by now stays for good: the collector looks at it no more, which a batch of thousands would pay for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def _set(loaded: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if loaded.cancelled():
        return
    if error is None:
        loaded.set_result(value)
    else:
        loaded.set_exception(error)
