"""LUN numbers as unmodified initiators meet them: above 255, after hundreds of rounds, under a session that stays."""

from __future__ import annotations

import subprocess

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess, Refused
from tests.support.libiscsi import GOOD, POWER_ON, Initiator, InitiatorError

LUNS_CHANGED, INQUIRY_CHANGED = 0x3F0E, 0x3F03
NAME = "iqn.2026-01.test:initiator"


def rounds(daemon: DaemonProcess, count: int, start: int = 0) -> None:
    daemon.cli("batch", stdin="".join(f"create x{i} --size 4M\ndelete x{i} --force\n" for i in range(start, start + count)))


@pytest.mark.needs("qemu-io")
def test_the_url_that_ls_prints_works_whatever_the_number(daemon: DaemonProcess) -> None:
    rounds(daemon, 300)
    daemon.cli("create", "v", "--size", "8M")
    daemon.cli("disconnect", "v")
    for pattern, lun in enumerate((None, 255, 256, 300, 8191, 16383), 1):
        daemon.cli("connect", "v", *(() if lun is None else ("--lun", str(lun))))
        shown = daemon.ls()["v"]["lun"]
        assert shown < 256 if lun is None else shown == lun
        commands = ("-c", f"write -P {pattern} 1M 64k", "-c", f"read -P {pattern} 1M 64k")
        done = subprocess.run(["qemu-io", "-f", "raw", *commands, daemon.url("v")], capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "failed" not in done.stdout
        daemon.cli("disconnect", "v")


@pytest.mark.needs("libiscsi")
def test_a_session_that_stays_is_told_when_a_number_means_something_else(daemon: DaemonProcess) -> None:
    daemon.cli("create", "keep", "--size", "8M")
    with Initiator(daemon.portal, daemon.target) as initiator:
        initiator.settle()
        for number in range(3):
            daemon.cli("create", f"v{number}", "--size", "4M")
        assert initiator.luns() == [0, 1, 2, 3]
        for lun in (1, 2, 3):
            assert initiator.settle(lun)[:1] == [POWER_ON]
        for number in range(3):
            daemon.cli("delete", f"v{number}", "--force")
        rounds(daemon, 300)                 # 4 to 255, which it has not seen, and some again
        daemon.cli("batch", stdin="".join(f"create y{i} --size 4M\n" for i in range(252)))
        assert {row["lun"] for row in daemon.ls().values()} == {0, *range(4, 256)}
        daemon.cli("create", "other", "--size", "4M")
        assert daemon.ls()["other"]["lun"] == 1     # the session still takes it for v0
        assert initiator.test_unit_ready(1).asc == LUNS_CHANGED
        assert initiator.read(1, 0, 1).asc == INQUIRY_CHANGED
        assert initiator.read(1, 0, 1).status == GOOD
        assert LUNS_CHANGED in initiator.settle(0)


@pytest.mark.needs("libiscsi")
@pytest.mark.parametrize("open_access", [False, True])
def test_a_host_is_not_deleted_under_its_sessions_unasked(start: Start, open_access: bool) -> None:
    daemon = start(open_access=open_access)
    daemon.cli("create", "v", "--size", "64M")
    daemon.cli("host", "create", "web", NAME)
    daemon.cli("connect", "v", "--host", "web", "--lun", "7")
    initiator = Initiator(daemon.portal, daemon.target, NAME)
    initiator.settle(7)
    assert initiator.write(7, 0, b"a" * 512).status == GOOD
    for command in (("delete", "web"), ("change", "web", "--remove", NAME)):
        with pytest.raises(Refused, match=f"host web is logged in: {NAME} from 127.0.0.1; --force ends these sessions"):
            daemon.cli("host", *command)
    with pytest.raises(Refused, match=f"v is in use by {NAME} from 127.0.0.1; --force takes it"):
        daemon.cli("disconnect", "v", "--host", "web")
    assert initiator.write(7, 0, b"b" * 512).status == GOOD
    daemon.cli("host", "delete", "web", "--force")
    assert "[]" in daemon.cli("sessions", "--json")
    initiator.drop()
    if open_access:
        with Initiator(daemon.portal, daemon.target, NAME) as initiator:
            initiator.settle()
            assert (initiator.luns(), initiator.read(0, 0, 1).data) == ([0], b"b" * 512)
    else:
        with pytest.raises(InitiatorError):
            Initiator(daemon.portal, daemon.target, NAME)
