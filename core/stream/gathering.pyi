"""A stream as chunks of data, group by group: what a repository keeps of a snapshot (docs/repositories.md)."""

from typing import NamedTuple

from core.stream.frame import Taken

class Gathered(NamedTuple):
    """Data of one group, and where its blocks belong."""

    group: int
    runs: bytes             # as core.stream.runs has them, of frame 0
    data: bytes             # whole blocks
    cuts: bytes | None      # intervals of all that was said of the group, once it is over

class Gathering:
    """Takes one stream. `take` is one thread's."""

    def __init__(self, fd: int, cancel: int, *, group_blocks: int, chunk_blocks: int) -> None:
        """`fd` is read; a wait for it ends when `cancel` becomes readable (ECANCELED)."""

    def open(self) -> None:
        """Begin to read ahead. OSError."""

    def close(self) -> None: ...
    def take(self) -> Gathered | Taken:
        """What comes next; of other frames a BEGIN, END or ERROR. StreamError, OSError."""
