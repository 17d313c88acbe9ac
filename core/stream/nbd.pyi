"""NBD's READs of a snapshot on a connected socket, without the GIL (docs/export.md)."""

from typing_extensions import Buffer

from core.pool.engine import Pool

PIECES: int             # under way together ...
BATCH_BYTES: int        # ... of so many bytes at most

class Transmission:
    """Serves one connection. All of it belongs to one thread."""

    def __init__(self, pool: Pool, fd: int, cancel: int, *, structured: bool, rest: bytes) -> None:
        """`rest` came already. Waits for `fd` end when `cancel` becomes readable (ECANCELED)."""

    def open(self) -> None:
        """Join the engine, on this thread. OSError."""

    def close(self) -> None: ...
    def begin(self, object_id: int) -> None:
        """It is that snapshot's. PoolError gone."""

    def serve(self) -> bytes:
        """Answer READs until another request comes, or one that is refused: its 28 bytes. Empty: the client has left. OSError."""

    def skip(self, n: int) -> None:
        """Throw away a payload. OSError."""

    def give(self, data: Buffer) -> None:
        """Send an answer that was made elsewhere. OSError."""
