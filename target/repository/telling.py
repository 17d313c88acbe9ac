"""How long work on a repository says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Told = Callable[[int, int | None, int], None]      # done, of how much, bytes moved; it raises when the work is to end


def untold(done: int, total: int | None, moved: int) -> None:
    """Nobody wants to know."""
