"""The pump in: frames from a descriptor, verified, as writes of an object, without the GIL (docs/stream-format.md)."""

from core.pool.engine import Pool
from core.stream.frame import Taken

class Inflow:
    """Takes one stream. All of it belongs to one thread."""

    received_bytes: int     # as they came
    position: int           # bytes: all before it was spoken of

    def __init__(self, pool: Pool, fd: int, cancel: int) -> None:
        """`fd` is read; a wait for it ends when `cancel` becomes readable (ECANCELED)."""

    def open(self) -> None:
        """Join the engine, on this thread, and begin to read ahead. OSError."""

    def close(self) -> None: ...
    def into(self, object_id: int, from_offset: int = 0, comparing: bool = False) -> None:
        """What comes next is of this object, which has what lies before `from_offset` already. PoolError gone.

        `comparing`: it has other contents, of which only blocks that differ are written; what a stream leaves out is a hole.
        """

    def take(self) -> Taken:
        """Frames, until one is to be decided about. StreamError, OSError, PoolError when the object cannot be written."""
