"""Who may serve a pool, on real files and loop devices: other names of one medium, kills, stops, copies (docs/ownership.md)."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import layout, ownership
from core.device import FileDevice
from core.medium import FileMedium, opener
from core.ownership import LostError, Record, State, acquire, run
from core.pool.engine import EXIT_LOST
from target.errors import LunetteError
from target.iscsi.pdu import NopOut, ScsiCommand, ScsiResponse
from target.volumes.clock import ClockWatch
from target.volumes.gateway import check_pool, create_pool, open_pool
from target.volumes.owner import OwnedDevice, open_owned
from tests.support.daemon import DaemonProcess, Refused, free_port
from tests.support.session import Connection, read10
from tests.support.waiting import PATIENCE_SECONDS, until

MIB = 1 << 20
AT = layout.OWNER_BLOCK * layout.BLOCK_BYTES
Loop = Callable[[Path], Path]
LATER = (1.0, 8.0)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Make loop devices over files; they go with the test."""
    made: list[str] = []

    def attach(path: Path, *options: str) -> Path:
        if os.geteuid() or shutil.which("losetup") is None:
            pytest.skip("making loop devices takes root and losetup")
        result = subprocess.run(["losetup", "-f", "--show", *options, str(path)], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"no loop device to be had: {result.stderr.strip()}")
        made.append(result.stdout.strip())
        return Path(made[-1])

    yield attach
    for each in made:
        subprocess.run(["losetup", "-d", each], check=False)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "t.pool"
    create_pool(path, name="t", size_bytes=64 * MIB)
    return path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    one = DaemonProcess(tmp_path, "--lease", "4", size="128M")
    yield one
    one.close()


def another(daemon: DaemonProcess, pool: Path, *options: str) -> DaemonProcess:
    """A second daemon, on what may be the same pool."""
    one = copy.copy(daemon)
    one.pool, one.process, one.options = pool, None, [*daemon.options, *options]
    one.api = Path(tempfile.mkdtemp(prefix="lnt")) / "api.sock"
    one.port = free_port()
    one.portal = f"127.0.0.1:{one.port}"
    one.listen = (one.portal,)
    one.log = daemon.log.with_name(f"{one.port}.log")
    return one


def refused(daemon: DaemonProcess) -> str:
    """It does not start; what it says."""
    result = subprocess.run([sys.executable, "-m", "target", "serve", str(daemon.pool), "--api", str(daemon.api), "--listen",
                             daemon.portal, *daemon.options], capture_output=True, text=True, timeout=60, check=False)
    daemon.api.parent.rmdir()
    assert result.returncode == 1, result
    return result.stderr


def silent(daemon: DaemonProcess) -> bool:
    """It answers nothing, and says so or not."""
    try:
        daemon.cli("ls")
    except Refused:
        return True
    return False


def record(path: Path) -> Record | None:
    return Record.unpack(path.read_bytes()[AT:AT + layout.BLOCK_BYTES])


# -- one process -----------------------------------------------------------------------------------------------------------
def test_the_record_is_there_while_a_pool_is_open_and_given_up_after(pool: Path) -> None:
    native, device = open_pool(pool, cache_bytes=MIB)
    mine = record(pool)
    assert mine is not None
    assert (mine.state, mine.pid, mine.lease_ms) == (State.OWNED, os.getpid(), 0)
    native.close()
    device.close()
    after = record(pool)
    assert after is not None
    assert (after.state, after.owner) == (State.GIVEN_UP, mine.owner)
    assert check_pool(pool)[0]


def test_a_pool_from_before_holds_anything_in_that_block(pool: Path) -> None:
    with pool.open("r+b") as file:
        file.seek(AT)
        file.write(os.urandom(4096))
    native, device = open_pool(pool, cache_bytes=MIB)
    native.close()
    device.close()
    assert check_pool(pool)[0]


