"""The pump out: blocks of an object as frames for a descriptor, without the GIL (docs/stream-format.md)."""

from core.pool.engine import Pool
from core.stream.framing import Framing

def zstd_available() -> bool:
    """Whether bodies can be packed here."""

class Outflow:
    """Says one stream. All of it but `feed` belongs to one thread; what is said is written behind it, on another one.

    What cannot be written any more is told by the next call, as OSError.
    """

    frames: Framing
    position: int           # bytes: all before it was said
    sent_bytes: int         # of the stream, written or about to be

    def __init__(self, pool: Pool, fd: int, cancel: int, *, stream: int, pack: str = "none", limit_bytes: int = 0) -> None:
        """`cancel`: a descriptor that ends all waits when it becomes readable (ECANCELED). `pack`: zstd, none, or auto, where
        the other end is the slower one. `limit_bytes` a second, 0 for none.
        """

    def open(self) -> None:
        """Join the engine, on this thread. OSError."""

    def close(self) -> None:
        """What was said is written, unless it cannot be."""

    def begin(self, object_id: int, *, offset: int, span: int, text: bytes) -> None:
        """A BEGIN: what follows is of that object, from `offset` on. PoolError gone."""

    def feed(self, rows: bytes) -> None:
        """Rows of a walk (`changes` of the pool), when those before are used up."""

    def make(self) -> bool:
        """Say what the rows speak of, for a quarter of a second; whether they are used up. PoolError: it cannot be read."""

    def plain(self, type: str, *, payload: bytes = b"") -> None:
        """A KEEPALIVE or ERROR."""

    def mark(self, position: int) -> None: ...
    def end(self, size_bytes: int, more: bool) -> None: ...
    def flush(self) -> None:
        """Until all that was said is written."""
