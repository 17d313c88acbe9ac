"""The benchmarks' own arithmetic and safeguards; nothing here looks at a clock."""

import itertools
import math
import shutil
import socket
import subprocess
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import _bare, _initiator, clients, contention, fio, goals, initiator, machine, measure, procstat, report, summary, svg
from bench.compare import ceiling
from bench.compare.lab import Lab
from bench.peers import Tgt
from bench.targets import Target, TargetError, rest


def record(target: str, rep: int, iops: float) -> dict[str, object]:
    return {"suite": "s", "case": "c", "medium": "tmpfs", "target": target, "rep": rep, "iops": iops}


def test_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    ours = [record("lunette", 0, 40.0), record("lunette", 1, 10.0), record("lunette", 2, 90.0)]
    theirs = [record("tgt", 0, 10.0), record("tgt", 1, 2.0), record("tgt", 2, 30.0)]
    assert summary.paired_ratio(ours, theirs) == 4.0
    row = next(r for r in summary.rows(ours + theirs) if r["target"] == "lunette")
    assert (row["iops"], row["ratio"], row["spread"]) == (40.0, 4.0, 2.0)


def test_unpaired_repetitions_give_no_ratio() -> None:
    assert math.isnan(summary.paired_ratio([record("lunette", 0, 1.0)], [record("tgt", 1, 1.0)]))


def test_a_result_names_its_file_systems_options(tmp_path: Path) -> None:
    options = machine.filesystem_options(tmp_path)
    assert options.split(",")[0] in ("rw", "ro")
    if machine.filesystem_of(tmp_path).startswith("ext"):
        assert "journal" in options
    found = {"date": "d", "mode": "own", "machine": {"cpus": 1, "cpu": "c", "kernel": "k", "load_before": 0.0}, "versions": {},
             "media_options": {"ext4": options}}
    assert f"ext4: {options}" in report.source(Path("x.json"), found)


def test_latency_cells_rise_without_gaps() -> None:
    values = [_initiator.cell_us(cell) for cell in range(64 * 20)]
    assert values == sorted(set(values))
    assert all(later - earlier <= max(0.13, earlier / 60) for earlier, later in itertools.pairwise(values))


def test_percentiles_of_cells() -> None:
    cells = [0] * 200
    cells[10], cells[100] = 90, 10
    assert initiator.percentile(cells, 0.5) == _initiator.cell_us(10)
    assert initiator.percentile(cells, 0.99) == _initiator.cell_us(100)
    assert math.isnan(initiator.percentile([0] * 200, 0.5))


