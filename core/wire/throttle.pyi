"""Whether the kernel holds writes into the page cache back (core/wire/throttle.pyx)."""

class Throttle:
    """For tests: what a reactor's device keeps of it, by a clock of theirs."""

    def wrote(self, began_us: int, ended_us: int, waited: bool, punching: bool) -> None:
        """An inline write has ended. `waited`: its thread slept; `punching`: a discard is under way."""
    def throttled(self, now_us: int) -> bool:
        """Writes should not be performed by this thread now."""
