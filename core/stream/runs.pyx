"""Runs of a group: which blocks stand where in which frames, as a repository's pages have them, in order and without overlaps.

Pure: bytes from bytes, one pass each, whatever their number (docs/repositories.md, "The format"). Intervals are pairs of u32, the
first block and the one behind the last. What comes from a repository is checked by `check_runs` before anything else sees it.
"""
from core.base.memory cimport mem_new
from core.stream.runs cimport FRAME_NONE, lnt_interval, lnt_placed_run
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

cdef enum:
    BLOCK = 4096

RUN_BYTES = sizeof(lnt_placed_run)


cdef inline uint32_t end_of(const lnt_placed_run *run) noexcept nogil:
    return run.block + run.blocks


def check_runs(bytes runs not None, bytes frame_blocks not None, uint32_t group_blocks):
    """Whether all of it can be: `frame_blocks` are u32, the blocks of each frame."""
    cdef const char *raw = runs
    cdef const char *raw_frames = frame_blocks
    cdef const lnt_placed_run *run = <const lnt_placed_run *>raw
    cdef const uint32_t *blocks = <const uint32_t *>raw_frames
    cdef uint64_t before = 0, n = len(runs) // sizeof(lnt_placed_run), frames = len(frame_blocks) // 4, i
    if len(runs) % sizeof(lnt_placed_run):
        return False
    for i in range(n):
        if run[i].block < before or run[i].blocks == 0 or run[i].frame >= frames or (
                <uint64_t>run[i].first + run[i].blocks > blocks[run[i].frame]):
            return False
        before = <uint64_t>run[i].block + run[i].blocks
    return before <= group_blocks


def end_block(bytes runs not None):
    """The block behind the last one."""
    cdef const char *raw = runs
    cdef uint64_t n = len(runs) // sizeof(lnt_placed_run)
    return end_of(<const lnt_placed_run *>raw + n - 1) if n else 0


