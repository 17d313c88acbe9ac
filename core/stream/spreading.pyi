"""A stream of what lies in memory: a backup on its way back into a pool (docs/repositories.md)."""

from typing_extensions import Buffer

from core.stream.framing import Framing

class Spreading(Framing):
    """Makes one stream. All of it belongs to one thread."""

    def group(self, group_block: int, runs: bytes, data: Buffer) -> None:
        """What follows: runs, in order, of the blocks in `data`, which begin at `group_block`, a multiple of 512. ValueError."""

    def make(self, out: Buffer) -> int:
        """Fill `out`, which has room for a frame, with frames: how many bytes. 0: the group is over."""
