"""The pump out: blocks of an object as frames in a buffer, without the GIL (docs/stream-format.md)."""

from core.pool.engine import Pool
from core.stream.framing import Framing

def write_all(fd: int, cancel: int, data: memoryview | bytes) -> None:
    """Write all of it to a descriptor, waiting as long as it takes, or until `cancel` becomes readable (ECANCELED). OSError."""

def zstd_available() -> bool:
    """Whether bodies can be packed here."""

class Outflow:
    """Makes one stream. All of it but `feed` belongs to one thread."""

    frames: Framing
    position: int           # bytes: all before it was said
    packing: bool
    mark_due: bool          # a second has passed since the last MARK

    def __init__(self, pool: Pool, *, stream: int) -> None: ...
    def open(self) -> None:
        """Join the engine, on this thread. OSError."""

    def close(self) -> None: ...
    def begin(self, object_id: int, *, offset: int, span: int, text: bytes) -> bytes:
        """A BEGIN: what follows is of that object, from `offset` on. PoolError gone."""

    def feed(self, rows: bytes) -> None:
        """Rows of a walk (`changes` of the pool), when those before are made."""

    def make(self, out: memoryview | bytearray) -> int:
        """Fill `out` (5 to 18 MiB) with frames: how many bytes, 0 when more rows are wanted. PoolError: it cannot be read."""

    def plain(self, type: str, *, payload: bytes = b"") -> bytes:
        """A KEEPALIVE or ERROR."""

    def mark(self, position: int) -> bytes: ...
    def end(self, size_bytes: int, more: bool) -> bytes: ...
