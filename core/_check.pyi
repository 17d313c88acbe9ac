"""The loops of `check`, compiled: counting references and comparing them with the count pages."""

from typing_extensions import Buffer

class Counts:
    """References counted so far, one number a block."""

    blocks: int
    def __init__(self, blocks: int) -> None: ...
    def add(self, block: int, length: int = 1) -> bool:
        """One reference to each of `length` blocks. False: beyond the pool."""
    def get(self, block: int) -> int: ...
    def scan(self, page: Buffer, level: int, catalog: bool) -> tuple[list[tuple[int, int]], int, int, int]:
        """Count a node's references: (children, data blocks, end of the last one, first bad slot or -1)."""
    def compare(self, group: int, page: Buffer | None, first: int, last: int) -> tuple[
            int, int, int, list[tuple[int, int, int]], int, int, int]:
        """Compare a group with its page: (used in each half, referred to, differences, leaked, loose, wrong)."""
    def groups_in_use(self) -> list[int]: ...

def group_regions(page: Buffer, slot: int) -> int:
    """How many entries of a level-1 node the group has that begins at `slot`; 0: the entry refers to no sparse leaf."""

def sparse_start(page: Buffer) -> int:
    """The place of the first block of a sparse leaf."""

def sparse_end(page: Buffer) -> int:
    """Where the last block of a sparse leaf ends, counted as its places are."""

def data_blocks(page: Buffer, level: int) -> list[tuple[int, int, int]]:
    """The data blocks that a node refers to: [(slot, block, length), ...]; of a sparse leaf places instead of slots."""
