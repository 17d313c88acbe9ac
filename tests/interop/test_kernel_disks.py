"""The kernel's initiator and disks that change under it: size, space, snapshots, clones, LUNs that come and go."""

from __future__ import annotations

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.guest import Guest, GuestError
from tests.support.kernel_initiator import Node

MIB = 1 << 20


@pytest.fixture
def node(daemon: DaemonProcess, guest: Guest) -> Node:
    """Logged in, with one volume `v` as LUN 0."""
    daemon.cli("create", "v", "--size", "128M")
    node = Node(guest, daemon)
    node.login()
    return node


@pytest.fixture
def mounted(node: Node, guest: Guest) -> str:
    """The mount point of a new ext4 on `v`."""
    guest.run(f"mkfs.ext4 -q -E nodiscard {node.disk(0)} && mkdir /mnt/v && mount {node.disk(0)} /mnt/v")
    return "/mnt/v"


def test_a_file_system_grows_with_its_volume(node: Node, mounted: str, daemon: DaemonProcess, guest: Guest) -> None:
    disk = node.disk(0)
    daemon.cli("resize", "v", "256M")
    node.rescan()
    assert int(guest.wait_for(f"blockdev --getsize64 {disk} | grep {256 * MIB}")) == 256 * MIB
    guest.run(f"resize2fs {disk} 2>&1")
    assert int(guest.run(f"df -m {mounted} | tail -1").split()[1]) > 200


def test_trimmed_space_comes_back(node: Node, mounted: str, daemon: DaemonProcess, guest: Guest) -> None:
    guest.run(f"dd if=/dev/urandom of={mounted}/file bs=1M count=48 2>&1 && sync")
    full = daemon.ls()["v"]["mapped_bytes"]
    assert full > 48 * MIB
    guest.run(f"rm {mounted}/file && sync && fstrim {mounted}")
    assert daemon.ls()["v"]["mapped_bytes"] < full - 46 * MIB


def test_a_snapshot_and_its_clone_hold_their_instant(node: Node, mounted: str, daemon: DaemonProcess, guest: Guest) -> None:
    guest.run(f"dd if=/dev/urandom of={mounted}/kept bs=1M count=8 2>&1; sync")
    before = guest.run(f"md5sum < {mounted}/kept")
    daemon.cli("snapshot", "v@s")
    guest.run(f"dd if=/dev/urandom of={mounted}/kept bs=1M count=8 conv=notrunc 2>&1; echo later > {mounted}/later; sync")
    daemon.cli("clone", "v@s", "c")
    daemon.cli("connect", "v@s", "--lun", "7")
    clone_lun = daemon.ls()["c"]["lun"]
    node.rescan()
    snapshot, clone = node.disk(7), node.disk(clone_lun)
    assert guest.run(f"blockdev --getro {snapshot}; blockdev --getro {clone}").split() == ["1", "0"]
    guest.run("mkdir /mnt/s /mnt/c")
    guest.run(f"mount -o ro,noload {snapshot} /mnt/s && mount {clone} /mnt/c")
    assert guest.run("md5sum < /mnt/s/kept") == guest.run("md5sum < /mnt/c/kept") == before
    assert guest.run(f"ls /mnt/s /mnt/c | grep -c later; ls {mounted} | grep -c later; true").split() == ["0", "1"]
    guest.run("echo mine > /mnt/c/mine; umount /mnt/c /mnt/s")
    guest.run(f"e2fsck -fn {clone} 2>&1")
    assert guest.run(f"ls {mounted} | grep -c mine; true").strip() == "0"


def test_luns_come_and_go_in_a_session(node: Node, daemon: DaemonProcess, guest: Guest) -> None:
    for name, lun in (("a", 1), ("b", 2)):
        daemon.cli("create", name, "--size", "64M")
        assert daemon.ls()[name]["lun"] == lun
    node.rescan()
    first, second = node.disk(1), node.disk(2)
    identity = guest.run(f"sg_vpd -p di {first}")
    guest.run(f"dd if=/dev/urandom of={first} bs=1M count=1 oflag=direct 2>&1")
    daemon.cli("delete", "a", "--force")
    with pytest.raises(GuestError):
        guest.run(f"dd if={first} of=/dev/null bs=4k count=1 iflag=direct 2>&1")
    guest.run(f"dd if={second} of=/dev/null bs=4k count=1 iflag=direct 2>&1")
    guest.run(f"echo 1 > /sys/block/$(basename {first})/device/delete")
    daemon.cli("create", "another", "--size", "32M")
    daemon.cli("disconnect", "another")
    daemon.cli("connect", "another", "--lun", "1")
    node.rescan()
    again = node.disk(1)
    assert guest.run(f"blockdev --getsize64 {again}").strip() == str(32 * MIB)
    assert guest.run(f"sg_vpd -p di {again}") != identity
    assert guest.run(f"dd if={again} bs=1M count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c").strip() == "0"


def test_a_number_above_255_is_a_disk_like_any(node: Node, daemon: DaemonProcess, guest: Guest) -> None:
    daemon.cli("create", "far", "--size", "32M")
    daemon.cli("disconnect", "far")
    daemon.cli("connect", "far", "--lun", "300")
    node.rescan()
    guest.run(f"dd if=/dev/urandom of={node.disk(300)} bs=4k count=1 oflag=direct 2>&1")