def test_what_is_owned_through_another_name_is_refused_both_ways(pool: Path, loop: Loop) -> None:
    """Once past the other's page cache, whichever of the two is buffered."""
    for options in ((), ("--direct-io=on",)):
        device = loop(pool, *options)  # type: ignore[call-arg]
        for first, second in ((pool, device), (device, pool)):
            second.open("rb").read(64 << 10)        # its page cache has the block as it was
            one = open_owned(first, lease_s=2)
            with pytest.raises(LunetteError, match=f"in use: process {os.getpid()} on "):
                open_owned(second, lease_s=2)
            with pytest.raises(LunetteError, match="in use"):
                check_pool(second)
            one.close()
            other = open_owned(second, lease_s=2)
            other.close()
            assert check_pool(first)[0]


def test_a_copy_of_a_pool_in_use_is_another_pool(pool: Path, tmp_path: Path, loop: Loop) -> None:
    one = open_owned(pool)
    shutil.copyfile(pool, tmp_path / "copy")
    open_owned(tmp_path / "copy").close()
    shutil.copyfile(pool, tmp_path / "copy")
    open_owned(loop(tmp_path / "copy"), lease_s=2).close()
    one.close()


def test_an_owner_that_was_overwritten_writes_nothing_more(pool: Path) -> None:
    lost: list[str] = []
    device = OwnedDevice(pool, lost=lost.append)
    device.own()
    other = FileDevice(pool, lock=False)
    medium = FileMedium(other)
    elsewhere = acquire(opener(other, 0.0), takeover=True)
    mine = device.owner
    assert mine is not None
    medium.write_record(bytes(4096))
    theirs = run(elsewhere, medium).record
    device._ownership.record = mine  # type: ignore[union-attr]
    with pytest.raises(LostError, match="another owner"):
        run(device._ownership.renew(), device._medium)  # type: ignore[union-attr]
    device._lose("lost")
    for write in (lambda: device.write(0, bytes(4096)), lambda: device.discard(0, 4096), lambda: device.enlarge(1 << 30)):
        with pytest.raises(OSError, match="lost"):
            write()
    assert lost == ["lost"]
    device.close()
    found = record(pool)
    assert found is not None
    assert found.owner == theirs.owner
    medium.close()
    other.close()


def test_a_block_device_on_which_making_a_pool_failed_is_still_blank(tmp_path: Path, loop: Loop) -> None:
    (tmp_path / "small").write_bytes(bytes(4 * MIB))
    device = loop(tmp_path / "small")
    for _ in range(2):
        with pytest.raises(LunetteError, match="at least"):
            create_pool(device, name="t", size_bytes=None)


@pytest.mark.parametrize("open_again", [lambda pool: open_owned(pool).close(), check_pool])
def test_the_lock_of_a_process_that_is_gone_is_waited_for(pool: Path, monkeypatch: pytest.MonkeyPatch,
                                                          open_again: Callable[[Path], object]) -> None:
    """As the kernel keeps it while it finishes what a killed daemon had in flight; that of one that lives is refused."""
    monkeypatch.setattr("core.device.LOCK_WAIT_SECONDS", 0.01)
    subprocess.run([sys.executable, "-c", "import os, sys; from target.volumes.owner import open_owned; open_owned(sys.argv[1]); "
                    "os._exit(0)", str(pool)], check=True)
    lingering = FileDevice(pool)
    over: list[object] = []
    waiting = threading.Thread(target=lambda: over.append(open_again(pool)))
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    lingering.close()
    waiting.join(PATIENCE_SECONDS)
    assert len(over) == 1
    one = open_owned(pool)
    with pytest.raises(LunetteError, match=f"is open in another process: process {os.getpid()} on "):
        open_again(pool)
    one.close()


# -- daemons -----------------------------------------------------------------------------------------------------------------
def test_the_owner_is_named_and_killed_it_is_succeeded(daemon: DaemonProcess, loop: Loop) -> None:
    device = loop(daemon.pool)
    by_path, by_loop = another(daemon, daemon.pool), another(daemon, device)
    for first, second in ((by_path, by_loop), (by_loop, by_path)):
        first.start()
        assert first.process is not None
        pid = first.process.pid
        assert f"in use: process {pid} on " in refused(another(second, second.pool))
        with pytest.raises(Refused, match=f"process {pid} on "):
            second.cli("pool", "check", str(second.pool))
        first.stop(signal.SIGKILL)
        second.start()
        second.stop()
        first.start()
        first.stop()
    for each in (by_path, by_loop):
        each.api.parent.rmdir()
    assert "clean" in daemon.check()


