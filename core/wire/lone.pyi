"""Whether the reactor's own thread performs a sync (core/wire/lone.pyx)."""

class Lone:
    """For tests: what a reactor's device keeps of it, by a clock of theirs."""

    def takes(self, now_us: int, written_bytes: int, awaited: bool = True, only: bool = True) -> bool:
        """A sync is asked for. `written_bytes`: so far; `awaited`: by one command alone, which is the reactor's `only` one."""
    def synced(self, now_us: int, heard: bool = False) -> None:
        """It is over. `heard`: somebody has spoken meanwhile."""