def total_blocks(bytes runs not None):
    cdef const char *raw = runs
    cdef const lnt_placed_run *run = <const lnt_placed_run *>raw
    cdef uint64_t total = 0, i
    for i in range(len(runs) // sizeof(lnt_placed_run)):
        total += run[i].blocks
    return total


cdef uint64_t put_without(lnt_placed_run *to, const lnt_placed_run *run, uint64_t n, const lnt_interval *cuts,
                          uint64_t n_cuts) noexcept nogil:
    """Runs outside of intervals. How many; never more than runs and intervals together."""
    cdef uint64_t made = 0, i, at = 0, here
    cdef uint32_t start, end, low, high
    for i in range(n):
        start, end = run[i].block, end_of(&run[i])
        while at < n_cuts and cuts[at].behind <= start:
            at += 1
        here = at
        while start < end:
            low = high = end
            if here < n_cuts and cuts[here].first < end:
                low, high = cuts[here].first, cuts[here].behind
            if low > start:
                to[made].block, to[made].blocks = start, low - start
                to[made].frame, to[made].first = run[i].frame, run[i].first + start - run[i].block
                made += 1
            start = high
            here += 1
    return made


def overlaid(bytes old not None, bytes cuts not None, bytes fresh not None):
    """What is left of old runs outside of intervals, and fresh ones, which lie within."""
    cdef const char *raw = old
    cdef const char *raw_cuts = cuts
    cdef const char *raw_fresh = fresh
    cdef const lnt_placed_run *new = <const lnt_placed_run *>raw_fresh
    cdef uint64_t n = len(old) // sizeof(lnt_placed_run), n_cuts = len(cuts) // sizeof(lnt_interval)
    cdef uint64_t n_new = len(fresh) // sizeof(lnt_placed_run), made = 0, i = 0, j = 0, left
    cdef lnt_placed_run *kept = <lnt_placed_run *>mem_new((n + n_cuts + 1) * sizeof(lnt_placed_run))
    cdef lnt_placed_run *to = <lnt_placed_run *>mem_new((n + n_cuts + n_new + 1) * sizeof(lnt_placed_run))
    try:
        if kept == NULL or to == NULL:
            raise MemoryError
        with nogil:
            left = put_without(kept, <const lnt_placed_run *>raw, n, <const lnt_interval *>raw_cuts, n_cuts)
            while i < left or j < n_new:
                if j == n_new or i < left and kept[i].block < new[j].block:
                    to[made] = kept[i]
                    i += 1
                else:
                    to[made] = new[j]
                    j += 1
                made += 1
        return (<const char *>to)[:made * sizeof(lnt_placed_run)]
    finally:
        free(kept)
        free(to)


cdef inline bint same_blocks(const lnt_placed_run *old, const lnt_placed_run *new) noexcept nogil:
    """Whether two runs have the same contents where they overlap."""
    return old.frame == new.frame and old.first + new.block == new.first + old.block


cdef uint64_t put_changes(lnt_placed_run *to, const lnt_placed_run *old, uint64_t n_old, const lnt_placed_run *new,
                          uint64_t n_new, uint32_t end) noexcept nogil:
    """Runs of what is new and runs of holes. How many; never more than twice as many as there are."""
    cdef uint64_t made = 0, i = 0, j = 0
    cdef uint32_t at = 0, old_at, new_at, until
    while (i < n_old or j < n_new) and at < end:
        old_at = max(at, old[i].block) if i < n_old else end
        new_at = max(at, new[j].block) if j < n_new else end
        at = min(old_at, new_at)
        until = min(end, end_of(&new[j]) if new_at == at else new_at)
        if i < n_old:
            until = min(until, end_of(&old[i]) if old_at == at else old_at)
        if until > at and not (old_at == new_at and same_blocks(&old[i], &new[j])):
            to[made].block, to[made].blocks = at, until - at
            to[made].frame = new[j].frame if new_at == at else FRAME_NONE
            to[made].first = new[j].first + at - new[j].block if new_at == at else 0
            made += 1
        at = until
        if i < n_old and end_of(&old[i]) <= at:
            i += 1
        if j < n_new and end_of(&new[j]) <= at:
            j += 1
    return made


def changes(bytes old not None, bytes new not None, uint32_t end):
    """What turns old runs into new ones, of blocks before `end`: runs of new data, and in their place runs of holes.

    Both count frames alike.
    """
    cdef const char *raw_old = old
    cdef const char *raw_new = new
    cdef uint64_t n_old = len(old) // sizeof(lnt_placed_run), n_new = len(new) // sizeof(lnt_placed_run), made
    cdef lnt_placed_run *to = <lnt_placed_run *>mem_new((2 * (n_old + n_new) + 1) * sizeof(lnt_placed_run))
    if to == NULL:
        raise MemoryError
    with nogil:
        made = put_changes(to, <const lnt_placed_run *>raw_old, n_old, <const lnt_placed_run *>raw_new, n_new, end)
    found = (<const char *>to)[:made * sizeof(lnt_placed_run)]
    free(to)
    return found


def with_data(bytes runs not None):
    """Those that are no holes."""
    cdef const char *raw = runs
    cdef const lnt_placed_run *run = <const lnt_placed_run *>raw
    cdef bytearray made = bytearray(len(runs))
    cdef char *raw_made = made
    cdef lnt_placed_run *to = <lnt_placed_run *>raw_made
    cdef uint64_t i, n = 0
    for i in range(len(runs) // sizeof(lnt_placed_run)):
        if run[i].frame != FRAME_NONE:
            to[n] = run[i]
            n += 1
    return bytes(made[:n * sizeof(lnt_placed_run)])


def renumbered(bytes runs not None, bytes numbers not None):
    """The same, each frame by its new number: a table of u32."""
    cdef const char *raw_numbers = numbers
    cdef const uint32_t *number = <const uint32_t *>raw_numbers
    cdef bytearray made = bytearray(runs)
    cdef char *raw = made
    cdef lnt_placed_run *run = <lnt_placed_run *>raw
    cdef uint64_t i, n = len(runs) // sizeof(lnt_placed_run), known = len(numbers) // 4
    for i in range(n):
        if run[i].frame >= known:
            raise IndexError("a frame without a number")
        run[i].frame = number[run[i].frame]
    return bytes(made)


def used_blocks(bytes runs not None, uint32_t frames):
    """How many blocks of each frame are referred to: u32."""
    cdef const char *raw = runs
    cdef const lnt_placed_run *run = <const lnt_placed_run *>raw
    cdef bytearray made = bytearray(4 * frames)
    cdef char *raw_made = made
    cdef uint32_t *used = <uint32_t *>raw_made
    cdef uint64_t i
    for i in range(len(runs) // sizeof(lnt_placed_run)):
        used[run[i].frame] += run[i].blocks
    return bytes(made)


def covered(bytes runs not None, bytes marked not None):
    """The intervals that runs of marked frames cover: `marked` has a byte a frame."""
    cdef const char *raw = runs
    cdef const char *mark = marked
    cdef const lnt_placed_run *run = <const lnt_placed_run *>raw
    cdef uint64_t i, n = len(runs) // sizeof(lnt_placed_run), made = 0
    cdef bytearray out = bytearray(n * sizeof(lnt_interval))
    cdef char *raw_out = out
    cdef lnt_interval *to = <lnt_interval *>raw_out
    for i in range(n):
        if mark[run[i].frame]:
            if made and to[made - 1].behind == run[i].block:
                to[made - 1].behind = end_of(&run[i])
            else:
                to[made].first, to[made].behind = run[i].block, end_of(&run[i])
                made += 1
    return bytes(out[:made * sizeof(lnt_interval)])


def by_frame(bytes runs not None, uint32_t frames):
    """The same runs, those of a frame together, frames in order; and where each frame's begin, and the last one's end: u32."""
    cdef const char *raw = runs
    cdef const lnt_placed_run *run = <const lnt_placed_run *>raw
    cdef uint64_t i, n = len(runs) // sizeof(lnt_placed_run)
    cdef bytearray made = bytearray(len(runs)), starts = bytearray(4 * (frames + 2))
    cdef char *raw_made = made
    cdef char *raw_starts = starts
    cdef lnt_placed_run *to = <lnt_placed_run *>raw_made
    cdef uint32_t *start = <uint32_t *>raw_starts + 1       # behind a 0; each is the end of the one before while they are placed
    for i in range(n):
        start[run[i].frame + 1] += 1
    for i in range(frames):
        start[i + 1] += start[i]
    for i in range(n):
        to[start[run[i].frame]] = run[i]
        start[run[i].frame] += 1
    return bytes(made), bytes(starts[:4 * (frames + 1)])


def place(bytes runs not None, const unsigned char[::1] raw not None, unsigned char[::1] into not None):
    """Put what a frame holds where its runs say, in the memory of a group."""
    cdef const char *raw_runs = runs
    cdef const lnt_placed_run *run = <const lnt_placed_run *>raw_runs
    cdef uint64_t i, n = len(runs) // sizeof(lnt_placed_run), here = raw.shape[0], there = into.shape[0]
    for i in range(n):
        if (<uint64_t>run[i].first + run[i].blocks) * BLOCK > here or (<uint64_t>run[i].block + run[i].blocks) * BLOCK > there:
            raise ValueError("runs reach beyond their data")
    if n:
        with nogil:
            for i in range(n):
                memcpy(&into[0] + <uint64_t>run[i].block * BLOCK, &raw[0] + <uint64_t>run[i].first * BLOCK,
                       <uint64_t>run[i].blocks * BLOCK)
