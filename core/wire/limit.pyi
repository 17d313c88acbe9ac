"""Limits that reactors share (core/wire/limit.pyx)."""

class Limit:
    """So many commands and bytes a second, 0: any. `burst_s`: what was not used in so many seconds may be used later.

    It is given to LUNs of any reactor (`Reactor.set_lun`) and changed while they use it; `Reactor.limit_changed` then tells them.
    """

    def __init__(self, *, ops_per_second: int = 0, bytes_per_second: int = 0, burst_s: float = 0.1) -> None: ...
    def change(self, *, ops_per_second: int = 0, bytes_per_second: int = 0, burst_s: float = 0.1) -> None: ...
    @property
    def rates(self) -> tuple[int, int]:
        """Commands and bytes a second."""
    def take_ops(self, ops: int, now_ns: int) -> int:
        """Take so many at that time; when they are due. For tests: reactors take by their own clock."""
    def take_bytes(self, count: int, now_ns: int) -> int: ...
