"""Windows onto the page cache of the pool's file (core/wire/window.pyx)."""

class Windows:
    """For tests: what a reactor's device keeps of them, onto a file of theirs, by a clock of theirs. Offsets in bytes."""

    def __init__(self, fd: int) -> None: ...
    @property
    def epoch(self) -> int:
        """Ends when pages may be clean that were dirty."""
    @property
    def opened(self) -> int:
        """How many there are."""
    def turn(self, now_us: int) -> None:
        """A turn of the reactor begins."""
    def note(self, offset: int, length: int) -> None:
        """A system call has read or written those bytes."""
    def read(self, offset: int, length: int) -> bytes | None:
        """Those bytes; None where not all of them are known to be in the cache."""
    def waited(self, offset: int, length: int, took_us: int, now_us: int, more_faults: int) -> None:
        """A copy took long, during which this thread had so many faults that waited for the disk."""
    def wrote(self, offset: int, length: int) -> None:
        """A system call has written those bytes."""
    def rewrite(self, offset: int, data: bytes) -> bool:
        """Copy them there; false where a system call must write them."""
    def judge(self) -> None:
        """The turn's copies are over: did pages fault that should have been writable?"""
    def sync_begins(self) -> None:
        """Of any reactor of the process ..."""
    def sync_ended(self, now_us: int) -> None:
        """... and it is over: seen by the next turn."""
