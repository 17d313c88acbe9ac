"""One block device that two machines see: two boots, two host names (mount and UTS namespaces), two loop devices over a file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.pool.engine import EXIT_LOST
from tests.support.daemon import DaemonProcess
from tests.support.stamps import Lost, Session, stamped
from tests.support.waiting import PATIENCE_SECONDS

NAME = "iqn.2026-01.test:one"
AS_MACHINE = 'hostname "$0" && mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"'


class Machines:
    """Two machines that share one device; daemons on them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.first = DaemonProcess(directory, "--lease", "4", "--same-identity", size="64M")
        self._file = Path(self.first.pool)
        self._loops: list[str] = []
        self._made = [self.first]
        self.put(self.first, "one")

    def put(self, daemon: DaemonProcess, host: str) -> DaemonProcess:
        """A daemon is to run on a machine of that name, which has just booted, and has the device by a name of its own."""
        made = subprocess.run(["losetup", "-f", "--show", str(self._file)], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no loop device to be had: {made.stderr.strip()}")
        self._loops.append(made.stdout.strip())
        daemon.pool = self._loops[-1]
        boot = self._directory / f"boot-{len(self._loops)}"
        boot.write_text(f"{uuid.uuid4()}\n")
        daemon.prefix = ["unshare", "--mount", "--uts", "sh", "-c", AS_MACHINE, host, str(boot)]
        return daemon

    def another(self, host: str, *options: str) -> DaemonProcess:
        one = self.first.another(*options)
        self._made.append(one)
        return self.put(one, host)

    def close(self) -> None:
        for daemon in self._made:
            daemon.close()
        for each in self._loops:
            subprocess.run(["losetup", "-d", each], check=False)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    if os.geteuid() or any(shutil.which(each) is None for each in ("losetup", "unshare")):
        pytest.skip("making machines takes root, losetup and unshare")
    probe = subprocess.run(["unshare", "--mount", "--uts", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("no namespaces to be had")
    made = Machines(tmp_path)
    yield made
    made.close()


def why(daemon: DaemonProcess) -> str:
    """It does not start; what it says."""
    with pytest.raises(AssertionError, match="did not start"):
        daemon.start()
    daemon.process = None
    return daemon.log.read_text()


def test_who_lives_is_left_alone_and_who_is_silent_is_not_taken_for_dead(machines: Machines) -> None:
    first = machines.first.start()
    first.cli("create", "v", "--size", "8M")
    session = Session(first.portal, first.target, NAME)
    assert session.write(0, 0, stamped(1, 0, 8, 1), fua=True).status == 0     # the next machine sees what is on the medium only
    second = machines.another("two")
    assert "is in use: process" in why(second)
    insisting = machines.another("two", "--takeover")
    assert "is in use: process" in why(insisting)               # nothing is taken from who lives, whatever anybody says
    first.stop(signal.SIGKILL)
    assert "cannot be seen from here; --takeover if it is gone for certain" in why(second)
    insisting.start()
    assert Session(insisting.portal, insisting.target, NAME).read(0, 0, 8).data == stamped(1, 0, 8, 1)
    insisting.stop()
    again = second.start()                                      # it was given up
    again.stop()
    assert "clean" in again.check()


def test_a_machine_that_has_started_again_takes_its_own_pool(machines: Machines) -> None:
    first = machines.first.start()
    first.stop(signal.SIGKILL)
    machines.put(first, "one").start().stop()


def test_an_owner_that_was_stopped_says_and_writes_nothing_when_another_one_was_told_it_is_gone(machines: Machines) -> None:
    """The one who told was wrong: what is lost is the daemon that served."""
    first = machines.first.start()
    first.cli("create", "v", "--size", "8M")
    session = Session(first.portal, first.target, NAME)
    assert session.write(0, 0, stamped(1, 0, 8, 1)).status == 0
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    second = machines.another("two", "--takeover").start()
    other = Session(second.portal, second.target, NAME)
    assert other.write(0, 0, stamped(1, 0, 8, 2)).status == 0
    assert other.flush(0).status == 0
    first.process.send_signal(signal.SIGCONT)
    with pytest.raises(Lost):
        session.write(0, 0, stamped(1, 0, 8, 3))
    assert first.process.wait(PATIENCE_SECONDS) == EXIT_LOST
    assert other.read(0, 0, 8).data == stamped(1, 0, 8, 2)
    second.stop()
    assert "clean" in second.check()
