"""The kernel's initiator logs in: discovery, CHAP one way and both ways, what it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess, Refused
from tests.support.guest import HOSTS, Guest, GuestError
from tests.support.kernel_initiator import NAME, UNPINGED, Node
from tests.support.waiting import until

OURS, THEIRS = "twelve bytes and more", "another that the target has"


@pytest.fixture
def guarded(start: Start, tmp_path: Path) -> DaemonProcess:
    """A daemon with one host, the guest, and CHAP both ways."""
    daemon = start(open_access=False)
    for name, secret in (("in", OURS), ("out", THEIRS)):
        (tmp_path / name).write_text(secret)
    daemon.cli("create", "v", "--size", "64M")
    daemon.cli("create", "not-mapped", "--size", "64M")
    daemon.cli("host", "create", "h", NAME, "--secret-file", str(tmp_path / "in"), "--chap-name", "guest",
               "--mutual-name", "us", "--mutual-secret-file", str(tmp_path / "out"))
    daemon.cli("connect", "v", "--host", "h", "--lun", "3")
    return daemon


def test_chap_both_ways(guarded: DaemonProcess, guest: Guest) -> None:
    node = Node(guest, guarded)
    with pytest.raises(GuestError, match="authorization failure"):
        node.login()
    with pytest.raises(GuestError, match="authorization failure"):
        node.login(chap=("guest", OURS + "!"))
    with pytest.raises(GuestError, match="login failure"):
        node.login(chap=("guest", OURS), mutual=("us", THEIRS + "!"))
    until(lambda: guarded.cli("sessions").count(NAME) == 0)
    node.login(chap=("guest", OURS), mutual=("us", THEIRS))
    assert guest.run(f"sg_inq {node.disk(3)} | grep -c LUNETTE").strip() == "1"
    assert guest.run("ls -d /sys/block/sd*").count("sd") == 1


def test_discovery_finds_the_target_and_digests_hold(daemon: DaemonProcess, guest: Guest) -> None:
    daemon.cli("create", "v", "--size", "64M")
    assert daemon.target in guest.run(f"iscsiadm -m discovery -t st -p {HOSTS[0]}:{daemon.port}")
    guest.run("iscsiadm -m node -o delete")
    node = Node(guest, daemon)
    node.login({"node.conn[0].iscsi.HeaderDigest": "CRC32C", "node.conn[0].iscsi.DataDigest": "CRC32C"})
    disk = node.disk(0)
    guest.run(f"dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>&1 && dd if=/tmp/data of={disk} bs=1M oflag=direct 2>&1")
    guest.run(f"dd if={disk} bs=1M count=8 iflag=direct | cmp - /tmp/data")


def test_a_host_that_is_deleted_loses_its_session_and_comes_back_when_it_is_made_again(guarded: DaemonProcess, guest: Guest,
                                                                                    tmp_path: Path) -> None:
    node = Node(guest, guarded)
    chap = ("guest", OURS)
    node.login({"node.session.timeo.replacement_timeout": "2", **UNPINGED}, chap=chap)
    disk = node.disk(3)
    guest.run(f"dd if=/dev/urandom of=/tmp/data bs=1M count=1 2>&1 && dd if=/tmp/data of={disk} bs=1M oflag=direct 2>&1")
    with pytest.raises(Refused, match="logged in"):
        guarded.cli("host", "delete", "h")
    guest.run(f"dd if={disk} of=/dev/null bs=4k count=1 iflag=direct 2>&1")
    guarded.cli("host", "delete", "h", "--force")
    assert NAME not in guarded.cli("sessions")
    with pytest.raises(GuestError, match="status 1"):
        guest.run(f"dd if={disk} of=/dev/null bs=4k count=1 iflag=direct 2>&1")
    assert NAME not in guarded.cli("sessions")
    node.logout()
    with pytest.raises(GuestError, match="authorization failure"):
        node.login(chap=chap)
    guarded.cli("host", "create", "h", NAME, "--secret-file", str(tmp_path / "in"), "--chap-name", "guest")
    guarded.cli("connect", "v", "--host", "h", "--lun", "3")
    node.login(chap=chap)
    guest.run(f"dd if={node.disk(3)} bs=1M count=1 iflag=direct | cmp - /tmp/data")
