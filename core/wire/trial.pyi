"""Whether it pays to stay awake for the next command (core/wire/trial.pyx)."""

class Trial:
    """For tests: what a reactor keeps of it, by a clock of theirs."""

    def heard(self, now_us: int, commands: int) -> None:
        """A turn brought so many commands."""
    @property
    def awake(self) -> bool:
        """The next ones are waited for awake."""
