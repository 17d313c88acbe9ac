"""Windows onto the page cache: what may be read and written there by a copy, and what becomes of it."""

import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.wire.window import Windows
from tests.support.wire import FINAL, READ, WRITE, Rig, Wire, figures, rig, rw

PAGE, WINDOW, WINDOWS_MAX, SECOND = 4096, 128 << 20, 128, 1_000_000


@contextmanager
def page_cached(path: Path) -> Iterator[tuple[Rig, Wire]]:
    """A pool there, and a connection to its volume, where windows are to be had."""
    with rig(path) as r:
        if not figures(r, "windows_enabled")[0]:
            pytest.skip("the test directory is on a file system without windows")
        yield r, r.wire()


def opened(path: Path, size_bytes: int) -> int:
    """A new sparse file of that size."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.truncate(fd, size_bytes)
    return fd


def test_a_window_shows_what_a_system_call_left_in_the_page_cache(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", 2 * WINDOW)
    windows = Windows(fd)
    data = os.urandom(200 * PAGE)
    os.pwrite(fd, data, 60 * PAGE)
    assert windows.read(60 * PAGE, PAGE) is None, "nobody has said so"
    windows.note(60 * PAGE, len(data))
    assert windows.read(60 * PAGE, len(data)) == data
    assert windows.read(61 * PAGE + 512, 1024) == data[PAGE + 512:PAGE + 1536]
    assert windows.read(59 * PAGE, 2 * PAGE) is None
    assert windows.read(259 * PAGE, 2 * PAGE) is None
    os.pwrite(fd, b"new", 61 * PAGE + 512)
    assert windows.read(61 * PAGE + 512, 3) == b"new", "it is the page cache, not a copy of it"
    windows.note(WINDOW - PAGE, 2 * PAGE)
    assert windows.read(WINDOW - PAGE, PAGE) is None, "what lies in two windows is left to system calls"
    os.close(fd)


WAIT_US, WAITS = 1000, 51       # of the disk, and more of them than may be at once where nothing was saved
WAITS_PART = 50                 # of all time they may be
SAVED_US = 1                    # by a copy ...
SAVED_MOST_US = 300_000         # ... and what may be waited for all of them


def waited(windows: Windows, now_us: int) -> None:
    for _ in range(WAITS):
        windows.waited(0, PAGE, WAIT_US, now_us, 1)


def test_a_group_is_forgotten_when_a_copy_has_waited_for_the_disk(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    windows.note(0, 3 * GROUP * PAGE)
    windows.waited(GROUP * PAGE, PAGE, WAIT_US, SECOND, 0)
    assert windows.read(GROUP * PAGE, PAGE) is not None, "it only lost its core"
    for number in range(3 * WAITS):
        windows.waited((GROUP + number) * PAGE, PAGE, WAIT_US, SECOND + number * WAIT_US * WAITS_PART, 1)
        assert windows.read(GROUP * PAGE, PAGE) is windows.read((2 * GROUP - 1) * PAGE, PAGE) is None
        assert windows.read(0, GROUP * PAGE) is not None, "few waits say nothing of the others"
        assert windows.read(2 * GROUP * PAGE, GROUP * PAGE) is not None
        windows.note(GROUP * PAGE, GROUP * PAGE)
        assert windows.read(GROUP * PAGE, PAGE) is not None
    windows.waited((2 * GROUP - 1) * PAGE, 2 * PAGE, WAIT_US, 9 * SECOND, 1)
    assert windows.read(GROUP * PAGE, PAGE) is windows.read(2 * GROUP * PAGE, PAGE) is None, "which page has gone it can't tell"
    assert windows.read(0, PAGE) is not None
    os.close(fd)


def test_windows_rest_when_copies_wait_for_the_disk(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", 2 * WINDOW)
    windows = Windows(fd)
    windows.note(WINDOW, PAGE)
    now = 2 * SECOND
    for pause in (SECOND, 2 * SECOND, 4 * SECOND):
        waited(windows, now)
        windows.note(WINDOW, PAGE)
        assert windows.read(WINDOW, PAGE) is None
        windows.turn(now + pause - 1)
        windows.note(WINDOW, PAGE)
        assert windows.read(WINDOW, PAGE) is None
        now += pause
        windows.turn(now)
        assert windows.read(WINDOW, PAGE) is None, "nothing is known of before"
        windows.note(WINDOW, PAGE)
        assert windows.read(WINDOW, PAGE) is not None
    waited(windows, now + 100 * SECOND)
    windows.turn(now + 101 * SECOND)
    windows.note(WINDOW, PAGE)
    assert windows.read(WINDOW, PAGE) is not None, "that was long ago"
    os.close(fd)


def test_what_copies_save_may_be_waited_for(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    for copies in (0, 40_000, 1_000_000):
        windows.note(0, 2 * PAGE)
        for _ in range(copies):
            windows.read(0, 2 * PAGE)
        windows.waited(GROUP * PAGE, PAGE, min(copies * SAVED_US, SAVED_MOST_US), 1, 1)
        assert windows.read(0, PAGE) is not None, "it was saved, and first what time allows was there, too"
    windows.waited(GROUP * PAGE, PAGE, 2 * SAVED_US, 1, 1)
    assert windows.read(0, PAGE) is None
    windows.turn(2 * SECOND)
    windows.note(0, PAGE)
    for _ in range(100_000):
        windows.read(0, PAGE)
    windows.waited(GROUP * PAGE, PAGE, WAIT_US * WAITS, 2 * SECOND, 1)
    assert windows.read(0, PAGE) is None, "a pause was a moment ago: what is saved says little"
    os.close(fd)


def test_windows_are_bounded_and_idle_ones_make_room(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", (WINDOWS_MAX + 1) * WINDOW)
    os.pwrite(fd, b"last", WINDOWS_MAX * WINDOW)
    windows = Windows(fd)
    windows.turn(SECOND)
    for index in range(WINDOWS_MAX + 1):
        windows.note(index * WINDOW, PAGE)
    assert windows.opened == WINDOWS_MAX
    assert windows.read(WINDOWS_MAX * WINDOW, 4) is None, "all of them were in use a moment ago"
    windows.turn(3 * SECOND)
    for index in range(1, WINDOWS_MAX):
        assert windows.read(index * WINDOW, PAGE) is not None
    for _ in range(WINDOWS_MAX):
        windows.note(WINDOWS_MAX * WINDOW, PAGE)
    assert windows.read(WINDOWS_MAX * WINDOW, 4) == b"last"
    assert windows.read(0, PAGE) is None, "that one was idle"
    assert windows.read(WINDOW, PAGE) is not None
    assert windows.opened == WINDOWS_MAX
    os.close(fd)


def test_a_truncated_page_cached_pool_fails_reads_not_the_process(tmp_path: Path) -> None:
    path = tmp_path / "pool"
    with page_cached(path) as (r, w):
        data = os.urandom(65536)
        w.command(rw(0x2A, 0, 128), data, flags=FINAL | WRITE, edtl=65536)
        assert w.receive().status == 0

        def read() -> bytes:
            w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
            return w.gather()[0]

        while r.reactor.stats()["loop"]["window_copies"] < 50:
            assert read() == data                # the first ones may not be tried in the cache
        os.truncate(path, 4096)
        w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
        pdu = w.receive()
        assert (pdu.status, pdu.key) == (2, (3, 0x1100))
        os.truncate(path, 64 << 20)


def test_what_a_snapshot_has_scattered_is_read_by_copies_of_its_parts(tmp_path: Path) -> None:
    with page_cached(tmp_path / "pool") as (r, w):
        r.pool.order(False)
        blocks = [os.urandom(PAGE) for _ in range(16)]

        def write(block: int, data: bytes) -> None:
            w.command(rw(0x2A, block * 8, len(data) // 512), data, flags=FINAL | WRITE, edtl=len(data))
            assert w.receive().status == 0

        def read() -> bytes:
            w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
            return w.gather()[0]

        write(0, b"".join(blocks))
        before = r.pool.stats()["objects"]
        r.pool.start("snapshot", pairs=[(r.volume, "v@a")])
        r.until(lambda: r.pool.stats()["objects"] > before)
        for block in range(1, 16, 2):
            blocks[block] = os.urandom(PAGE)
            write(block, blocks[block])
        for _ in range(50):
            assert read() == b"".join(blocks)    # the first ones may not be tried in the cache
        copies, reads = figures(r, "window_copies", "device_reads")
        assert read() == b"".join(blocks)
        assert figures(r, "window_copies", "device_reads") == [copies + 2, reads + 2], "a request a run, each by copies"


GROUP, DIRTY, WRITES, SURPRISES, JUDGED = 512, 410, 768, 16, 32


def wrote(windows: Windows, fd: int, pages: int, first: int = 0) -> None:
    """By a system call."""
    os.pwrite(fd, bytes(pages * PAGE), first * PAGE)
    windows.note(first * PAGE, pages * PAGE)
    windows.wrote(first * PAGE, pages * PAGE)


def heated(windows: Windows, fd: int, times: int = 2) -> None:
    """The first 2 MiB of the file, in this epoch."""
    for _ in range(times):
        wrote(windows, fd, GROUP)


def synced(windows: Windows, now_us: int = SECOND) -> None:
    """By any reactor; this one's next turn sees it."""
    windows.sync_begins()
    windows.sync_ended(now_us)
    windows.turn(now_us)


