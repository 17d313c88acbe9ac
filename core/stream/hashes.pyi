"""Hashes of what objects hold, span by span: how two sides without a common snapshot find where they differ."""

from core.pool.engine import Pool

DIGEST_BYTES: int
SPAN_BYTES: int         # of a coarse span ...
CHUNK_BYTES: int        # ... and of the fine ones in it
CHUNKS: int             # in a span

class Hashes:
    """Of one object. All of it belongs to one thread."""

    def __init__(self, pool: Pool) -> None:
        """OSError: there is no libcrypto.so.3."""

    def open(self) -> None:
        """Join the engine, on this thread. OSError."""

    def close(self) -> None: ...
    def begin(self, object_id: int) -> None:
        """What follows is of that object. PoolError gone."""

    def spans(self, first: int, count: int) -> bytes:
        """SHA-256 of so many spans, one behind the other; what lies behind the object's end counts as zeros. PoolError."""

    def chunks(self, span: int) -> bytes:
        """SHA-256 of the chunks of a span. PoolError."""

def differing(ours: bytes, theirs: bytes, first: int) -> list[int]:
    """The numbers of the spans whose digests differ; `first` is that of the first one."""

def rows(span: int, ours: bytes, theirs: bytes, size_bytes: int) -> bytes:
    """The chunks of a span that differ, as rows of a walk: blocks, and whether they are data (1) or all zeros (2, a hole)."""
