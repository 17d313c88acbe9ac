"""Which liburing the reactors use: the one in pyuring's wheel, or the system's, 2.4 or newer, if LUNETTE_LIBURING says so."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

ENVIRONMENT = "LUNETTE_LIBURING"    # `system`, or the path of a library; without it pyuring's
SYSTEM = "liburing.so.2"
NEEDED = "liburing 2.4 or newer is needed"


def uring_library() -> bytes:
    """What to give the dynamic loader: a path, or the name by which it finds the system's. OSError where there is none."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return os.fsencode(SYSTEM if chosen == "system" else chosen)
    spec = find_spec("pyuring")         # the module itself is never imported
    if spec is None or spec.origin is None:
        raise OSError(f"pyuring is not installed: its liburingwrap.so is needed, or {ENVIRONMENT}=system")
    return os.fsencode(Path(spec.origin).parent / "lib" / "liburingwrap.so")


def unloadable(library: bytes) -> OSError:
    """The dynamic loader did not find it, or it lacks a call."""
    why = f" ({ENVIRONMENT}={os.environ[ENVIRONMENT]})" if os.environ.get(ENVIRONMENT) else ""
    return OSError(f"cannot use {os.fsdecode(library)}{why}: {NEEDED}")
