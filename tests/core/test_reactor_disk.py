"""The reactor's device: memory-backed pools, shrunken files, failing media."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.wire.lone import Lone
from core.wire.reactor import CommandEvent
from core.wire.throttle import Throttle
from tests.support.wire import FINAL, READ, WRITE, Rig, Wire, figures, rig, rw

SHM = Path("/dev/shm")


@pytest.mark.skipif(not os.access(SHM, os.W_OK), reason="no writable tmpfs at /dev/shm")
def test_a_truncated_memory_backed_pool_fails_reads_not_the_process() -> None:
    path = SHM / f"lunette-test-{os.getpid()}.pool"
    try:
        with rig(path) as r:
            w = r.wire()
            assert r.reactor.stats()["loop"]["mapped_bytes"] == 64 << 20
            data = os.urandom(65536)
            w.command(rw(0x2A, 0, 128), data, flags=FINAL | WRITE, edtl=65536)
            assert w.receive().status == 0
            w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
            assert w.gather()[0] == data
            os.truncate(path, 4096)
            w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
            pdu = w.receive()
            assert (pdu.status, pdu.key) == (2, (3, 0x1100))
            assert r.reactor.stats()["luns"][0]["errors"] == 1
            os.truncate(path, 64 << 20)
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("inline_io", [False, True])
def test_io_through_the_ring_and_inline_is_the_same(tmp_path: Path, inline_io: bool) -> None:
    with rig(tmp_path / "pool", inline_io=inline_io) as r:
        w = r.wire()
        data = os.urandom(65536)
        for lba in (0, 7, 4096):
            w.command(rw(0x2A, lba, 128, 8), data, flags=FINAL | WRITE, edtl=65536)
            assert w.receive().status == 0
            w.command(rw(0x28, lba, 128), flags=FINAL | READ, edtl=65536)
            assert w.gather()[0] == data
        assert r.reactor.stats()["loop"]["device_syncs"] > 0
        w.command(b"\xc1" + bytes(15))
        assert r.event(CommandEvent)


def huge_page_areas() -> list[tuple[int, int]]:
    """Start and length of every area of this process that asks for huge pages."""
    areas: list[tuple[int, int]] = []
    start = end = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split(None, 1)[0]
        if first == "VmFlags:" and "hg" in line.split():
            areas.append((start, end - start))
        elif not first.endswith(":"):
            start, end = (int(x, 16) for x in first.split("-"))
    return areas


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no transparent huge pages")
def test_big_buffers_lie_in_huge_pages_which_go_with_the_reactor(tmp_path: Path) -> None:
    before = huge_page_areas()
    with rig(tmp_path / "pool", buffer_bytes=24 << 20, max_transfer_bytes=4 << 20) as r:
        for _ in range(2):                  # a reactor may be started again
            r.reactor.start()
            w = r.wire()
            for blocks, length in ((8, 0), (256, 6 << 20), (4096, 8 << 20)):    # nothing, the arena, one beside it
                w.command(rw(0x28, 0, blocks), flags=FINAL | READ, edtl=blocks * 512)
                w.gather()
                found = set(huge_page_areas()) - set(before)
                assert sum(n for _, n in found) == length
                assert all(start % (2 << 20) == 0 for start, _ in found)
            r.reactor.stop()
            assert huge_page_areas() == before


def test_reads_of_a_page_cached_file_need_no_completion(tmp_path: Path) -> None:
    path = tmp_path / "pool"
    with rig(path) as r:
        if r.reactor.stats()["loop"]["inline_io"]:
            pytest.skip("the test directory is in memory itself")
        w = r.wire()
        data = os.urandom(65536)
        w.command(rw(0x2A, 0, 128), data, flags=FINAL | WRITE, edtl=65536)
        assert w.receive().status == 0

        def cqes_per_read() -> float:
            before = int(r.reactor.stats()["loop"]["cqes"])
            for _ in range(100):
                w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
                assert w.gather()[0] == data
            return (int(r.reactor.stats()["loop"]["cqes"]) - before) / 100

        cqes_per_read()                          # the first read may find the cache worth trying only after some misses
        assert cqes_per_read() < 1.5             # the command's own arrival
        fd = os.open(path, os.O_RDWR)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        w.command(rw(0x28, 0, 128), flags=FINAL | READ, edtl=65536)
        assert w.gather()[0] == data             # whatever part of it had to come from the disk


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """This thread, and what it starts, runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("batch", "inline_io"), [(1, False), (8, True)])
def test_an_initiator_that_waits_for_the_answer_is_waited_for_awake(tmp_path: Path, batch: int, inline_io: bool) -> None:
    def wakeups_per_batch(poll_us: int) -> float:
        with rig(tmp_path / f"pool{poll_us}", inline_io=inline_io, poll_us=poll_us, cpu=cores[0]) as r:
            w = r.wire()
            w.command(rw(0x2A, 0, 8), bytes(4096), flags=FINAL | WRITE, edtl=4096)
            assert w.receive().status == 0
            before = int(r.reactor.stats()["loop"]["wakeups"])
            for _ in range(100):
                w.sock.sendall(b"".join(w.pdu(w.command_bhs(rw(0x28, 0, 8), flags=FINAL | READ, edtl=4096))
                                        for _ in range(batch)))
                for _ in range(batch):
                    w.exp_stat_sn = int.from_bytes(w.gather()[1].bhs[24:28], "big") + 1
            return (int(r.reactor.stats()["loop"]["wakeups"]) - before) / 100

    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        pytest.skip("there is one core, which the initiator needs")
    with on_core(cores[1]):
        assert wakeups_per_batch(0) >= 0.5
        assert wakeups_per_batch(1000000) < 0.5  # spun for, both a device that takes its time and the next commands


