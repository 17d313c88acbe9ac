"""Where tests put pools: in memory where there is room, because syncs to a shared disk take most of the time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED_BYTES = 2 << 30


@contextmanager
def pool_directory(fallback: Path) -> Iterator[Path]:
    """A directory that goes with all it holds; `fallback` itself where memory is short."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < NEEDED_BYTES:
        yield fallback
        return
    directory = Path(tempfile.mkdtemp(prefix="lunette-test", dir=memory))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
