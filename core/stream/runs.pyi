"""Runs of a group: which blocks stand where in which frames, 16 bytes each, in order (docs/repositories.md, "The format").

Intervals are pairs of u32, the first block and the one behind the last. Pure; time is that of one pass.
"""

from typing_extensions import Buffer

RUN_BYTES: int

def check_runs(runs: bytes, frame_blocks: bytes, group_blocks: int) -> bool:
    """Whether all of it can be: `frame_blocks` are u32, the blocks of each frame. What comes from outside is asked first."""

def end_block(runs: bytes) -> int:
    """The block behind the last one."""

def total_blocks(runs: bytes) -> int:
    """All blocks together."""

def overlaid(old: bytes, cuts: bytes, fresh: bytes) -> bytes:
    """What is left of old runs outside of intervals, and fresh ones, which lie within."""

def changes(old: bytes, new: bytes, end: int) -> bytes:
    """What turns old runs into new ones, of blocks before `end`: runs of new data, and in their place runs of holes."""

def with_data(runs: bytes) -> bytes:
    """Those that are no holes."""

def renumbered(runs: bytes, numbers: bytes) -> bytes:
    """The same, each frame by its new number: a table of u32. IndexError."""

def used_blocks(runs: bytes, frames: int) -> bytes:
    """How many blocks of each frame are referred to: u32."""

def covered(runs: bytes, marked: bytes) -> bytes:
    """The intervals that runs of marked frames cover: `marked` has a byte a frame."""

def by_frame(runs: bytes, frames: int) -> tuple[bytes, bytes]:
    """The same runs, those of a frame together, frames in order; and where each one's begin, and the last one's end: u32."""

def place(runs: bytes, raw: Buffer, into: Buffer) -> None:
    """Put what a frame holds where its runs say, in the memory of a group. ValueError when they reach beyond."""
