"""A medium as slow as a test likes: what a reactor reads of it is held, in its order, until the test ends it."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from core.device import FileDevice

SOURCE = Path(__file__).with_name("held_rbd.c")
MOST = 4096


@cache
def _library() -> tuple[str, ctypes.CDLL]:
    """Built once a process, which has one librbd."""
    path = f"{mkdtemp(prefix='lunette-held-')}/librbd.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, str(SOURCE), "-lpthread"], check=True)
    return path, ctypes.CDLL(path)


class HeldDevice(FileDevice):
    """A file that a reactor takes for an image of librbd's."""

    object_bytes = 4 << 20

    @property
    def image_address(self) -> int:
        return self.fileno()

    @property
    def library(self) -> str:
        return _library()[0]


class Held:
    """The reads that are under way: by the first byte of what they read."""

    def __init__(self) -> None:
        self._calls = _library()[1]

    def hold(self, on: bool) -> None:
        self._calls.held_hold(int(on))

    def waiting(self) -> Counter[int]:
        to = (ctypes.c_uint8 * MOST)()
        return Counter(to[: self._calls.held_first_bytes(to, MOST)])

    def end_one(self) -> int:
        """The oldest ends; its first byte."""
        first = int(self._calls.held_end_one())
        assert first >= 0, "nothing is under way"
        return first


@contextlib.contextmanager
def held() -> Iterator[Held]:
    """Reads are held from here on; at the end all go through."""
    medium = Held()
    medium.hold(True)
    try:
        yield medium
    finally:
        medium.hold(False)
        while medium.waiting():
            medium.end_one()