def test_what_is_dirty_and_written_again_is_written_by_a_copy(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    data = os.urandom(PAGE)
    for _ in range(2):
        wrote(windows, fd, DIRTY - 1)
    assert not windows.rewrite(0, data), "the kernel may make all 512 dirty"
    windows = Windows(fd)
    for first, pages in ((0, 256), (0, 256), (GROUP - 255, WRITES - 1 - 2 * 256)):
        wrote(windows, fd, pages, first)
    assert not windows.rewrite(0, data), "most were written once"
    wrote(windows, fd, GROUP, GROUP)
    assert not windows.rewrite(0, data), "another group"
    wrote(windows, fd, 1)
    assert windows.rewrite(7 * PAGE, data)
    assert os.pread(fd, PAGE, 7 * PAGE) == data
    assert windows.rewrite(8 * PAGE + 512, data[:1024])
    assert os.pread(fd, 1024, 8 * PAGE + 512) == data[:1024]
    assert not windows.rewrite(511 * PAGE, data * 2), "the second page lies in a group that is not hot"
    assert not windows.rewrite(0, bytes(5 * PAGE)), "long ones are no dearer by a call"
    os.close(fd)


def test_a_file_that_is_open_for_reading_is_only_read(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    reading = os.open(tmp_path / "file", os.O_RDONLY)
    windows = Windows(reading)
    heated(windows, fd)
    assert windows.read(0, 4) == bytes(4)
    assert not windows.rewrite(0, bytes(PAGE))
    os.close(reading)
    os.close(fd)


def test_a_hot_group_stays_so_for_one_sync_and_longer_only_where_it_is_written_again(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    heated(windows, fd)
    synced(windows)
    assert not windows.rewrite(0, bytes(PAGE)), "a fault a page would cost more than it saves"
    heated(windows, fd, 4)
    synced(windows)
    for _ in range(4):
        for page in range(GROUP):
            assert windows.rewrite(page * PAGE, bytes(PAGE))
    synced(windows)
    assert windows.rewrite(0, bytes(PAGE)), "what is written by copies counts"
    synced(windows)
    assert not windows.rewrite(0, bytes(PAGE)), "once in an epoch is too little"
    os.close(fd)


def test_where_no_sync_has_been_for_a_while_a_group_is_hot_the_sooner(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    synced(windows, 2 * SECOND)

    def few_written() -> bool:
        wrote(windows, fd, 192)
        wrote(windows, fd, 64)
        return windows.rewrite(0, bytes(PAGE))

    windows.turn(5 * SECOND)
    assert not few_written(), "the sync was three seconds ago"
    windows.sync_begins()
    windows.sync_ended(6 * SECOND)
    windows.turn(10 * SECOND)       # the thread slept
    assert few_written(), "it counts from the end of the sync, not from when it was seen"
    synced(windows, 11 * SECOND)
    windows.turn(16 * SECOND)
    wrote(windows, fd, 191)
    wrote(windows, fd, 65)
    assert not windows.rewrite(0, bytes(PAGE)), "the kernel may make all 512 dirty"
    os.close(fd)


def test_only_pages_that_a_call_has_seen_are_written_by_a_copy(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    for _ in range(2):
        wrote(windows, fd, DIRTY)
    assert windows.rewrite((DIRTY - 1) * PAGE, bytes(PAGE))
    assert not windows.rewrite(DIRTY * PAGE, bytes(PAGE)), "it may be a hole, or not be in memory"
    waited(windows, SECOND)
    assert not windows.rewrite(0, bytes(PAGE)), "memory is short"
    os.close(fd)


def test_pages_that_fault_again_end_an_epoch(tmp_path: Path) -> None:
    """Somebody else has written them back. A file system in memory has nothing to write back, and then nothing faults."""
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    heated(windows, fd, 4)

    def rewritten() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for page in 4 * [*range(GROUP)]:
            assert windows.rewrite(page * PAGE, bytes(PAGE))
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    rewritten()
    windows.judge()
    epoch = windows.epoch
    assert epoch == 1, "each page is expected to fault once"
    os.fdatasync(fd)
    windows.sync_begins()
    rewritten()
    windows.judge()
    assert windows.epoch == epoch, "a sync of our own ends the epoch when it is over, not before"
    windows.sync_ended(SECOND)
    windows.turn(SECOND)
    assert windows.epoch == epoch + 1
    rewritten()
    windows.judge()
    epoch = windows.epoch
    os.fdatasync(fd)
    faults = rewritten()
    windows.judge()
    if faults <= SURPRISES:
        assert windows.epoch == epoch
        return os.close(fd)
    assert windows.epoch == epoch + 1
    rewritten()
    os.fdatasync(fd)
    surprises = rewritten()
    windows.judge()
    assert windows.epoch == epoch + 1, "it came past each page once more"
    while surprises <= 2 * GROUP:
        os.fdatasync(fd)
        surprises += rewritten()
    windows.judge()
    assert windows.epoch == epoch + 2
    return os.close(fd)


def test_a_few_pages_of_many_that_fault_again_end_no_epoch(tmp_path: Path) -> None:
    """A kernel that takes idle pages away does so one by one: who writes back comes past them all."""
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    for _ in range(4):
        wrote(windows, fd, 4 * GROUP)
    for page in range(4 * GROUP):
        assert windows.rewrite(page * PAGE, bytes(PAGE))
    windows.judge()
    for epoch in (1, 2):
        assert windows.rewrite(0, bytes(PAGE))
        with mmap.mmap(-1, 18 * PAGE) as strange:       # any memory's faults count
            strange.madvise(mmap.MADV_NOHUGEPAGE)
            for page in range(18):
                strange[page * PAGE] = 1
        for page in range(JUDGED):
            assert windows.rewrite(page * PAGE, bytes(PAGE))
        windows.judge()
        assert windows.epoch == epoch, "18 of 2,048 are less than one of 64, 36 are more"
    os.close(fd)


def test_what_was_written_by_a_copy_is_on_the_medium_after_a_sync(tmp_path: Path) -> None:
    fd = opened(tmp_path / "file", WINDOW)
    windows = Windows(fd)
    data = os.urandom(64 * PAGE)
    heated(windows, fd)
    os.fdatasync(fd)
    for page in range(64):
        assert windows.rewrite(page * PAGE, data[page * PAGE:(page + 1) * PAGE])
    os.fdatasync(fd)
    del windows                                  # mapped pages are not dropped from the cache
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, len(data), 0) == data
    os.close(fd)


def overwritten(r: Rig, w: Wire) -> None:
    """The volume's first 2 MiB, until a write is one by a copy; all of it holds one byte."""
    for attempt in range(1000):
        data = bytes([attempt % 255 + 1])
        for at in range(0, 4096, 32):
            w.command(rw(0x2A, at, 32), data * 16384, flags=FINAL | WRITE, edtl=16384)
            assert w.receive().status == 0
        if figures(r, "window_rewrites")[0] >= 128:
            return
    pytest.fail("no write by a copy")


def test_writes_by_a_copy_read_back_and_survive(tmp_path: Path) -> None:
    path = tmp_path / "pool"
    with page_cached(path) as (r, w):
        overwritten(r, w)
        w.command(rw(0x2A, 8, 8), b"\xee" * 4096, flags=FINAL | WRITE, edtl=4096)
        assert w.receive().status == 0
        w.command(rw(0x28, 0, 24), flags=FINAL | READ, edtl=12288)
        data = w.gather()[0]
        assert data[4096:8192] == b"\xee" * 4096
        assert data[:4096] == data[8192:] == data[:1] * 4096
        assert data[4096:8192] in path.read_bytes(), "who reads the file sees it"


def test_a_truncated_page_cached_pool_ends_no_process_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "pool"
    with page_cached(path) as (r, w):
        overwritten(r, w)
        os.truncate(path, 4096)
        w.command(rw(0x2A, 8, 8), b"\xee" * 4096, flags=FINAL | WRITE, edtl=4096)
        assert w.receive() is not None
        os.truncate(path, 64 << 20)