@pytest.mark.skipif(not shutil.which("tgtd"), reason="tgtd is not installed")
def test_tgtd_elsewhere_than_asked_is_refused(tmp_path: Path) -> None:
    target = Tgt("tgt", tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", target.port))
        taken.listen()
        with pytest.raises(TargetError):
            target.start()
    target.discard()


@pytest.mark.parametrize("top", [0.9, 7, 50, 143_000, 2.5e9])
def test_ticks_cover_the_values_with_few_round_numbers(top: float) -> None:
    ticks = svg.nice_ticks(top)
    assert ticks[0] == 0
    assert ticks[-1] >= top
    assert 3 <= len(ticks) <= 10


def test_a_chart_is_well_formed_and_shows_every_point() -> None:
    chart = svg.Chart("a < b", "x", "y", ["1", "2"], {"one": [1.0, None], "two": [3.0, math.nan]}).lines()
    root = ElementTree.fromstring(chart.render())
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 2


def test_the_stand_in_for_fio_refuses_what_it_cannot_do() -> None:
    assert clients.perf_iops("iops average 12345 (50 MB/s)\n") == 12345
    with pytest.raises(fio.FioError):
        clients.perf_iops("nothing\n")
    with pytest.raises(fio.FioError):
        clients.stand_in(fio.Job(target="iscsi://x", rw="randrw", block="4k", depth=1, size="1m"), 1.0)
    assert [clients.size_bytes(text) for text in ("512", "4k", "1m")] == [512, 4096, 1 << 20]


@pytest.mark.parametrize(("value", "wanted", "at_most", "said"), [
    (4.5, 4.5, False, "4.50"), (4.49, 4.5, False, "4.49 missed"), (5.0, 5.0, True, "5.00"), (5.01, 5.0, True, "5.01 missed"),
    (0.1, None, False, "0.10"), (math.nan, 1.0, False, "")])
def test_a_goal_that_is_missed_says_so(value: float, wanted: float | None, at_most: bool, said: str) -> None:
    assert goals.judge(value, wanted, at_most) == said


@pytest.mark.parametrize("pause_us", [0, 30])
@pytest.mark.parametrize("write", [False, True])
def test_the_bare_pair_answers_every_command_once(write: bool, pause_us: int) -> None:
    with ceiling.answering(write, pause_us) as (_, sock):
        assert [_bare.initiate(sock.fileno(), write=write, depth=32, seconds=60, most=n) for n in (1, 1000, 33)] == [1, 1000, 33]
        with pytest.raises(BlockingIOError):
            sock.recv(1)    # no byte more than answers


@pytest.mark.parametrize(("write", "command_bytes", "answer_bytes"), [(False, 48, 48 + 4096), (True, 48 + 4096, 48)])
def test_a_bare_command_is_a_header_and_a_write_brings_its_block(write: bool, command_bytes: int, answer_bytes: int) -> None:
    counted: list[int] = []

    def answer_in_pieces(sock: socket.socket) -> None:
        came = 0
        while came < 100 * command_bytes:
            before, came = came, came + len(sock.recv(10_000))
            sock.sendall(bytes((came // command_bytes - before // command_bytes) * answer_bytes))
        counted.append(came)

    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        answering = threading.Thread(target=answer_in_pieces, args=(far,))
        answering.start()
        assert _bare.initiate(near.fileno(), write=write, depth=7, seconds=60, most=100) == 100
        answering.join()
    assert counted == [100 * command_bytes]


def test_a_bare_initiator_says_that_the_other_side_is_gone() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.close()
    with near, pytest.raises(ConnectionError):
        _bare.initiate(near.fileno(), write=True, depth=1, seconds=60)


def test_many_sessions_are_held_against_one_of_the_same_depth_and_one_of_32() -> None:
    rows = [{"suite": "sessions", "target": "lunette", "case": f"{shape}, 0 % writes", "iops": iops} for shape, iops in (
        ("1 session, 1 LUN, qd1", 30.0), ("1 session, 1 LUN, qd32", 200.0), ("64 sessions, 256 LUNs, qd1", 90.0),
        ("64 sessions, 256 LUNs, qd8", 300.0))]
    assert list(goals.many(rows)) == [("64 sessions, 256 LUNs, qd1, 0 % writes", 3.0)]
    assert [share for _, share in goals.many(rows, "qd32")] == [0.45, 1.5]


class Stillborn(Target):
    """It dies of something that nobody foresaw, after its process has begun."""

    discarded = False

    def start(self) -> None:
        raise FileNotFoundError("no control socket")

    def add_lun(self, name: str, size_mib: int, fill: bool = True) -> str:
        raise NotImplementedError

    def version(self) -> str:
        raise NotImplementedError

    def discard(self) -> None:
        self.discarded = True


def test_a_target_that_does_not_start_is_ended_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = measure.Run(measure.QUICK, {"tmpfs": tmp_path}, {})
    dead = Stillborn("dead", tmp_path)
    monkeypatch.setattr(Lab, "make", lambda _: [dead])
    with Lab(run, "tmpfs") as lab:
        assert lab.targets == []
    assert dead.discarded
    assert len(run.notes) == 1
    assert "dead left out" in run.notes[0]


@pytest.mark.parametrize("rests", [True, False])
def test_a_target_that_rests_runs_only_while_it_is_measured(rests: bool) -> None:
    seen: list[str] = []

    def body() -> measure.Record:
        seen.append(procstat.state(target.pid))
        return {"ios": 1}

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as target:
        if rests:
            rest(target.pid)
        measure.once(target.pid, body)
        seen.append(procstat.state(target.pid))
        target.kill()
    assert [state == "T" for state in seen] == [False, rests]


def test_256_sessions_are_held_against_16_and_against_16_with_as_much_data() -> None:
    rows = [{"suite": "sessions", "target": "lunette", "case": f"{shape}, qd8, 0 % writes", "iops": iops} for shape, iops in (
        ("16 sessions, a LUN each", 100.0), ("16 sessions, 16 LUNs each", 80.0), ("256 sessions, a LUN each", 60.0))]
    assert dict(goals.spread_wide(rows)) == {"of 16 sessions, a LUN each, 0 % writes": 0.6,
                                             "of 16 sessions, 16 LUNs each, 0 % writes": 0.75}
    assert not list(goals.spread_wide(rows[:2]))


def test_lone_commands_are_held_against_the_quicker_peer() -> None:
    rows = [{"suite": "lone", "target": target, "case": "read-4k-qd1", "medium": "xfs", "iops": iops}
            for target, iops in (("lunette", 30.0), ("tgt", 20.0), ("spdk", 40.0))]
    assert list(goals.level(rows)) == [("read-4k-qd1 xfs", 0.75)]
    assert not list(goals.level(rows[:1]))


def test_reactors_gain_what_a_lock_leaves_them() -> None:
    assert contention.gain(2.0, 0.1, 1) == pytest.approx(1)
    gains = [contention.gain(2.0, 0.1, n) for n in (2, 4, 8, 16, 1000)]
    assert gains == sorted(gains)
    assert gains[0] == pytest.approx(2 / (1 + 0.05 * 0.05))        # the other one is there one time in twenty
    assert gains[-1] == pytest.approx(20)                          # the lock is never free
    with pytest.raises(ValueError, match="of 1 us a command 2 are to be locked"):
        contention.gain(1, 2, 4)
