"""Frames on their way out: numbered, counted and summed up."""

class Framing:
    """The frames of one stream."""

    stream: int
    sequence: int           # of the next frame
    data_bytes: int
    hole_bytes: int
    zero_bytes: int

    def __init__(self, stream: int) -> None: ...
    def plain(self, type: str, *, offset: int = 0, span: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
        """A frame without extents; it counts."""

    def end(self, size_bytes: int, more: bool) -> bytes:
        """The END, which holds the others."""