def test_a_copy_is_not_served_beside_its_original_before_it_has_an_identity_of_its_own(daemon: DaemonProcess) -> None:
    first, second = another(daemon, daemon.pool), another(daemon, daemon.pool.with_name("copy.pool"))
    try:
        first.start()
        first.cli("create", "v", "--size", "1M")
        first.stop()
        shutil.copyfile(daemon.pool, second.pool)
        first.start()
        assert first.process is not None
        assert f"process {first.process.pid}" in first.cli("pool", "info")
        assert f"process {first.process.pid}" in first.cli("pool", "info", str(first.pool))
        with pytest.raises(Refused, match=f"open in another process: process {first.process.pid} on "):
            first.cli("pool", "new-identity", str(first.pool))
        said = refused(another(second, second.pool))
        assert f"process {first.process.pid} serves" in said
        assert f"pool new-identity {second.pool}" in said
        second.cli("pool", "new-identity", str(second.pool))
        second.start()
        assert second.ls()["v"]["serial"] != first.ls()["v"]["serial"]
        assert second.url("v").split("/")[3].startswith(f"{first.target}-")
    finally:
        first.close()
        second.close()


def test_a_stopped_owner_is_taken_over_and_says_nothing_more(daemon: DaemonProcess, loop: Loop) -> None:
    """What it is asked meanwhile it could answer from memory: a hole, a page it has, TEST UNIT READY."""
    first, second = another(daemon, loop(daemon.pool)), another(daemon, daemon.pool)
    try:
        first.start()
        first.cli("create", "v", "--size", "16M")
        connection = Connection(first.port, first.target)
        other = Connection(first.port, first.target, isid=b"\x80MCS\0\2")
        for tag in (1, 2):                      # the first answer is a unit attention
            connection.send(read10(64, 8, tag, tag))
            connection.reader.feed(connection.sock.recv(65536))
            assert connection.reader.next_pdu() is not None
            while connection.reader.next_pdu() is not None:
                pass
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)
        second.start()
        connection.send(read10(64, 8, 3, 3))
        connection.send(ScsiCommand(initiator_task_tag=4, cmd_sn=4, cdb=bytes(16)))
        other.send(NopOut(initiator_task_tag=5, immediate=True, cmd_sn=1))
        first.process.send_signal(signal.SIGCONT)
        assert first.process.wait(PATIENCE_SECONDS) == EXIT_LOST
        for each in (connection, other):
            with pytest.raises((EOFError, ConnectionError)):
                each.receive(ScsiResponse)
        assert "without another answer" in first.log.read_text()
        assert second.ls()["v"]["size_bytes"] == 16 * MIB
        second.stop()
    finally:
        first.close()
        second.close()
    assert "clean" in daemon.check()


