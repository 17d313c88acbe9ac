"""Reads in waves, for a device that ends everything it has at once (core/wire/waves.pyx)."""

class Waves:
    """For tests: what a reactor's device keeps of it, by a clock of theirs. At most 64 requests at a time."""

    @property
    def at_device(self) -> int:
        """Requests that the device has."""
    @property
    def waiting(self) -> int:
        """Reads that wait."""
    def give(self, may_wait: bool) -> bool:
        """A new request, a write or a read that may wait. False: it does."""
    def ended(self, count: int, now_us: int) -> None:
        """The device has ended so many; those that may begin now are given to it."""