def test_nobody_spins_while_a_sync_is_under_way(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", inline_io=False, poll_us=1000000) as r:
        w = r.wire()
        before = int(r.reactor.stats()["loop"]["wakeups"])
        for _ in range(50):
            for cdb, data, flags in ((rw(0x2A, 0, 8), bytes(4096), FINAL | WRITE), (rw(0x35, 0, 0), b"", FINAL)):
                w.command(cdb, data, flags=flags, edtl=len(data))
                w.exp_stat_sn = int.from_bytes(w.receive().bhs[24:28], "big") + 1
        assert int(r.reactor.stats()["loop"]["wakeups"]) - before >= 50    # a sync is waited for asleep


@pytest.mark.parametrize("direct", [False, True])
def test_a_lone_sync_is_waited_for_by_the_thread_that_has_nothing_else_to_do(tmp_path: Path, direct: bool) -> None:
    with rig(tmp_path / "pool", direct=direct) as r:
        if r.reactor.stats()["loop"]["inline_io"]:
            pytest.skip("the test directory is in memory itself")
        w = r.wire()
        for number in range(300):           # a slow or a busy medium takes long now and then: then the ring has it
            for cdb, data, flags in ((rw(0x2A, 0, 8), bytes([number % 256]) * 4096, FINAL | WRITE), (rw(0x35, 0, 0), b"", FINAL)):
                w.command(cdb, data, flags=flags, edtl=len(data))
                assert w.receive().status == 0
            if figures(r, "own_syncs")[0] >= 3:
                break
        own, syncs = figures(r, "own_syncs", "device_syncs")
        assert own <= max(syncs - 16, 0), "those before were short, and nobody spoke meanwhile"
        w.command(rw(0x28, 0, 8), flags=FINAL | READ, edtl=4096)
        assert w.gather()[0] == bytes([number % 256]) * 4096
        if not own:
            pytest.skip("syncs of the test directory are not short now")


LITTLE = 4096


def quiet(lone: Lone, syncs: int, *, heard: bool = False, took_us: int = 100) -> list[bool]:
    """So many syncs of one command alone, one after the other: which of them are the thread's own."""
    found = []
    for number in range(syncs):
        found.append(lone.takes(number * 10_000, number * LITTLE))
        lone.synced(number * 10_000 + took_us, heard)
    return found


def test_a_sync_is_the_threads_own_once_sixteen_were_short_and_kept_nobody_waiting() -> None:
    lone = Lone()
    assert quiet(lone, 18) == [False] * 16 + [True] * 2
    assert not any(quiet(Lone(), 40, heard=True)), "somebody speaks in each"
    assert not any(quiet(Lone(), 40, took_us=1_001)), "the medium is slow"


@pytest.mark.parametrize("fields", [{"awaited": False}, {"only": False}, {"written_bytes": 17 * LITTLE + (256 << 10)}])
def test_a_sync_is_the_rings_where_others_want_it_or_much_was_written(fields: dict[str, Any]) -> None:
    lone = Lone()
    quiet(lone, 17)
    assert not lone.takes(**{"now_us": 0, "written_bytes": 17 * LITTLE} | fields)
    lone.synced(100)
    assert lone.takes(0, fields.get("written_bytes", 17 * LITTLE)), "it was that one only"


def test_one_that_speaks_during_a_sync_sends_those_behind_it_to_the_ring() -> None:
    lone = Lone()
    quiet(lone, 16)
    assert lone.takes(0, 16 * LITTLE)
    lone.synced(100, True)
    assert quiet(lone, 17) == [False] * 16 + [True]


def test_one_that_takes_long_sends_four_behind_it_to_the_ring_and_one_in_four_all() -> None:
    lone = Lone()
    quiet(lone, 16)
    assert lone.takes(0, 16 * LITTLE)
    lone.synced(1_001)
    assert quiet(lone, 6) == [False] * 4 + [True] * 2
    for _ in range(16):
        quiet(lone, 3)
        quiet(lone, 1, took_us=1_001)
    assert not any(quiet(lone, 8))


def read_blocks(w: Wire, count: int) -> None:
    """So many reads of different blocks at once, each answered with its own."""
    w.sock.sendall(b"".join(w.pdu(w.command_bhs(rw(0x28, 8 * number, 8), flags=FINAL | READ, edtl=4096, itt=number))
                            for number in range(count)))
    for _ in range(count):
        data, last = w.gather()
        assert data == bytes([last.itt + 1]) * 4096


def written(r: Rig, count: int) -> Wire:
    """A connection to a volume whose first blocks hold their number and one."""
    w = r.wire()
    for number in range(count):
        w.command(rw(0x2A, 8 * number, 8), bytes([number + 1]) * 4096, flags=FINAL | WRITE, edtl=4096)
        assert w.receive().status == 0
    return w


def test_a_batch_is_given_to_the_device_a_few_requests_at_a_time(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", inline_io=False) as r:
        w = written(r, 32)
        (before,) = figures(r, "starts")
        read_blocks(w, 32)
        assert figures(r, "starts")[0] - before >= 4


@pytest.mark.parametrize("poll_us", [0, 50])
def test_a_device_is_watched_for_a_bounded_time_a_request(tmp_path: Path, poll_us: int) -> None:
    with rig(tmp_path / "pool", inline_io=False, poll_us=poll_us) as r:
        w = written(r, 32)
        for attempt in range(1000):          # not while a sync is under way, which may be at any time
            read_blocks(w, 32)
            if attempt >= 10 and (figures(r, "watches") != [0] or not poll_us):
                break
        watches, watched_us, reads, writes = figures(r, "watches", "watched_us", "device_reads", "device_writes")
        assert (watches > 0) == (poll_us > 0)
        assert watched_us <= 16 * (reads + writes + sum(figures(r, "device_read_bytes", "device_write_bytes")) // 32768)


def test_a_write_whose_data_come_after_it_is_waited_for_awake(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        pytest.skip("there is one core, which the initiator needs")
    with rig(tmp_path / "pool", inline_io=False, poll_us=1000000, cpu=cores[0]) as r, on_core(cores[1]):
        w = written(r, 1)
        before, writes = figures(r, "wakeups")[0], 200
        for number in range(writes):
            pdu = w.pdu(w.command_bhs(rw(0x2A, 0, 8), flags=FINAL | WRITE, edtl=4096), bytes([number]) * 4096)
            seen = figures(r, "cqes")
            w.sock.sendall(pdu[:48])
            r.until(lambda seen=seen: figures(r, "cqes") > seen)    # type: ignore[misc]
            w.sock.sendall(pdu[48:])
            w.exp_stat_sn = w.receive().stat_sn + 1
        assert figures(r, "wakeups")[0] - before < writes // 2


def test_reads_that_waited_are_answered_with_their_own_data(tmp_path: Path) -> None:
    with rig(tmp_path / "pool", inline_io=False) as r:    # the kernel answers by itself what its page cache has
        w = written(r, 32)
        for _ in range(1000):
            read_blocks(w, 32)
            if figures(r, "device_held_reads")[0] >= 100:
                break
        assert figures(r, "device_held_reads")[0] >= 100
        r.until(lambda: figures(r, "device_in_flight") == [0])


@pytest.mark.parametrize("apart", [0, 1])
def test_nobody_is_waited_for_awake_on_the_core_that_he_needs_himself(tmp_path: Path, apart: int) -> None:
    """A spin on the core from which the initiator sends keeps it from sending."""
    cores = sorted(os.sched_getaffinity(0))
    if apart >= len(cores):
        pytest.skip("there is one core")
    with rig(tmp_path / "pool", poll_us=50, cpu=cores[0]) as r:
        w = r.wire()
        with on_core(cores[apart]):
            for _ in range(1000):                    # not while a sync is under way, which may be at any time
                w.command(bytes(6))
                w.exp_stat_sn = w.receive().stat_sn + 1
                if figures(r, "spins") != [0]:
                    break
        assert (figures(r, "spins") != [0]) == bool(apart)


def test_a_write_that_the_kernel_holds_back_sends_those_behind_it_to_workers() -> None:
    """For 10 ms; twice as long each time that it soon happens again, up to 200 ms; and not for what only looks like it."""
    throttle = Throttle()
    throttle.wrote(0, 2_000, True, False)
    assert not throttle.throttled(2_000), "not long"
    throttle.wrote(10_000, 20_000, False, False)
    assert not throttle.throttled(20_000), "it was busy, not asleep"
    now = 1_000_000
    for pause in (10_000, 20_000, 40_000, 80_000, 160_000, 200_000, 200_000):
        throttle.wrote(now - 4_000, now, True, False)
        assert throttle.throttled(now + pause - 1)
        assert not throttle.throttled(now + pause)
        now += pause + 4_000
    now += 10_000_000
    throttle.wrote(now - 4_000, now, True, False)
    assert not throttle.throttled(now + 10_000), "that was long ago"


def test_a_hole_on_its_way_is_no_throttling() -> None:
    """Writes wait for the lock that the hole has, whoever performs them: by way of the ring they would wait longer."""
    throttle = Throttle()
    throttle.wrote(0, 50_000, True, True)
    assert not throttle.throttled(50_000)