def test_a_stop_does_not_wait_for_the_last_owner_to_be_silent(daemon: DaemonProcess, loop: Loop) -> None:
    first, second = another(daemon, loop(daemon.pool), "--lease", "120"), another(daemon, daemon.pool)
    try:
        first.start()
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)
        waiting = subprocess.Popen([sys.executable, "-m", "target", "serve", str(second.pool), "--api", str(second.api),
                                    "--listen", second.portal, *second.options], stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        while "taking over if it gives no sign for 144.5 s" not in said:
            assert said
            said = waiting.stderr.readline()
        time.sleep(0.5)                     # for the loop to take the signal over from the interpreter
        waiting.terminate()
        assert waiting.wait(PATIENCE_SECONDS) in (0, -signal.SIGTERM)
        waiting.stderr.close()
    finally:
        first.close()
        second.close()


def test_of_two_daemons_that_start_at_once_one_serves(daemon: DaemonProcess, loop: Loop) -> None:
    device = loop(daemon.pool)
    for _ in range(3):
        pair = [another(daemon, daemon.pool), another(daemon, device)]
        processes = [subprocess.Popen([sys.executable, "-m", "target", "serve", str(each.pool), "--api", str(each.api),
                                       "--listen", each.portal, *each.options],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in pair]
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
        try:
            assert sorted(bool(line) for line in lines) == [False, True]
            loser = processes[lines.index("")]
            assert loser.wait(PATIENCE_SECONDS) == 1
            assert loser.stderr is not None
            assert "in use" in loser.stderr.read()
        finally:
            for process, each in zip(processes, pair, strict=True):
                process.terminate()
                process.communicate()
                shutil.rmtree(each.api.parent)
    assert "clean" in daemon.check()


def test_an_owner_whose_medium_hangs_ends_by_itself(daemon: DaemonProcess, loop: Loop, tmp_path: Path) -> None:
    """A loop device whose file lies on a frozen file system takes no write."""
    image = tmp_path / "fs"
    with image.open("wb") as file:
        file.truncate(300 * MIB)
    inner, mounted = loop(image), tmp_path / "mnt"
    mounted.mkdir()
    if shutil.which("mkfs.ext4") is None or subprocess.run(["mkfs.ext4", "-q", str(inner)], check=False).returncode:
        pytest.skip("no mkfs.ext4")
    if subprocess.run(["mount", str(inner), str(mounted)], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    frozen = False
    one: DaemonProcess | None = None
    device: Path | None = None
    try:
        create_pool(mounted / "t.pool", name="t", size_bytes=64 * MIB)
        device = Path(subprocess.run(["losetup", "-f", "--show", str(mounted / "t.pool")], capture_output=True, text=True,
                                     check=True).stdout.strip())
        one = another(daemon, device)
        one.start()
        assert one.process is not None
        subprocess.run(["fsfreeze", "-f", str(mounted)], check=True)
        frozen = True
        until(lambda: silent(one))
        subprocess.run(["fsfreeze", "-u", str(mounted)], check=True)
        frozen = False
        assert one.process.wait(PATIENCE_SECONDS) == EXIT_LOST
    finally:
        if frozen:
            subprocess.run(["fsfreeze", "-u", str(mounted)], check=False)
        if one is not None:
            one.close()
        if device is not None:
            subprocess.run(["losetup", "-d", str(device)], check=False)
        until(lambda: subprocess.run(["umount", str(mounted)], capture_output=True, check=False).returncode == 0)


def test_a_device_that_was_cut_is_noticed_and_its_node_is_not_its_name(pool: Path, loop: Loop) -> None:
    node = loop(pool)
    device = FileDevice(node)
    try:
        assert (device.missing_bytes(), device.lost_name()) == (0, "")
        os.truncate(pool, 48 * MIB)
        subprocess.run(["losetup", "-c", str(node)], check=True)
        assert (device.missing_bytes(), device.lost_name()) == (16 * MIB, "")
    finally:
        device.close()


# -- clocks ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("looped", [False, True], ids=["file", "loop"])
def test_a_clock_that_is_set_is_told_once_and_costs_nothing(pool: Path, loop: Loop, looped: bool, monkeypatch: pytest.MonkeyPatch,
                                                            caplog: pytest.LogCaptureFixture) -> None:
    """By the thread that renews the record, so wherever the pool lies; each time that it is set, once."""
    monkeypatch.setattr(ownership, "RENEW_MAX_S", 0.02)
    set_by_s = 0.0
    device = OwnedDevice(loop(pool) if looped else pool, lease_s=4.0)
    device._clock = ClockWatch(lambda: time.time() + set_by_s)
    device.own()
    try:
        for step_s, said in ((86400.0 * 40, "set forward by 40 days, 0:00:00"), (-3600.0, "set back by 1:00:00"), (3.0, "")):
            caplog.clear()
            set_by_s += step_s
            if said:
                until(lambda said=said: said in caplog.text)        # type: ignore[misc]
            assert device.owner is not None
            counter = device.owner.counter
            if looped:
                until(lambda counter=counter: device.owner.counter > counter + 2)      # type: ignore[misc]
            assert caplog.text.count("the machine's clock was set") == bool(said)
            device.prove()
    finally:
        device.close()


def test_a_process_that_was_stopped_between_two_looks_at_clocks_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    machine, wall = iter([0.0, 0.1, 0.2, 60.0, 60.1, 60.2]), iter([1000.0, 1000.2, 1060.1])
    ClockWatch(lambda: next(wall), lambda: next(machine)).look()
    assert not caplog.text
    assert next(wall, None) is None
